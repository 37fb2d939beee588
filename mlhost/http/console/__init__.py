"""The console: pages for people, rendered here, with scripts that only make them livelier.

They call the domain's verbs as the API does and obey the same rules; what a user may not do is not offered.
"""

from __future__ import annotations

from aiohttp import web

from mlhost.http.console import (
    audit,
    batches,
    overview,
    refusals,
    services,
    sessions,
    signin,
    snapshots,
    tokens,
    users,
)
from mlhost.http.console.refusals import middleware

__all__ = ["add_to", "middleware"]

TABLES = (
    signin.routes,
    overview.routes,
    services.routes,
    sessions.routes,
    snapshots.routes,
    batches.routes,
    users.routes,
    tokens.routes,
    audit.routes,
)


def add_to(app: web.Application) -> None:
    """Give the application the console's routes; `middleware` must be among its own, outside the guard's."""
    for routes in TABLES:
        app.add_routes(routes)
    app.on_response_prepare.append(refusals.dress)
