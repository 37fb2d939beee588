"""Realtime services: publish and change a model (contract sections 1.2 and 5). The rest is as for all services."""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web

from mlhost.errors import Conflict, Invalid, NotFound
from mlhost.http.exchange import Form, record
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes
from mlhost.http.services import address
from mlhost.openapi.operations import Field, Operation
from mlhost.openapi.operations import Form as Multipart
from mlhost.services import Draft
from mlhost.store.blobs import SealedBlob

routes = Routes("Services Management APIs")

FILE, DESCRIPTION, OPERATION_ID = "model", "description", "operationId"  # the parts of the form
WORDS = (
    Field(DESCRIPTION, "A sentence about the service."),
    Field(OPERATION_ID, "Name of the method that the service's consumers call."),
)
NEW_MODEL = Multipart((*WORDS, Field(FILE, "The serialized model.", required=True, is_file=True)))
CHANGES = Multipart((*WORDS, Field(FILE, "The serialized model.", is_file=True)))


@routes.post(
    "/realtime-services/{name}",
    tells=Operation(
        "publishRealtimeWebServiceByName",
        takes=NEW_MODEL,
        gives={201: str},
        refuses=(Conflict,),
        summary="Publish a model as a version that the server names; the answer is its address.",
    ),
)
@routes.post(
    "/realtime-services/{name}/{version}",
    tells=Operation(
        "publishRealtimeWebServiceByNameVersion",
        takes=NEW_MODEL,
        gives={201: str},
        refuses=(Conflict,),
        summary="Publish a model; the answer is its address.",
    ),
)
async def publish(request: web.Request) -> web.Response:
    """Publish a model; without a version in the path the server makes it."""
    host, who, form = request.app[HOST], request[WHO], _form(request)
    name, version = request.match_info["name"], request.match_info.get("version")
    async with host.services.receive(form) as model:
        service = await host.services.publish(who, name, version, _draft(form, model))
    path = address(service)
    return record(path, status=201, location=quote(path))


@routes.patch(
    "/realtime-services/{name}/{version}",
    tells=Operation("patchRealtimeWebServiceByNameVersion", takes=CHANGES, gives={200: str}, refuses=(NotFound,)),
)
async def patch(request: web.Request) -> web.Response:
    """Change what the form gives, keep the rest."""
    host, who, form = request.app[HOST], request[WHO], _form(request)
    async with host.services.receive(form) as model:
        service = await host.services.patch(who, **request.match_info, draft=_draft(form, model))
    return record(address(service))


def _form(request: web.Request) -> Form:
    return Form(request, FILE, (DESCRIPTION, OPERATION_ID))


def _draft(form: Form, model: SealedBlob | None) -> Draft:
    if form.file_name and model is None:  # a patch would keep the old one, and its sender not notice
        raise Invalid(
            f"{FILE}: the file is empty; it is to be the bytes by mlhost.realtime.serialize(model)", field=FILE
        )
    description, operation_id = form.texts.get(DESCRIPTION), form.texts.get(OPERATION_ID)
    return Draft(is_realtime=True, model=model, description=description, operation_id=operation_id)
