"""Snapshots (contract sections 1.4 and 4)."""

from __future__ import annotations

from aiohttp import web

from mlhost.http.exchange import WireStruct, attached, empty, read, record, stream, timestamp
from mlhost.http.keys import HOST, WHO

routes = web.RouteTableDef()


class CreateSnapshotRequest(WireStruct):
    """POST /sessions/{id}/snapshot."""

    name: str | None = None
    strict: bool | None = None  # refuse a snapshot that would not hold everything; not in the original


@routes.post("/sessions/{id}/snapshot")
async def create(request: web.Request) -> web.Response:
    """Freeze a session's workspace."""
    host, who = request.app[HOST], request[WHO]
    wanted = await read(request, CreateSnapshotRequest)
    snapshot = await host.snapshots.create(who, request.match_info["id"], wanted.name, strict=bool(wanted.strict))
    return record({"snapshotId": snapshot.id}, status=201, location=f"/snapshots/{snapshot.id}")


@routes.post("/sessions/{id}/loadsnapshot/{snapshotId}")
async def load(request: web.Request) -> web.Response:
    """Merge a snapshot into a session."""
    session, snapshot = request.match_info["id"], request.match_info["snapshotId"]
    await request.app[HOST].snapshots.load(request[WHO], session, snapshot)
    return empty()


@routes.get("/snapshots", allow_head=False)
async def list_snapshots(request: web.Request) -> web.Response:
    """The caller's snapshots."""
    return record(
        [
            {
                "id": snapshot.id,
                "name": snapshot.name,
                "owner": snapshot.owner,
                "creationTime": timestamp(snapshot.created_at),
                "contentSize": snapshot.size,
            }
            for snapshot in await request.app[HOST].snapshots.list(request[WHO])
        ]
    )


@routes.get("/snapshots/{id}", allow_head=False)
async def download(request: web.Request) -> web.StreamResponse:
    """A snapshot as a zip."""
    snapshot, content = await request.app[HOST].snapshots.content(request[WHO], request.match_info["id"])
    return await stream(request, content, snapshot.size, attached(f"{snapshot.id}.zip", "application/zip"))


@routes.delete("/snapshots/{id}")
async def delete(request: web.Request) -> web.Response:
    """Remove a snapshot."""
    await request.app[HOST].snapshots.delete(request[WHO], request.match_info["id"])
    return record("The snapshot is deleted.")
