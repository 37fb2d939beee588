"""How the server is, at a glance."""

from __future__ import annotations

from aiohttp import web

from mlhost.http.console.rendering import is_partial, page
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes

routes = Routes()


@routes.get("/console")
async def overview(request: web.Request) -> web.Response:
    """The figures of now; a script asks for them again and again."""
    host, who = request.app[HOST], request[WHO]
    services = await host.services.list(who)
    figures = [
        ("Services", len({service.name for service in services}), f"{len(services)} versions"),
        ("Sessions", host.sessions.count(), f"of at most {host.config.sessions.max}"),
    ]
    return page(request, "_overview.html" if is_partial(request) else "overview.html", figures=figures)
