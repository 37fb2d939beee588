"""The application: every route, behind the two middlewares each request passes."""

from __future__ import annotations

from aiohttp import web

from mlhost.host import Host
from mlhost.http import errors, guard, login, realtime, scoring, services, sessions, snapshots, status, unsupported
from mlhost.http.keys import HOST, TRAFFIC, Traffic


def create_app(host: Host) -> web.Application:
    """The HTTP face of a host; its life is not the host's: open and close that around it."""
    app = web.Application(
        middlewares=[errors.middleware, guard.middleware],
        client_max_size=host.config.server.max_body_bytes,
    )
    app[HOST] = host
    app[TRAFFIC] = Traffic()
    app.add_routes(scoring.routes)  # first: routes are tried in order, and this one is the hot path
    for noun in (login, sessions, snapshots, services, realtime, status, unsupported):
        app.add_routes(noun.routes)
    guard.check_complete(app)
    return app
