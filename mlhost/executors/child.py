"""A worker process from its fork to its end: confine itself, then answer one call after the other."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from mlhost.executors import wire
from mlhost.executors.serving import answer, main_module
from mlhost.runtime import capture, freeze, interrupt, program  # noqa: F401 - the template loads them for all workers
from mlhost.runtime.workspace import Workspace

CHANNEL = 3  # the descriptor of the worker's end of the socketpair
OOM_SCORE = "500"  # the kernel, out of memory, takes workers before the server
RUSAGE_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes per unit of ru_maxrss


def become(channel: int, console: int, spec: dict[str, Any]) -> NoReturn:
    """Turn this freshly forked process into a worker and serve until the host closes the channel."""
    status = 1
    try:
        _rewire(channel, console)
        _confine(Path(spec["folder"]), spec["memory_bytes"])
        _start_afresh()
        _serve(socket.socket(fileno=CHANNEL), Workspace(main_module(), Path(spec["folder"])))
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


def _confine(folder: Path, memory_bytes: int) -> None:
    os.setsid()  # a process group of its own: an interrupt or kill takes along what the code started
    os.umask(0o077)
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes:
        # RLIMIT_DATA counts memory that can be written, not address space a library merely reserves.
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)


def _start_afresh() -> None:
    """Undo what the template set for itself, and give this worker randomness of its own."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, interrupt.on_signal)
    capture.install()
    if numpy := sys.modules.get("numpy"):  # `random` sees to itself after a fork, numpy does not
        numpy.random.seed()
    sys.path.insert(0, "")  # modules the user uploads into the working directory
    gc.enable()


def _serve(channel: socket.socket, workspace: Workspace) -> None:
    me = os.getpid()
    for number, function, arguments in wire.frames(channel):
        if signal.getsignal(signal.SIGINT) is not interrupt.on_signal:  # user code may have replaced it
            signal.signal(signal.SIGINT, interrupt.on_signal)
        reply = answer(workspace, number, function, arguments)
        if os.getpid() != me:  # user code forked and its child came back here: only the worker may answer
            os._exit(0)
        channel.sendall(reply)
