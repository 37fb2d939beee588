"""The audit log, for Owners: its latest lines, of one user, route or status if that is wanted."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path

from aiohttp import web

from mlhost.audit import Entry, latest
from mlhost.http.console.rendering import is_partial, page
from mlhost.http.keys import HOST
from mlhost.http.routes import Routes

routes = Routes()

MAX_ENTRIES = 200  # that are shown
MAX_BYTES = 4 << 20  # from the log's end that are searched


@routes.get("/console/audit")
async def show(request: web.Request) -> web.Response:
    """The latest entries first; of those that are searched for, each filter's text occurs."""
    host, wanted = (
        request.app[HOST],
        {name: request.query.get(name, "").strip() for name in ("user", "route", "status")},
    )
    entries = await asyncio.to_thread(_found, host.folder.path, **wanted)
    return page(
        request,
        "_audit.html" if is_partial(request) else "audit.html",
        entries=entries,
        most=MAX_ENTRIES,
        most_bytes=MAX_BYTES,
        is_kept=host.config.audit.enabled,
        wanted=wanted,
    )


def _found(folder: Path, user: str, route: str, status: str) -> list[Entry]:
    fitting = (
        entry
        for entry in latest(folder, MAX_BYTES)
        if (not user or entry.is_about(user))
        and route.casefold() in entry.route.casefold()
        and entry.status.startswith(status.rstrip("x"))
    )
    return list(islice(fitting, MAX_ENTRIES))
