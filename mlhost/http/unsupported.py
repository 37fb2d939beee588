"""Routes of the contract that this server knows and does not serve: 501 with words instead of a bare 404."""

from __future__ import annotations

from aiohttp import web

from mlhost.errors import Conflict, NotFound
from mlhost.http.errors import answer
from mlhost.http.routes import Routes
from mlhost.openapi.operations import Field, Form, Operation

routes = Routes("Services Management APIs")

WORDS = (
    Field("description", "A sentence about the service."),
    Field("operationId", "Name of the method that the service's consumers call."),
)
NEW_MODEL = Form((*WORDS, Field("model", "The serialized model.", required=True, is_file=True)))
CHANGES = Form((*WORDS, Field("model", "The serialized model.", is_file=True)))


@routes.post(
    "/realtime-services/{name}",
    tells=Operation(
        "publishRealtimeWebServiceByName",
        takes=NEW_MODEL,
        gives={201: str},
        refuses=(Conflict,),
        is_offered=False,
    ),
)
@routes.post(
    "/realtime-services/{name}/{version}",
    tells=Operation(
        "publishRealtimeWebServiceByNameVersion",
        takes=NEW_MODEL,
        gives={201: str},
        refuses=(Conflict,),
        is_offered=False,
    ),
)
@routes.patch(
    "/realtime-services/{name}/{version}",
    tells=Operation(
        "patchRealtimeWebServiceByNameVersion",
        takes=CHANGES,
        gives={200: str},
        refuses=(NotFound,),
        is_offered=False,
    ),
)
async def realtime(request: web.Request) -> web.Response:
    """Publish a model as a realtime service, or change it."""
    del request
    return _not_offered("Realtime services")


def _not_offered(feature: str) -> web.Response:
    return answer(501, f"{feature} are not offered by this version of mlhost.", "NotImplemented")
