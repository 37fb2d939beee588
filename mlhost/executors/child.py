"""A worker process from its fork to its end: confine itself, then answer one call after the other."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from mlhost.errors import MlhostError, to_wire
from mlhost.executors import families, kernel, wire
from mlhost.executors.faults import told
from mlhost.runtime import capture, interrupt, limits
from mlhost.runtime.workspace import Workspace

CHANNEL = 3  # the descriptor of the worker's end of the socketpair
RUNSPACE = "mlhost.runtime."  # only functions from here can be called
ROOM_BYTES = 32 << 20  # kept for telling that the memory is used up
OOM_SCORE = "500"  # the kernel, out of memory, takes workers before the server
RUSAGE_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes per unit of ru_maxrss
RESOURCES = {
    # Memory that can be written, not address space that a library merely reserves.
    "limits.memory_bytes": resource.RLIMIT_DATA,
    "limits.open_files": resource.RLIMIT_NOFILE,
    "limits.file_bytes": resource.RLIMIT_FSIZE,
}


def become(channel: int, console: int, spec: dict[str, Any]) -> NoReturn:
    """Turn this freshly forked process into a worker and serve until the host closes the channel."""
    status = 1
    try:
        _rewire(channel, console)
        _confine(Path(spec["folder"]), spec["limits"], spec["mark"])
        _start_afresh()
        _serve(socket.socket(fileno=CHANNEL), Workspace(_main_module(), Path(spec["folder"])))
        status = 0
    finally:
        with contextlib.suppress(BaseException):
            if status:
                traceback.print_exc()
            capture.flush()
        os._exit(status)


def _rewire(channel: int, console: int) -> None:
    """Console on 1 and 2, nothing on 0, the channel on 3, and no other descriptor of the template's."""
    # Out of the way first: either may itself be one of the numbers to be filled.
    channel, console = os.dup(channel), os.dup(console)
    nothing = os.open(os.devnull, os.O_RDONLY)
    high_channel = os.dup2(channel, 100, inheritable=False)
    high_console = os.dup2(console, 101, inheritable=False)
    os.dup2(nothing, 0)
    os.dup2(high_console, 1)
    os.dup2(high_console, 2)
    os.dup2(high_channel, CHANNEL, inheritable=False)
    os.closerange(CHANNEL + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _confine(folder: Path, most: dict[str, int], mark: int) -> None:
    os.setsid()  # a process group of its own: an interrupt or kill takes along what the code started
    os.umask(0o077)
    os.chdir(folder)
    families.wear(mark)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for setting, which in RESOURCES.items():
        if most[setting]:
            limits.given[setting] = _limit(which, most[setting])
    kernel.give_up(kernel.CAP_SYS_RESOURCE)  # with which root could raise its limits again
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)


def _limit(which: int, most: int) -> int:
    """Set soft and hard limit; what the system itself allows may be less, and is returned then."""
    hard = resource.getrlimit(which)[1]
    if hard == resource.RLIM_INFINITY and which == resource.RLIMIT_DATA:
        hard = min(most + ROOM_BYTES, sys.maxsize)
        resource.setrlimit(which, (most, hard))
        limits.room.append(partial(resource.setrlimit, which, (hard, hard)))
        return most
    bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (bound, bound))
    return bound


def _start_afresh() -> None:
    """Undo what the template set for itself, and give this worker randomness of its own."""
    for each in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)
    signal.signal(signal.SIGINT, interrupt.on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # one that came since the fork is heard now
    capture.install()
    if numpy := sys.modules.get("numpy"):  # `random` sees to itself after a fork, numpy does not
        numpy.random.seed()
    sys.path.insert(0, "")  # modules the user uploads into the working directory
    gc.enable()


def _main_module() -> dict[str, Any]:
    """The namespace of a new `__main__`: what user code defines is pickled by value, as at a prompt."""
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    return main.__dict__


def _serve(channel: socket.socket, workspace: Workspace) -> None:
    me = os.getpid()
    for number, function, arguments in wire.frames(channel):
        if signal.getsignal(signal.SIGINT) is not interrupt.on_signal:  # user code may have replaced it
            signal.signal(signal.SIGINT, interrupt.on_signal)
        reply = _answer(workspace, number, function, arguments)
        if os.getpid() != me:  # user code forked and its child came back here: only the worker may answer
            os._exit(0)
        channel.sendall(reply)


def _answer(workspace: Workspace, number: int, function: str, arguments: list[Any]) -> bytes:
    try:
        return wire.pack([number, None, _resolve(function)(workspace, *arguments)])
    except BaseException as fault:
        limits.make_room(fault)
        return wire.pack([number, to_wire(told(fault)), None])


@cache
def _resolve(function: str) -> Callable[..., Any]:
    module, _, name = function.partition(":")
    if not module.startswith(RUNSPACE):
        raise MlhostError(f"{function} is not a function of the runtime")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found
