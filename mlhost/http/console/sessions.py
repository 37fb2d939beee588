"""Sessions: opened, worked in with the console following along, made snapshots and services of, closed."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

from aiohttp import web

from mlhost import names
from mlhost.config import Placement
from mlhost.executors.placements import ALL, Placements
from mlhost.http.console.forms import file, texts
from mlhost.http.console.publishing import publish as publish_session
from mlhost.http.console.rendering import is_partial, lead, onward, page, service_path
from mlhost.http.exchange import attachment
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes
from mlhost.runtime.workspace import delete_file, delete_object, read_file, write_file
from mlhost.sessions import Session

routes = Routes()

PATH = "/console/sessions"
ONE = "/console/sessions/{id}"
MAX_SHOWN = 200_000  # characters of a console: the last ones
MAX_BLOCKS = 20  # of the history: the latest
CHANGED = {"HX-Trigger": "workspace"}  # has the page look into the workspace again


@routes.get(PATH)
async def list_all(request: web.Request) -> web.Response:
    """The caller's open sessions, and a form to open another."""
    host, who = request.app[HOST], request[WHO]
    return page(
        request,
        "sessions.html",
        sessions=host.sessions.list_open(who),
        snapshots=list(reversed(await host.snapshots.list(who))),
        chosen=request.query.get("snapshot", ""),
        placements=_to_choose(host.placements),
    )


@routes.post(PATH)
async def open_session(request: web.Request) -> web.Response:
    """Open a session, on a snapshot's workspace if one is chosen."""
    host, who = request.app[HOST], request[WHO]
    fields = await texts(request)
    name, placement = fields.get("name", "").strip() or None, fields.get("placement") or None
    if snapshot := fields.get("snapshot"):
        session = await host.snapshots.resume(who, name, snapshot, placement)
    else:
        session = await host.sessions.open(who, name, placement)
    return onward(f"{PATH}/{session.id}")


@routes.get(ONE)
async def show(request: web.Request) -> web.Response:
    """A session's page."""
    return page(request, "session.html", **await _told(request))


@routes.post(f"{ONE}/run")
async def run(request: web.Request) -> web.Response:
    """Run a block of code, and answer when it has ended."""
    code = (await texts(request)).get("code", "")
    started = perf_counter()
    outcome, _ = await request.app[HOST].sessions.execute(request[WHO], request.match_info["id"], code, [], [])
    ended: dict[str, Any] = {"outcome": outcome, "seconds": perf_counter() - started}
    if not is_partial(request):
        return page(request, "session.html", **(await _told(request) | ended | {"code": code}))
    answer = page(request, "_outcome.html", **ended)
    answer.headers.update(CHANGED)
    return answer


@routes.post(f"{ONE}/cancel")
async def cancel(request: web.Request) -> web.Response:
    """Interrupt the running block."""
    was_running = request.app[HOST].sessions.cancel(request[WHO], request.match_info["id"])
    words = "The running code was interrupted." if was_running else "Nothing is running."
    return _said(request, words, headers={})


@routes.get(f"{ONE}/console")
async def console(request: web.Request) -> web.Response:
    """What the running or the last block printed so far; nothing if the one who asks has `seen` it already."""
    session = request.app[HOST].sessions.peek(request[WHO], request.match_info["id"])
    if request.query.get("seen") == _mark(session):
        return web.Response(status=204)
    return page(request, "_console.html", session=session, **_printed(session))


@routes.get(f"{ONE}/inside")
async def inside(request: web.Request) -> web.Response:
    """The objects and files of the workspace."""
    sessions, who, session_id = request.app[HOST].sessions, request[WHO], request.match_info["id"]
    held = await sessions.inside(who, session_id)
    return page(request, "_inside.html", session=sessions.peek(who, session_id), inside=held)


@routes.post(f"{ONE}/objects/{{objectName}}/delete")
async def remove_object(request: web.Request) -> web.Response:
    """Remove one object."""
    name = names.object_name(request.match_info["objectName"])
    await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], delete_object, name)
    return _said(request, f"{name} is gone.")


@routes.post(f"{ONE}/files")
async def upload_file(request: web.Request) -> web.Response:
    """Put a file into the working directory."""
    name, content = await file(request, "file")
    names.file_name(name, "file")
    await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], write_file, name, content)
    return _said(request, f"{name} is there.")


@routes.get(f"{ONE}/files/{{fileName}}")
async def download_file(request: web.Request) -> web.Response:
    """One file's bytes."""
    name = names.file_name(request.match_info["fileName"])
    content = await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], read_file, name)
    return attachment(content, name)


@routes.post(f"{ONE}/files/{{fileName}}/delete")
async def remove_file(request: web.Request) -> web.Response:
    """Remove one file."""
    name = names.file_name(request.match_info["fileName"])
    await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], delete_file, name)
    return _said(request, f"{name} is gone.")


@routes.post(f"{ONE}/snapshot")
async def take_snapshot(request: web.Request) -> web.Response:
    """Freeze the workspace."""
    fields = await texts(request)
    snapshot = await request.app[HOST].snapshots.create(
        request[WHO], request.match_info["id"], fields.get("name", "").strip() or None, strict="strict" in fields
    )
    return lead(request, f"/console/snapshots/{snapshot.id}")


@routes.post(f"{ONE}/publish")
async def publish(request: web.Request) -> web.Response:
    """Publish a block of code, with the workspace if that is wanted."""
    host, fields = request.app[HOST], await texts(request)
    service = await publish_session(host, request[WHO], request.match_info["id"], fields)
    return lead(request, service_path(service))


@routes.post(f"{ONE}/close")
async def close(request: web.Request) -> web.Response:
    """End a session, whatever runs in it."""
    await request.app[HOST].sessions.close(request[WHO], request.match_info["id"], force=True)
    return onward(PATH)


async def _told(request: web.Request) -> dict[str, Any]:
    """What a session's page tells."""
    sessions, who, session_id = request.app[HOST].sessions, request[WHO], request.match_info["id"]
    held = await sessions.inside(who, session_id)
    session = sessions.peek(who, session_id)
    blocks = list(reversed(session.history[-MAX_BLOCKS:]))
    return {
        "session": session,
        "inside": held,
        "blocks": blocks,
        "hidden_blocks": len(session.history) - len(blocks),
        "code": "",
        "outcome": None,
        **_printed(session),
    }


def _printed(session: Session) -> dict[str, Any]:
    text = session.worker.console.text
    return {"mark": _mark(session), "printed": text[-MAX_SHOWN:], "hidden": max(0, len(text) - MAX_SHOWN)}


def _mark(session: Session) -> str:
    """What changes when there is something new to see."""
    console = session.worker.console
    return (
        f"{len(session.history)}-{session.history_length}-{len(console.text)}-{session.waiting}-{session.is_running:d}"
    )


def _said(request: web.Request, words: str, headers: Mapping[str, str] = CHANGED) -> web.Response:
    """Say what was done, in the page if a script asks; else the page is shown anew."""
    if not is_partial(request):
        return onward(f"{PATH}/{request.match_info['id']}")
    answer = page(request, "_said.html", words=words)
    answer.headers.update(headers)
    return answer


def _to_choose(placements: Placements) -> list[Placement]:
    """Where a session may be opened, if there is a choice."""
    allowed = [placement for placement in ALL if placements.may_use(placement)]
    return allowed if len(allowed) > 1 else []
