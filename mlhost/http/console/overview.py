"""How the server is, at a glance."""

from __future__ import annotations

from aiohttp import web

from mlhost.host import Host
from mlhost.http.console.rendering import duration, is_partial, page, size
from mlhost.http.console.series import latencies, rates
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes

routes = Routes()


@routes.get("/console")
async def overview(request: web.Request) -> web.Response:
    """The figures of now; a script asks for them again and again."""
    host, who = request.app[HOST], request[WHO]
    services = await host.services.list(who)
    template = "_overview.html" if is_partial(request) else "overview.html"
    latest = sorted(services, key=lambda service: -service.created_at)[:5]
    names = len({service.name for service in services})
    return page(request, template, figures=_figures(host, names, len(services)), latest=latest)


@routes.get("/console/calls.json")
async def calls(request: web.Request) -> web.Response:
    """How many calls there were lately, for a chart."""
    return rates(request.app[HOST].metrics.history())


@routes.get("/console/latency.json")
async def latency(request: web.Request) -> web.Response:
    """What they took, for a chart."""
    return latencies(request.app[HOST].metrics.history())


def _figures(host: Host, names: int, versions: int) -> list[tuple[str, str, str]]:
    """A title, a value and a note for each."""
    now, config = host.metrics.now(), host.config
    share = f"{now.errors / now.requests:.1%} of them" if now.requests else "none yet"
    return [
        ("Calls", f"{now.requests:,}", "since the start"),
        ("Errors", f"{now.errors:,}", share),
        ("Services", str(names), f"{versions} version{'' if versions == 1 else 's'}"),
        ("Sessions", str(now.sessions), f"of at most {config.sessions.max}"),
        ("Workers", str(now.workers), f"of at most {config.pool.max}"),
        ("Batches", str(now.batches), "running"),
        ("Memory", size(now.memory_bytes), "of the server itself"),
        ("Up", duration(now.uptime_seconds), "since the start"),
    ]
