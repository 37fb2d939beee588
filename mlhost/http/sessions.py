"""Sessions, their objects and files (contract sections 1.4 and 4)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from mlhost import names
from mlhost.errors import CodeFailed, Conflict, Gone, Invalid, NotFound
from mlhost.http.exchange import (
    AskedRuntime,
    Placed,
    Runtime,
    Version,
    WireStruct,
    attachment,
    body,
    empty,
    read,
    record,
    upload,
)
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes
from mlhost.openapi.operations import ADDED, Bytes, Field, Form, Operation
from mlhost.params import jsontext
from mlhost.runtime.freeze import dump_object, load_object
from mlhost.runtime.telling import tell_object
from mlhost.runtime.workspace import delete_file, delete_object, read_file, write_file

routes = Routes("Session APIs")

OF_A_SESSION = (NotFound, Gone)  # how a request to a session may end
IN_A_WORKER = (Invalid, *OF_A_SESSION)  # and one that does something in it
OF_FILES = (Conflict, *IN_A_WORKER)


class CreateSessionRequest(WireStruct):
    """A session to be opened."""

    name: str | None = None
    snapshot_id: Annotated[str | None, Meta(description="A snapshot to load into the new session.")] = None
    runtime_type: AskedRuntime | None = None
    placement: Placed | None = None


class CreateSessionResponse(WireStruct):
    """An opened session."""

    session_id: str


class Session(WireStruct):
    """An open session."""

    id: str
    name: str
    owner: str
    runtime_type: Runtime
    placement: Placed | UnsetType = UNSET
    python_version: Version | UnsetType = UNSET


class WorkspaceObject(WireStruct):
    """An input or output of an execution; its value is any JSON."""

    name: str
    value: Any = None


class ExecuteRequest(WireStruct):
    """A block of code to run."""

    code: str
    input_parameters: list[WorkspaceObject] | None = None
    output_parameters: list[str] | None = None


class ExecuteResponse(WireStruct):
    """What running a block of code came to."""

    success: bool
    error_message: Annotated[str, Meta(description="Empty if the code did not fail.")]
    output_parameters: list[WorkspaceObject]
    console_output: str
    changed_files: Annotated[list[str], Meta(description="Files of the working directory that were made or changed.")]


class ObjectValue(WireStruct):
    """An object of a workspace as data."""

    type: Annotated[str, Meta(description="As parameters of services have it; empty for any other JSON.")]
    value: Any = None


class ConsoleOutputResponse(WireStruct):
    """What code printed."""

    console_output: str


@routes.post(
    "/sessions",
    tells=Operation(
        "createSession",
        takes=CreateSessionRequest,
        gives={201: CreateSessionResponse},
        refuses=OF_A_SESSION,
        example={"name": "my session", "runtimeType": names.RUNTIME},
    ),
)
async def open_session(request: web.Request) -> web.Response:
    """Open a session, on a snapshot's workspace if one is named."""
    host, who = request.app[HOST], request[WHO]
    wanted = await read(request, CreateSessionRequest)
    names.runtime_type(wanted.runtime_type)
    if wanted.snapshot_id is None:
        session = await host.sessions.open(who, wanted.name, wanted.placement)
    else:
        session = await host.snapshots.resume(who, wanted.name, wanted.snapshot_id, wanted.placement)
    return record(CreateSessionResponse(session_id=session.id), status=201, location=f"/sessions/{session.id}")


@routes.get("/sessions", tells=Operation("listSessions", gives={200: list[Session]}))
async def list_sessions(request: web.Request) -> web.Response:
    """The caller's open sessions."""
    sessions = request.app[HOST].sessions.list_open(request[WHO])
    return record(
        [
            Session(
                id=session.id,
                name=session.name,
                owner=session.owner,
                runtime_type=names.RUNTIME,
                placement=session.placement,
                python_version=session.worker.python,
            )
            for session in sessions
        ]
    )


@routes.post(
    "/sessions/{id}/execute",
    tells=Operation(
        "executeCode",
        takes=ExecuteRequest,
        gives={200: ExecuteResponse},
        refuses=OF_A_SESSION,
        example={
            "code": "y = x * 2\nprint(y)",
            "inputParameters": [{"name": "x", "value": 21}],
            "outputParameters": ["y"],
        },
    ),
)
async def execute(request: web.Request) -> web.Response:
    """Run a block of code; code that fails is a 200 with `success` false."""
    host, who = request.app[HOST], request[WHO]
    wanted = await read(request, ExecuteRequest)
    inputs = [(item.name, jsontext.render(item.value)) for item in wanted.input_parameters or ()]
    outcome, console = await host.sessions.execute(
        who, request.match_info["id"], wanted.code, inputs, wanted.output_parameters or []
    )
    outputs = [WorkspaceObject(name=out["name"], value=msgspec.Raw(out["value"])) for out in outcome["outputs"]]
    return record(
        ExecuteResponse(
            success=not outcome["error"],
            error_message=outcome["error"],
            output_parameters=outputs,
            console_output=console,
            changed_files=outcome["changed_files"],
        )
    )


@routes.post("/sessions/{id}/cancel", tells=Operation("cancelSession", gives={200: str}, refuses=OF_A_SESSION))
async def cancel(request: web.Request) -> web.Response:
    """Interrupt the running block."""
    was_running = request.app[HOST].sessions.cancel(request[WHO], request.match_info["id"])
    return record("The running code was interrupted." if was_running else "Nothing was running.")


