"""Whether the server lives, is ready, and how it is (contract section 1.5)."""

from __future__ import annotations

from typing import Any, Literal

from aiohttp import web
from msgspec import UNSET, UnsetType

from mlhost.http import nodes
from mlhost.http.exchange import WireStruct, record
from mlhost.http.keys import HOST, TRAFFIC
from mlhost.http.routes import Routes
from mlhost.openapi.operations import ADDED, Operation

routes = Routes("Status APIs")


class StatusResponse(WireStruct):
    """How a component is, and what it is made of."""

    status_code: Literal["fail", "pass", "warn"]
    details: dict[str, Any]
    components: dict[str, StatusResponse] | None


class Health(WireStruct):
    """Whether the server lives or is ready."""

    status: str
    reason: str | UnsetType = UNSET


@routes.get("/livez", tells=Operation("livez", gives={200: Health}, note=ADDED))
async def livez(request: web.Request) -> web.Response:
    """The process answers."""
    del request
    return record(Health(status="alive"))


@routes.get("/readyz", tells=Operation("readyz", gives={200: Health, 503: Health}, note=ADDED))
async def readyz(request: web.Request) -> web.Response:
    """Work can be done: a round trip through a live worker, and the store answers; else 503 with the reason."""
    fault = await _fault(request)
    if fault:
        return record(Health(status="not ready", reason=fault), status=503)
    return record(Health(status="ready"))


@routes.get("/status", tells=Operation("status", gives={200: StatusResponse}))
async def status(request: web.Request) -> web.Response:
    """The tree of components the original showed, for what there is here."""
    host = request.app[HOST]
    fault = await _fault(request)
    can_open = not fault and host.sessions.count() < host.config.sessions.max
    backend = {
        "pythonMaxPoolSize": host.config.sessions.max,
        "pythonActiveShellCount": host.sessions.count(),
        "pythonCurrentPoolSize": host.sessions.count(),
        "pythonCanOpenShell": str(can_open),
        "rMaxPoolSize": 0,
        "rActiveShellCount": 0,
        "rCurrentPoolSize": 0,
        "rCanOpenShell": "False",
        "apiVersion": "1.0",
        "logPath": "",
    }
    components = {
        "backends": _component(fault, {}, {nodes.address(request): _component(fault, backend)}),
        "authentication": _component("", {"type": "local"}),
        "database": _component("", {"type": "sqlite", "name": "main", "state": "Open"}),
    }
    return record(_component(fault, {"logPath": ""}, components))


def _component(
    fault: str, details: dict[str, Any], components: dict[str, StatusResponse] | None = None
) -> StatusResponse:
    told = {"fault": fault} if fault else {}
    return StatusResponse(status_code="fail" if fault else "pass", details=details | told, components=components)


async def _fault(request: web.Request) -> str:
    if request.app[TRAFFIC].draining:
        return "the server is stopping"
    await request.app[HOST].store.read("select 1")
    return await request.app[HOST].canary.fault()
