"""A backup of the whole server, for its Owners. An addition to the original."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from aiohttp import web

from mlhost.backups.taking import Taken, taken
from mlhost.errors import Conflict, Unavailable
from mlhost.http.exchange import attached, stream
from mlhost.http.keys import HOST
from mlhost.http.routes import Routes
from mlhost.openapi.operations import ADDED, Bytes, Operation

routes = Routes("Status APIs")

TAR = "application/x-tar"
TAKING = web.AppKey("taking", asyncio.Lock)


@routes.get(
    "/backup", tells=Operation("getBackup", gives={200: Bytes(TAR)}, refuses=(Conflict, Unavailable), note=ADDED)
)
async def get(request: web.Request) -> web.StreamResponse:
    """All that the server is, as one file for `mlhost restore`."""
    taking = request.app[TAKING]
    if taking.locked():
        raise Conflict("A backup is being taken already; ask again when that one is done.")
    async with taking, AsyncExitStack() as stack:
        copying = taken(request.app[HOST].folder)
        made = await asyncio.to_thread(copying.__enter__)
        stack.push_async_callback(asyncio.to_thread, copying.__exit__, None, None, None)
        return await stream(request, _pieces(made), made.size, attached(made.name, TAR))


async def _pieces(made: Taken) -> AsyncIterator[bytes]:
    pieces = made.pieces()
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece
