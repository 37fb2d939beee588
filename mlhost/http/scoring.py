"""Consuming a service: the HTTP side of the hot path (contract section 1.3)."""

from __future__ import annotations

from aiohttp import web

from mlhost.http.exchange import body, json_bytes
from mlhost.http.keys import HOST
from mlhost.http.routes import Routes
from mlhost.scoring import score

routes = Routes()


@routes.post("/api/{name}/{version}")
async def consume(request: web.Request) -> web.Response:
    """One call of a published version."""
    match, services = request.match_info, request.app[HOST].services
    services.ready(match["name"], match["version"])  # what nobody could answer is not waited for
    inputs = await body(request)
    # Only now: the version may have been patched while the body was on its way.
    return json_bytes(await score(services.ready(match["name"], match["version"]), inputs))
