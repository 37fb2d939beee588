"""Snapshots: what the caller has frozen, what is in each, how two of them differ."""

from __future__ import annotations

from aiohttp import web

from mlhost.http.console import comparing
from mlhost.http.console.rendering import onward, page
from mlhost.http.exchange import attached, stream
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes
from mlhost.http.snapshots import ZIP
from mlhost.snapshots import Snapshot

routes = Routes()

PATH = "/console/snapshots"
ONE = "/console/snapshots/{id}"


@routes.get(PATH)
async def list_all(request: web.Request) -> web.Response:
    """The caller's snapshots, newest first."""
    snapshots = await request.app[HOST].snapshots.list(request[WHO])
    return page(request, "snapshots.html", snapshots=list(reversed(snapshots)))


@routes.get(ONE)
async def show(request: web.Request) -> web.Response:
    """What a snapshot holds."""
    snapshot = await _snapshot(request)
    return page(request, "snapshot.html", snapshot=snapshot, others=await _others(request, snapshot))


@routes.get(f"{ONE}/content")
async def download(request: web.Request) -> web.StreamResponse:
    """A snapshot as a zip."""
    snapshot, content = await request.app[HOST].snapshots.content(request[WHO], request.match_info["id"])
    return await stream(request, content, snapshot.size, attached(f"{snapshot.name}.zip", ZIP))


@routes.get(f"{ONE}/diff")
async def compare(request: web.Request) -> web.Response:
    """A snapshot beside another one, by default the one taken before."""
    new = await _snapshot(request)
    others = await _others(request, new)
    earlier = [other.id for other in others if other.created_at <= new.created_at]
    old = await request.app[HOST].snapshots.get(request[WHO], request.query.get("with") or [*earlier, new.id][0])
    return page(
        request,
        "snapshot_diff.html",
        old=old,
        new=new,
        others=others,
        objects=comparing.objects(old.manifest["objects"], new.manifest["objects"]),
        files=comparing.files(old.manifest["files"], new.manifest["files"]),
        facts=comparing.surroundings(old.manifest, new.manifest),
    )


@routes.get(f"{ONE}/delete")
async def ask_delete(request: web.Request) -> web.Response:
    """Say what goes with a snapshot, and ask."""
    snapshot = await _snapshot(request)
    services = await request.app[HOST].services.list(request[WHO])
    published = [service for service in services if service.snapshot_id == snapshot.id]
    return page(request, "delete_snapshot.html", snapshot=snapshot, published=published)


@routes.post(f"{ONE}/delete")
async def delete(request: web.Request) -> web.Response:
    """Remove a snapshot."""
    await request.app[HOST].snapshots.delete(request[WHO], request.match_info["id"])
    return onward(PATH)


async def _snapshot(request: web.Request) -> Snapshot:
    return await request.app[HOST].snapshots.get(request[WHO], request.match_info["id"])


async def _others(request: web.Request, snapshot: Snapshot) -> list[Snapshot]:
    """The caller's other ones, newest first."""
    snapshots = await request.app[HOST].snapshots.list(request[WHO])
    return [each for each in reversed(snapshots) if each.id != snapshot.id]
