"""Snapshots (contract sections 1.4 and 4)."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta

from mlhost.errors import Gone, Invalid, NotFound
from mlhost.http.exchange import WireStruct, attached, empty, read, record, stream, timestamp
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes
from mlhost.openapi.operations import Bytes, Operation

routes = Routes("Snapshot APIs")

ZIP = "application/zip"


class CreateSnapshotRequest(WireStruct):
    """A snapshot to be taken."""

    name: str | None = None
    strict: Annotated[
        bool | None, Meta(description="Refuse a snapshot that would not hold everything. Not in the original.")
    ] = None


class CreateSnapshotResponse(WireStruct):
    """A snapshot that was taken."""

    snapshot_id: str


class Snapshot(WireStruct):
    """One of the caller's snapshots."""

    id: str
    name: str
    owner: str
    creation_time: str
    content_size: Annotated[int, Meta(description="Size of its zip file in bytes.")]


@routes.post(
    "/sessions/{id}/snapshot",
    tells=Operation(
        "CreateSnapshot",
        takes=CreateSnapshotRequest,
        gives={201: CreateSnapshotResponse},
        refuses=(NotFound, Gone),
        example={"name": "my snapshot"},
    ),
)
async def create(request: web.Request) -> web.Response:
    """Freeze a session's workspace."""
    host, who = request.app[HOST], request[WHO]
    wanted = await read(request, CreateSnapshotRequest)
    snapshot = await host.snapshots.create(who, request.match_info["id"], wanted.name, strict=bool(wanted.strict))
    return record(CreateSnapshotResponse(snapshot_id=snapshot.id), status=201, location=f"/snapshots/{snapshot.id}")


@routes.post(
    "/sessions/{id}/loadsnapshot/{snapshotId}",
    tells=Operation("LoadSnapshot", gives={200: None}, refuses=(Invalid, NotFound, Gone)),
)
async def load(request: web.Request) -> web.Response:
    """Merge a snapshot into a session."""
    session, snapshot = request.match_info["id"], request.match_info["snapshotId"]
    await request.app[HOST].snapshots.load(request[WHO], session, snapshot)
    return empty()


@routes.get("/snapshots", tells=Operation("ListSnapshots", gives={200: list[Snapshot]}))
async def list_snapshots(request: web.Request) -> web.Response:
    """The caller's snapshots."""
    return record(
        [
            Snapshot(
                id=snapshot.id,
                name=snapshot.name,
                owner=snapshot.owner,
                creation_time=timestamp(snapshot.created_at),
                content_size=snapshot.size,
            )
            for snapshot in await request.app[HOST].snapshots.list(request[WHO])
        ]
    )


@routes.get("/snapshots/{id}", tells=Operation("GetSnapshotContent", gives={200: Bytes(ZIP)}, refuses=(NotFound,)))
async def download(request: web.Request) -> web.StreamResponse:
    """A snapshot as a zip."""
    snapshot, content = await request.app[HOST].snapshots.content(request[WHO], request.match_info["id"])
    return await stream(request, content, snapshot.size, attached(f"{snapshot.id}.zip", ZIP))


@routes.delete("/snapshots/{id}", tells=Operation("DeleteSnapshot", gives={200: str}, refuses=(NotFound,)))
async def delete(request: web.Request) -> web.Response:
    """Remove a snapshot."""
    await request.app[HOST].snapshots.delete(request[WHO], request.match_info["id"])
    return record("The snapshot is deleted.")
