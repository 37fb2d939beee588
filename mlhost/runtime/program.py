"""Running code: a session's block once, a published program many times.

`execute` is one block in a living workspace. `prepare` compiles a service's code and runs its initCode once; `score`
is one call of it: JSON bytes in, JSON bytes out (contract sections 1.3 and 5).
"""

from __future__ import annotations

import dis
import gc
import linecache
import os
import shutil
import sys
import time
import traceback
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, TracebackType
from typing import TypedDict

from mlhost import names
from mlhost.errors import CodeFailed, Invalid
from mlhost.params import jsontext
from mlhost.params.signature import Signature
from mlhost.runtime import capture, limits, parcels
from mlhost.runtime.interrupt import interruptible
from mlhost.runtime.outcome import Outcome, Output
from mlhost.runtime.parcels import SMALL_BYTES, Kept
from mlhost.runtime.workspace import Workspace, list_objects, look

FOLDER_TICK_NS = 20_000_000  # file systems stamp times by the kernel's tick: 10 ms at most, doubled
SHOWN_FRAMES = 100  # of a traceback, the last ones: recursion without end would take minutes to tell
MAX_OUTPUT_FILE_BYTES = 1 << 28  # of one file that comes back with an answer
JOBLIB_CPUS = "LOKY_MAX_CPU_COUNT"  # the variable that says how many there are for it
REMEMBERED_BLOCKS = 1000  # sources kept for tracebacks
OURS = f"{Path(__file__).parent}{os.sep}"  # files whose frames tell users nothing
# The instructions that need a variable of the namespace; the third is a class body's within a function, from 3.12 on.
GLOBAL_READS = {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS", "DELETE_NAME", "DELETE_GLOBAL"}


class ProgramSpec(TypedDict):
    """What a service runs, as plain data."""

    code: str
    init_code: str
    inputs: list[tuple[str, str]]  # name, type
    outputs: list[tuple[str, str]]
    files: list[str]  # output files to return


# --- a session's block ---------------------------------------------------------------------------------------------


def execute(workspace: Workspace, code: str, inputs: list[tuple[str, bytes]], outputs: list[str]) -> Outcome:
    """Run one block of code in the workspace.

    `inputs` are (name, JSON text) bound before the run, `outputs` names read after it. Whatever the code raises is
    told in the outcome, with the traceback on the console.
    """
    for name, value in inputs:
        workspace.objects[names.parameter_name(name, "inputParameters")] = jsontext.parse(value)
    before = look(workspace.folder)
    workspace.runs += 1
    error = _run_block(workspace, code)
    values: list[Output] = []
    if not error:
        values, error = _read_outputs(workspace, outputs)
    capture.flush()
    after = look(workspace.folder)
    return Outcome(
        error=error,
        outputs=values,
        changed_files=sorted(name for name, state in after.items() if before.get(name) != state),
        objects=list_objects(workspace),
        files=sorted(after),
    )


def _run_block(workspace: Workspace, code: str) -> str:
    try:
        compiled = _compile(workspace, code, f"block {workspace.runs}")
        with interruptible():
            exec(compiled, workspace.objects)  # noqa: S102 - what a session is for
    except BaseException as failure:  # SystemExit and KeyboardInterrupt end the block, not the session
        return _tell(failure)
    return ""


def _read_outputs(workspace: Workspace, wanted: Iterable[str]) -> tuple[list[Output], str]:
    values: list[Output] = []
    faults = []
    for name in wanted:
        try:
            values.append(Output(name=name, value=jsontext.render(workspace.objects[name])))
        except KeyError:
            faults.append(f"output {name!r} was never assigned")
        except Exception as fault:
            faults.append(f"output {name!r} cannot be sent as JSON: {fault}")
    return values, "; ".join(faults)


# --- a service's program -------------------------------------------------------------------------------------------


class Program:
    """A service's code, compiled, with the namespace every call starts from.

    All calls run in the workspace's one namespace, so that functions of the snapshot see the inputs as globals; after
    each call it is put back to what it was when the program became ready. Objects that a call changes in place stay
    changed, so do imported modules and the environment, and a thread that a call leaves running runs on: that is the
    price of not thawing the snapshot again for each call.
    """

    def __init__(self, workspace: Workspace, spec: ProgramSpec) -> None:
        self.signature = Signature.of(spec["inputs"], spec["outputs"])
        self.code = _compile_checked(workspace, spec["code"], "code")
        self.init = _compile_checked(workspace, spec["init_code"], "initCode")
        self.output_files = spec["files"]
        inputs = {parameter.name for parameter in self.signature.inputs}
        self.init_each_call = bool(inputs & _names_read(self.init))
        if not self.init_each_call:
            self._run_init(workspace)
        self._pristine = dict(workspace.objects)
        self._files = _PristineFiles(workspace.folder, self.output_files)

    def _run_init(self, workspace: Workspace) -> None:
        try:
            with interruptible():
                exec(self.init, workspace.objects)  # noqa: S102 - what initCode is for
        except BaseException as failure:
            message = _tell(failure)
            raise CodeFailed(f"initCode failed: {message}") from None
        finally:
            capture.flush()

    def run(self, workspace: Workspace, body: bytes) -> bytes:
        """One call: a JSON object of inputs -> a WebServiceResult; Invalid if the body does not fit the inputs."""
        inputs = self.signature.decode(body)
        objects = workspace.objects
        outputs, error = b"{}", ""
        streams = capture.outputs()
        try:
            objects.update(inputs)
            with interruptible():
                if self.init_each_call:
                    exec(self.init, objects)  # noqa: S102
                exec(self.code, objects)  # noqa: S102 - what a service is for
                outputs, error = self.signature.encode(objects)
        except BaseException as failure:
            outputs, error = b"{}", _tell(failure)
        finally:
            objects.clear()
            objects.update(self._pristine)
            capture.put_back(streams)  # what a call put in their place would take the output of all later ones
        files, changed = self._files.collect()
        return _result(error, outputs, files, changed)

    def put_back_files(self) -> list[str]:
        """Have the working directory as it was; the names of what was made or changed."""
        return self._files.collect()[1]


def prepare(workspace: Workspace, spec: ProgramSpec) -> None:
    """Compile the program and run its initCode; CodeFailed says what does not compile or run."""
    if workspace.is_alone:  # `n_jobs=-1` asks joblib for all CPUs, which are the other workers' as well
        os.environ.setdefault(JOBLIB_CPUS, os.environ.get("OMP_NUM_THREADS", "1"))
    workspace.program = Program(workspace, spec)
    if workspace.is_alone:  # what is there now stays: no collection of a call's garbage goes over it again
        gc.collect()
        gc.freeze()


def score(workspace: Workspace, body: bytes) -> bytes | Kept:
    """One call of the prepared program: JSON object of inputs -> WebServiceResult as JSON (contract section 1.3).

    `consoleOutput` is the last property and empty: the host, which reads the console, fills it in. What is large waits
    to be fetched, unless it is in the host's memory anyway.
    """
    if workspace.program is None:
        raise Invalid("This worker has no program.")
    answer = workspace.program.run(workspace, body)
    return answer if len(answer) <= SMALL_BYTES or not workspace.is_alone else parcels.keep(workspace, answer)


def score_parcel(workspace: Workspace, parcel: int) -> bytes | Kept:
    """One call as `score` answers it, of the body in the parcel of that number."""
    file = parcels.find(workspace, parcel)
    file.seek(0)
    return score(workspace, file.read())


class _PristineFiles:
    """Sees to it that what one call does to the working directory does not reach the next.

    The snapshot's files are kept in memory, so that one a call changed or removed can be put back.
    """

    def __init__(self, folder: Path, output_files: list[str]) -> None:
        self._folder = folder
        self._outputs = output_files
        self._state = look(folder)
        self._kept = {name: (folder / name).read_bytes() for name in self._state}
        self._seen: tuple[int, int, int] | None = None  # the folder, when it was last looked into

    def collect(self) -> tuple[dict[str, bytes | None], list[str]]:
        """The declared files as they are now (None if missing), and what was made or changed; all is then put back."""
        changed: list[str] = []
        files: dict[str, bytes | None] = {}
        try:
            for name in self._outputs:
                files[name] = self._read(name)
        finally:
            if self._touched():
                changed = self._put_back()
        return files, changed

    def _read(self, name: str) -> bytes | None:
        path = self._folder / name
        if not path.is_file() or path.is_symlink():
            return None
        if (size := path.stat().st_size) > MAX_OUTPUT_FILE_BYTES:
            raise CodeFailed(f"The output file {name!r} has {size} bytes; at most {MAX_OUTPUT_FILE_BYTES} can be sent.")
        return path.read_bytes()

    def _touched(self) -> bool:
        """Whether the call has left the working directory, moved it, or changed what is in it."""
        # Not by the folder's path, which would take longer than all the rest, unless something is read there.
        if self._seen is None or _state(os.curdir) != self._seen:
            return True
        if self._outputs and _state(self._folder) != self._seen:
            return True
        return bool(self._kept) and look(self._folder) != self._state

    def _put_back(self) -> list[str]:
        self._folder.mkdir(mode=0o700, exist_ok=True)  # the call may have removed it
        os.chdir(self._folder)
        now = look(self._folder)
        new = {entry.name for entry in self._folder.iterdir()} - self._kept.keys()
        changed = {name for name in self._kept if now.get(name) != self._state[name]}
        for name in new | changed:
            _remove(self._folder / name)
        for name in changed:
            (self._folder / name).write_bytes(self._kept[name])
        self._state = look(self._folder)
        seen = _state(self._folder)
        # A change within the same tick would carry the same stamp: look again next time.
        self._seen = seen if time.time_ns() - seen[-1] > FOLDER_TICK_NS else None
        return sorted(new | (changed & now.keys()))


def _state(folder: Path | str) -> tuple[int, int, int]:
    """Which folder it is, and when something in it or its own place last changed (ns); zeros if it is gone."""
    try:
        found = os.stat(folder)  # noqa: PTH116 - see `_touched`
    except FileNotFoundError:
        return 0, 0, 0
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


ANSWER = b'{"success":%b,"errorMessage":%b,"changedFiles":%b,"outputFiles":%b,"outputParameters":%b,"consoleOutput":""}'
PLAIN_ANSWER = ANSWER % (b"true", b'""', b"[]", b"{}", b"%b")  # nearly always there is nothing else to tell


def _result(error: str, outputs: bytes, files: dict[str, bytes | None], changed: list[str]) -> bytes:
    if not error and not files and not changed:
        return PLAIN_ANSWER % outputs
    encoded = {name: None if content is None else b64encode(content).decode() for name, content in files.items()}
    success = b"false" if error else b"true"
    told = (jsontext.render(error), jsontext.render(changed), jsontext.render(encoded))
    return ANSWER % (success, *told, outputs)


# --- compiling and telling -----------------------------------------------------------------------------------------


def _compile(workspace: Workspace, code: str, title: str) -> CodeType:
    """Compile a block; its source is remembered, so that tracebacks show the lines."""
    filename = f"<{title} of {workspace.title}>" if workspace.title else f"<{title}>"
    for old in list(linecache.cache)[: max(0, len(linecache.cache) - REMEMBERED_BLOCKS)]:
        linecache.cache.pop(old, None)  # another thread may have dropped it already
    linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
    return compile(code, filename, "exec", dont_inherit=True)


def _compile_checked(workspace: Workspace, code: str, title: str) -> CodeType:
    """Compile, or CodeFailed naming the line and column."""
    try:
        return _compile(workspace, code, title)
    except SyntaxError as fault:
        place = f"line {fault.lineno}, column {fault.offset}" if fault.lineno else "somewhere"
        raise CodeFailed(f"{title} does not compile: {fault.msg} ({place})") from None
    except (ValueError, RecursionError, MemoryError) as fault:  # NUL bytes; nesting without end
        raise CodeFailed(f"{title} does not compile: {fault or type(fault).__name__}") from None


def _names_read(code: CodeType) -> set[str]:
    """Every variable of the namespace the code reads or deletes, at any depth; no attributes, no local variables."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname in GLOBAL_READS}
    return found.union(*(_names_read(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def _tell(failure: BaseException) -> str:
    """Print the traceback of user code to the console; return what it says last, "Type: message"."""
    limits.make_room(failure)
    trace = _users_part(failure.__traceback__)
    error = traceback.TracebackException(type(failure), failure, trace, limit=-SHOWN_FRAMES)
    _leave_out_ours(error)
    try:
        print("".join(error.format()), file=sys.stderr, end="")  # noqa: T201 - the console is where it belongs
    except Exception:  # a stream of the user's own; the message below still goes out
        capture.flush()
    lines = (line.strip() for line in error.format_exception_only() if not line.startswith(" "))
    said = next(lines, type(failure).__name__.strip())
    if isinstance(failure, SyntaxError) and failure.lineno:
        return f"{said} (line {failure.lineno})"
    return said + limits.note(failure)


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without our own frames at its top."""
    while trace and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def _leave_out_ours(error: traceback.TracebackException) -> None:
    """Without our own frames further down either: a model's methods, what accepts a single sample."""
    left: list[traceback.TracebackException | None] = [error]
    while left:
        if (each := left.pop()) is not None:
            each.stack[:] = [frame for frame in each.stack if not frame.filename.startswith(OURS)]
            left += [each.__cause__, each.__context__, *(getattr(each, "exceptions", None) or ())]
