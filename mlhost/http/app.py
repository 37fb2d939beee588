"""The application: every route, behind the four middlewares each request passes."""

from __future__ import annotations

import asyncio

from aiohttp import web

from mlhost.host import Host
from mlhost.http import (
    assets,
    backup,
    batches,
    console,
    errors,
    guard,
    login,
    metrics,
    nodes,
    oauth,
    oidc,
    origins,
    personal,
    pools,
    realtime,
    scoring,
    services,
    sessions,
    snapshots,
    status,
    users,
)
from mlhost.http import documents as about
from mlhost.http.exposition import Exposition
from mlhost.http.keys import HOST, TRAFFIC, Traffic

# The tables whose routes the documents tell, in the order they tell them.
TOLD = (
    login.routes,
    personal.routes,
    users.routes,
    services.routes,
    realtime.routes,
    pools.routes,
    services.documents,
    sessions.routes,
    snapshots.routes,
    status.routes,
    backup.routes,
    nodes.routes,
    metrics.routes,
)
# All of the API. Routes are tried in order, and the first is the hot path; those of pages come after these.
TABLES = (scoring.routes, about.routes, *TOLD, batches.routes, oauth.routes, oidc.routes)


def create_app(host: Host) -> web.Application:
    """The HTTP face of a host; its life is not the host's: open and close that around it."""
    app = web.Application(
        middlewares=[errors.middleware, origins.middleware, console.middleware, guard.middleware],
        client_max_size=host.config.server.max_body_bytes,
    )
    app[HOST] = host
    app[TRAFFIC] = Traffic()
    app[backup.TAKING] = asyncio.Lock()
    app[metrics.EXPOSITION] = Exposition(host)
    origins.guard(app, host.config.server)
    for routes in TABLES:
        app.add_routes(routes)
    app.add_routes(assets.routes)
    console.add_to(app)
    app[about.DOCUMENTS] = documents()
    guard.check_complete(app)
    return app


def documents() -> about.Documents:
    """The documents of all there is to tell."""
    return about.Documents(route for routes in TOLD for route in routes.told)