@routes.delete("/sessions/{id}", tells=Operation("closeSession", gives={200: str}, refuses=OF_A_SESSION))
async def close(request: web.Request) -> web.Response:
    """End a session."""
    await request.app[HOST].sessions.close(request[WHO], request.match_info["id"])
    return record("The session is closed.")


@routes.delete("/sessions/{id}/force", tells=Operation("closeSessionByForce", gives={200: str}, refuses=OF_A_SESSION))
async def close_by_force(request: web.Request) -> web.Response:
    """End a session without letting its code finish."""
    await request.app[HOST].sessions.close(request[WHO], request.match_info["id"], force=True)
    return record("The session is closed.")


@routes.get(
    "/sessions/{id}/console-output",
    tells=Operation("getSessionConsoleOutput", gives={200: ConsoleOutputResponse}, refuses=OF_A_SESSION),
)
async def console_output(request: web.Request) -> web.Response:
    """What the running or last block printed so far."""
    text = request.app[HOST].sessions.console(request[WHO], request.match_info["id"])
    return record(ConsoleOutputResponse(console_output=text))


@routes.get(
    "/sessions/{id}/history", tells=Operation("listSessionHistory", gives={200: list[str]}, refuses=OF_A_SESSION)
)
async def history(request: web.Request) -> web.Response:
    """The blocks executed, oldest first."""
    return record(request.app[HOST].sessions.history(request[WHO], request.match_info["id"]))


# --- files ---------------------------------------------------------------------------------------------------------


@routes.get("/sessions/{id}/files", tells=Operation("listSessionFiles", gives={200: list[str]}, refuses=IN_A_WORKER))
async def list_files(request: web.Request) -> web.Response:
    """Names of the working directory's files."""
    return record(await request.app[HOST].sessions.files(request[WHO], request.match_info["id"]))


@routes.post(
    "/sessions/{id}/files",
    tells=Operation(
        "uploadSessionFile",
        takes=Form((Field("file", "The file; its name is the part's.", required=True, is_file=True),)),
        gives={201: None},
        refuses=OF_FILES,
    ),
)
async def upload_file(request: web.Request) -> web.Response:
    """Put a file into the working directory; its name is the multipart part's."""
    name, content = await upload(request, "file")
    names.file_name(name)
    await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], write_file, name, content)
    return web.Response(status=201, content_type="text/plain")


@routes.get(
    "/sessions/{id}/files/{fileName}", tells=Operation("getSessionFile", gives={200: Bytes()}, refuses=OF_FILES)
)
async def download_file(request: web.Request) -> web.Response:
    """One file's bytes."""
    name = names.file_name(request.match_info["fileName"])
    content = await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], read_file, name)
    return attachment(content, name)


@routes.delete(
    "/sessions/{id}/files/{fileName}", tells=Operation("deleteSessionFile", gives={200: None}, refuses=OF_FILES)
)
async def remove_file(request: web.Request) -> web.Response:
    """Remove one file."""
    name = names.file_name(request.match_info["fileName"])
    await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], delete_file, name)
    return empty()


# --- objects -------------------------------------------------------------------------------------------------------


@routes.get(
    "/sessions/{id}/workspace", tells=Operation("listWorkspaceObjects", gives={200: list[str]}, refuses=IN_A_WORKER)
)
async def list_objects(request: web.Request) -> web.Response:
    """Names of the workspace's objects."""
    return record(await request.app[HOST].sessions.objects(request[WHO], request.match_info["id"]))


@routes.get(
    "/sessions/{id}/workspace/{objectName}",
    tells=Operation("getWorkspaceObject", gives={200: Bytes()}, refuses=IN_A_WORKER),
)
async def get_object(request: web.Request) -> web.Response:
    """One object as a dill pickle."""
    name = names.object_name(request.match_info["objectName"])
    pickled = await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], dump_object, name)
    return attachment(pickled, f"{name}.dill")


@routes.get(
    "/sessions/{id}/workspace/{objectName}/value",
    tells=Operation(
        "getWorkspaceObjectValue",
        gives={200: ObjectValue},
        refuses=(*IN_A_WORKER, CodeFailed),
        summary="One object as typed JSON, for clients that open no pickles.",
        note=ADDED,
    ),
)
async def get_value(request: web.Request) -> web.Response:
    """One object as data; CodeFailed if JSON has no form for it."""
    name = names.object_name(request.match_info["objectName"])
    told = await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], tell_object, name)
    return record(ObjectValue(type=told["type"], value=msgspec.Raw(told["value"])))


@routes.post(
    "/sessions/{id}/workspace/{objectName}",
    tells=Operation(
        "setWorkspaceObject",
        takes=Bytes(),
        gives={200: None},
        refuses=IN_A_WORKER,
        body_name="serializedObject",
    ),
)
async def put_object(request: web.Request) -> web.Response:
    """Set one object from a dill pickle, which only the session's worker opens."""
    name = names.object_name(request.match_info["objectName"])
    pickled = await body(request)
    sessions = request.app[HOST].sessions
    await sessions.load(request[WHO], request.match_info["id"], lambda call: call(load_object, name, pickled))
    return empty()


@routes.delete(
    "/sessions/{id}/workspace/{objectName}",
    tells=Operation("deleteWorkspaceObject", gives={200: None}, refuses=IN_A_WORKER),
)
async def remove_object(request: web.Request) -> web.Response:
    """Remove one object."""
    name = names.object_name(request.match_info["objectName"])
    await request.app[HOST].sessions.call(request[WHO], request.match_info["id"], delete_object, name)
    return empty()
