"""Realtime services: publish and change a model (contract sections 1.2 and 5). The rest is as for all services."""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web

from mlhost.http.exchange import Form, record
from mlhost.http.keys import HOST, WHO
from mlhost.http.services import address
from mlhost.services import Draft
from mlhost.store.blobs import SealedBlob

routes = web.RouteTableDef()

FILE, DESCRIPTION, OPERATION_ID = "model", "description", "operationId"  # the parts of the form


@routes.post("/realtime-services/{name}")
@routes.post("/realtime-services/{name}/{version}")
async def publish(request: web.Request) -> web.Response:
    """Publish a model; without a version in the path the server makes it."""
    host, who, form = request.app[HOST], request[WHO], _form(request)
    name, version = request.match_info["name"], request.match_info.get("version")
    async with host.services.receive(form) as model:
        service = await host.services.publish(who, name, version, _draft(form, model))
    path = address(service)
    return record(path, status=201, location=quote(path))


@routes.patch("/realtime-services/{name}/{version}")
async def patch(request: web.Request) -> web.Response:
    """Change what the form gives, keep the rest."""
    host, who, form = request.app[HOST], request[WHO], _form(request)
    async with host.services.receive(form) as model:
        service = await host.services.patch(who, **request.match_info, draft=_draft(form, model))
    return record(address(service))


def _form(request: web.Request) -> Form:
    return Form(request, FILE, (DESCRIPTION, OPERATION_ID))


def _draft(form: Form, model: SealedBlob | None) -> Draft:
    description, operation_id = form.texts.get(DESCRIPTION), form.texts.get(OPERATION_ID)
    return Draft(is_realtime=True, model=model, description=description, operation_id=operation_id)
