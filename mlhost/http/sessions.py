"""Sessions, their objects and files (contract sections 1.4 and 4)."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from mlhost import names
from mlhost.http.exchange import WireStruct, attachment, body, empty, read, record, upload
from mlhost.http.keys import HOST, WHO
from mlhost.params import jsontext
from mlhost.runtime.freeze import dump_object, load_object
from mlhost.runtime.workspace import delete_file, delete_object, read_file, write_file

routes = web.RouteTableDef()


class CreateSessionRequest(WireStruct):
    """POST /sessions."""

    name: str | None = None
    snapshot_id: str | None = None
    runtime_type: str | None = None
    placement: str | None = None  # ours: where the session's code runs


class WorkspaceObject(WireStruct):
    """An input of an execution; its value is any JSON."""

    name: str
    value: Any = None


class ExecuteRequest(WireStruct):
    """POST /sessions/{id}/execute."""

    code: str
    input_parameters: list[WorkspaceObject] | None = None
    output_parameters: list[str] | None = None


@routes.post("/sessions")
async def open_session(request: web.Request) -> web.Response:
    """Open a session, on a snapshot's workspace if one is named."""
    host, who = request.app[HOST], request[WHO]
    wanted = await read(request, CreateSessionRequest)
    names.runtime_type(wanted.runtime_type)
    if wanted.snapshot_id is None:
        session = await host.sessions.open(who, wanted.name, wanted.placement)
    else:
        session = await host.snapshots.resume(who, wanted.name, wanted.snapshot_id, wanted.placement)
    return record({"sessionId": session.id}, status=201, location=f"/sessions/{session.id}")


@routes.get("/sessions", allow_head=False)
async def list_sessions(request: web.Request) -> web.Response:
    """The caller's open sessions."""
    sessions = request.app[HOST].sessions.list_open(request[WHO])
    return record(
        [
            {"id": session.id, "name": session.name, "owner": session.owner, "runtimeType": names.RUNTIME}
            for session in sessions
        ]
    )


@routes.post("/sessions/{id}/execute")
async def execute(request: web.Request) -> web.Response:
    """Run a block of code; code that fails is a 200 with `success` false."""
    host, who = request.app[HOST], request[WHO]
    wanted = await read(request, ExecuteRequest)
    inputs = [(item.name, jsontext.render(item.value)) for item in wanted.input_parameters or ()]
    outcome, console = await host.sessions.execute(
        who, request.match_info["id"], wanted.code, inputs, wanted.output_parameters or []
    )
    outputs = [{"name": out["name"], "value": msgspec.Raw(out["value"])} for out in outcome["outputs"]]
    return record(
        {
            "success": not outcome["error"],
            "errorMessage": outcome["error"],
            "outputParameters": outputs,
            "consoleOutput": console,
            "changedFiles": outcome["changed_files"],
        }
    )


@routes.post("/sessions/{id}/cancel")
async def cancel(request: web.Request) -> web.Response:
    """Interrupt the running block."""
    was_running = request.app[HOST].sessions.cancel(request[WHO], request.match_info["id"])
    return record("The running code was interrupted." if was_running else "Nothing was running.")


@routes.delete("/sessions/{id}")
async def close(request: web.Request) -> web.Response:
    """End a session."""
    await request.app[HOST].sessions.close(request[WHO], request.match_info["id"])
    return record("The session is closed.")


@routes.delete("/sessions/{id}/force")
async def close_by_force(request: web.Request) -> web.Response:
    """End a session without letting its code finish."""
    await request.app[HOST].sessions.close(request[WHO], request.match_info["id"], force=True)
    return record("The session is closed.")


@routes.get("/sessions/{id}/console-output", allow_head=False)
async def console_output(request: web.Request) -> web.Response:
    """What the running or last block printed so far."""
    text = request.app[HOST].sessions.console(request[WHO], request.match_info["id"])
    return record({"consoleOutput": text})


@routes.get("/sessions/{id}/history", allow_head=False)
async def history(request: web.Request) -> web.Response:
    """The blocks executed, oldest first."""
    return record(request.app[HOST].sessions.history(request[WHO], request.match_info["id"]))


# --- files ---------------------------------------------------------------------------------------------------------


@routes.get("/sessions/{id}/files", allow_head=False)
async def list_files(request: web.Request) -> web.Response:
    """Names of the working directory's files."""
    return record(await request.app[HOST].sessions.files(request[WHO], request.match_info["id"]))


@routes.post("/sessions/{id}/files")
async def upload_file(request: web.Request) -> web.Response:
    """Put a file into the working directory; its name is the multipart part's."""
    name, content = await upload(request, "file")
    names.file_name(name)
    await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], write_file, name, content)
    return web.Response(status=201, content_type="text/plain")


@routes.get("/sessions/{id}/files/{fileName}", allow_head=False)
async def download_file(request: web.Request) -> web.Response:
    """One file's bytes."""
    name = names.file_name(request.match_info["fileName"])
    content = await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], read_file, name)
    return attachment(content, name)


@routes.delete("/sessions/{id}/files/{fileName}")
async def remove_file(request: web.Request) -> web.Response:
    """Remove one file."""
    name = names.file_name(request.match_info["fileName"])
    await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], delete_file, name)
    return empty()


# --- objects -------------------------------------------------------------------------------------------------------


@routes.get("/sessions/{id}/workspace", allow_head=False)
async def list_objects(request: web.Request) -> web.Response:
    """Names of the workspace's objects."""
    return record(await request.app[HOST].sessions.objects(request[WHO], request.match_info["id"]))


@routes.get("/sessions/{id}/workspace/{objectName}", allow_head=False)
async def get_object(request: web.Request) -> web.Response:
    """One object as a dill pickle."""
    name = names.object_name(request.match_info["objectName"])
    pickled = await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], dump_object, name)
    return attachment(pickled, f"{name}.dill")


@routes.post("/sessions/{id}/workspace/{objectName}")
async def put_object(request: web.Request) -> web.Response:
    """Set one object from a dill pickle, which only the session's worker opens."""
    name = names.object_name(request.match_info["objectName"])
    pickled = await body(request)
    sessions = request.app[HOST].sessions
    await sessions.load(request[WHO], request.match_info["id"], lambda call: call(load_object, name, pickled))
    return empty()


@routes.delete("/sessions/{id}/workspace/{objectName}")
async def remove_object(request: web.Request) -> web.Response:
    """Remove one object."""
    name = names.object_name(request.match_info["objectName"])
    await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], delete_object, name)
    return empty()
