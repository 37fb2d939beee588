"""Services: what is published."""

from __future__ import annotations

from aiohttp import web

from mlhost.http.console.rendering import is_partial, page
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes
from mlhost.services import Service

routes = Routes()


@routes.get("/console/services")
async def list_all(request: web.Request) -> web.Response:
    """All versions, those of one name together; of those that are searched for, every word occurs."""
    services = await request.app[HOST].services.list(request[WHO])
    wanted = request.query.get("q", "").strip()
    found = [service for service in services if _fits(service, wanted.casefold().split())]
    found.sort(key=lambda service: (service.name.casefold(), -service.created_at))
    template = "_services.html" if is_partial(request) else "services.html"
    return page(request, template, services=found, total=len(services), q=wanted)


def _fits(service: Service, words: list[str]) -> bool:
    told = (service.name, service.version, service.published_by, service.definition.description or "")
    text = "\n".join(told).casefold()
    return all(word in text for word in words)
