"""Whether the server lives, is ready, and how it is (contract section 1.5)."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from mlhost.http.exchange import record
from mlhost.http.keys import HOST, TRAFFIC

routes = web.RouteTableDef()


@routes.get("/livez", allow_head=False)
async def livez(request: web.Request) -> web.Response:
    """The process answers."""
    del request
    return record({"status": "alive"})


@routes.get("/readyz", allow_head=False)
async def readyz(request: web.Request) -> web.Response:
    """Work can be done: a round trip through a live worker, and the store answers; else 503 with the reason."""
    fault = await _fault(request)
    if fault:
        return record({"status": "not ready", "reason": fault}, status=503)
    return record({"status": "ready"})


@routes.get("/status", allow_head=False)
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
    address = "http://{}:{}/".format(*request.transport.get_extra_info("sockname")) if request.transport else ""
    components = {
        "backends": _component(fault, {}, {address: _component(fault, backend)}),
        "authentication": _component("", {"type": "local"}),
        "database": _component("", {"type": "sqlite", "name": "main", "state": "Open"}),
    }
    return record(_component(fault, {"logPath": ""}, components))


def _component(fault: str, details: dict[str, Any], components: dict[str, Any] | None = None) -> dict[str, Any]:
    told = {"fault": fault} if fault else {}
    return {"statusCode": "fail" if fault else "pass", "details": details | told, "components": components}


async def _fault(request: web.Request) -> str:
    if request.app[TRAFFIC].draining:
        return "the server is stopping"
    await request.app[HOST].store.read("select 1")
    return await request.app[HOST].canary.fault()
