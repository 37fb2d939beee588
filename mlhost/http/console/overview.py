"""How the server is, at a glance."""

from __future__ import annotations

from aiohttp import web

from mlhost.host import Host
from mlhost.http.console.rendering import duration, is_partial, page, size
from mlhost.http.console.series import latencies, rates
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes

routes = Routes()

LATEST = 5  # versions that were published last


@routes.get("/console")
async def overview(request: web.Request) -> web.Response:
    """The figures of now; a script asks for them again and again."""
    host = request.app[HOST]
    if is_partial(request):
        return page(request, "_overview.html", figures=_figures(host))
    services = await host.services.list(request[WHO])
    latest = services[: -LATEST - 1 : -1]
    return page(request, "overview.html", figures=_figures(host), latest=latest)


@routes.get("/console/calls.json")
async def calls(request: web.Request) -> web.Response:
    """How many calls there were lately, for a chart."""
    return rates(request.app[HOST].metrics.history())


@routes.get("/console/latency.json")
async def latency(request: web.Request) -> web.Response:
    """What they took, for a chart."""
    return latencies(request.app[HOST].metrics.history())


def _figures(host: Host) -> list[tuple[str, str, str]]:
    """A title, a value and a note for each."""
    now, config = host.metrics.now(), host.config
    names, versions = host.services.count()
    share = f"{now.errors / now.requests:.1%} of them" if now.requests else "none yet"
    return [
        ("Calls", f"{now.requests:,}", "since the start"),
        ("Errors", f"{now.errors:,}", share),
        ("Services", str(names), f"{versions} version{'' if versions == 1 else 's'}"),
        ("Sessions", str(now.sessions), f"of at most {config.sessions.max}"),
        ("Workers", str(now.workers), f"of at most {config.pool.max}"),
        ("Batches", str(now.batches), "running"),
        ("Memory", size(now.memory_bytes), "of the server"),
        ("Up", duration(now.uptime_seconds), "since the start"),
    ]
