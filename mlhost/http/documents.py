"""The documents of the API itself, for generators and testers: open to anyone, since they tell nothing but the API."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property

from aiohttp import web

from mlhost.http.errors import Error
from mlhost.http.exchange import json_bytes
from mlhost.http.routes import Routes
from mlhost.openapi.core import openapi_document, swagger_document
from mlhost.openapi.operations import About, Route

routes = Routes("Documents")

ABOUT = About(
    title="MRSServer",  # what generators name the client after, so the original's
    version="9.3.0",  # of the API, which is what clients ask for
    description=(
        "The operationalization API of Microsoft Machine Learning Server 9.x as mlhost offers it: sessions, snapshots"
        " and services. A published service is consumed at `/api/{name}/{version}` and describes itself at"
        " `/api/{name}/{version}/swagger.json`. All but the authentication APIs, `/livez` and `/readyz` ask for the"
        " header `Authorization: Bearer <access_token>`."
    ),
    tags={
        "Authentication APIs": "Get, renew and revoke a pair of tokens; personal ones; users.",
        "Services Management APIs": "Publish, list, change and withdraw services, and keep workers ready for them.",
        "Service Consumption APIs": "How a published service is called.",
        "Session APIs": "Run code in an interpreter of one's own; its objects and files.",
        "Snapshot APIs": "Freeze a session's workspace, keep it, load it.",
        "Status APIs": "How the server is.",
        "Centralized Configuration APIs": "The compute nodes, of which there is one: the server itself.",
    },
)


class Documents:
    """Both documents as text, made when first asked for."""

    def __init__(self, told: Iterable[Route]) -> None:
        self._told = list(told)

    @cached_property
    def swagger(self) -> bytes:
        """Swagger 2.0, for generators made for the original's."""
        return _text(swagger_document(ABOUT, self._told, Error))

    @cached_property
    def openapi(self) -> bytes:
        """OpenAPI 3.1."""
        return _text(openapi_document(ABOUT, self._told, Error))


DOCUMENTS: web.AppKey[Documents] = web.AppKey("documents", Documents)


@routes.get("/swagger.json")
async def swagger(request: web.Request) -> web.Response:
    """The API as Swagger 2.0."""
    return json_bytes(request.app[DOCUMENTS].swagger)


@routes.get("/openapi.json")
async def openapi(request: web.Request) -> web.Response:
    """The API as OpenAPI 3.1."""
    return json_bytes(request.app[DOCUMENTS].openapi)


def _text(document: object) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode()
