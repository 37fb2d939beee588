"""A worker process from its fork to its end: confine itself, then answer one call after the other.

The answers to the calls of a train are kept on the board; the host is woken up at the end of the train, when they have
been there for a while, or before the last call if it wants to: woken for each of them, the two would take turns on
their processor.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found, unused-ignore] # the module `signal` makes an enum of what it gets
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from mlhost.executors import families, kernel, wire
from mlhost.executors.board import Board
from mlhost.executors.serving import answer, main_module
from mlhost.executors.spout import Spout
from mlhost.runtime import capture, freeze, interrupt, limits, program  # noqa: F401 - loaded once for all workers
from mlhost.runtime.workspace import Workspace

CHANNEL = 3  # the descriptor of the worker's end of the socketpair
CONSOLE = 4  # of its end of the pipe to the console, whatever user code makes of 1 and 2
ROOM_BYTES = 32 << 20  # kept for telling that the memory is used up
OOM_SCORE = "500"  # the kernel, out of memory, takes workers before the server
RUSAGE_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes per unit of ru_maxrss
RESOURCES = {
    # Memory that can be written, not address space that a library merely reserves.
    "limits.memory_bytes": resource.RLIMIT_DATA,
    "limits.open_files": resource.RLIMIT_NOFILE,
    "limits.file_bytes": resource.RLIMIT_FSIZE,
}


def become(channel: int, console: int, shared: int, spec: dict[str, Any]) -> NoReturn:
    """Turn this freshly forked process into a worker and serve until the host closes the channel."""
    status = 1
    try:
        board = Board(shared)  # before its descriptor is closed, which then nobody has
        _rewire(channel, console)
        _confine(Path(spec["folder"]), spec["limits"], spec["mark"])
        _start_afresh(board)
        workspace = Workspace(main_module(), Path(spec["folder"]))
        _Duty(socket.socket(fileno=CHANNEL), board, workspace).serve()
        status = 0
    finally:
        with contextlib.suppress(BaseException):
            if status:
                traceback.print_exc()
            capture.flush()
        os._exit(status)


def _rewire(channel: int, console: int) -> None:
    """Console on 1, 2 and 4, nothing on 0, the channel on 3, and no other descriptor of the template's."""
    # Out of the way first: either may itself be one of the numbers to be filled.
    channel, console = os.dup(channel), os.dup(console)
    nothing = os.open(os.devnull, os.O_RDONLY)
    high_channel = os.dup2(channel, 100, inheritable=False)
    high_console = os.dup2(console, 101, inheritable=False)
    os.dup2(nothing, 0)
    os.dup2(high_console, 1)
    os.dup2(high_console, 2)
    os.dup2(high_channel, CHANNEL, inheritable=False)
    os.dup2(high_console, CONSOLE, inheritable=False)
    os.closerange(CONSOLE + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _confine(folder: Path, most: dict[str, int], mark: int) -> None:
    os.setsid()  # a process group of its own: an interrupt or kill takes along what the code started
    os.umask(0o077)
    os.chdir(folder)
    families.wear(mark)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for setting, which in RESOURCES.items():
        if most[setting]:
            limits.given[setting] = _limit(which, most[setting])
    kernel.give_way()  # the server sends many calls while it has the processor, or one if it is interrupted for it
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


def _start_afresh(board: Board) -> None:
    """Undo what the template set for itself, and give this worker randomness of its own."""
    for each in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)
    interrupt.main_gate().order = board.order
    signal.signal(signal.SIGINT, interrupt.on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # one that came since the fork is heard now
    capture.install()
    if numpy := sys.modules.get("numpy"):  # `random` sees to itself after a fork, numpy does not
        numpy.random.seed()
    sys.path.insert(0, "")  # modules the user uploads into the working directory
    gc.enable()


def _heed_interrupts() -> None:
    if _signal.getsignal(signal.SIGINT) is not interrupt.on_signal:  # user code may have replaced it
        signal.signal(signal.SIGINT, interrupt.on_signal)


class _Duty:
    """What the worker does for the host: the calls of one train after the other, each of which comes in frames."""

    def __init__(self, channel: socket.socket, board: Board, workspace: Workspace) -> None:
        self._channel = channel
        self._board = board
        self._workspace = workspace
        self._spout = Spout(CONSOLE)
        self._gate = interrupt.main_gate()
        self._process = os.getpid()
        self._over = 0  # the train that has ended before its time: what still comes of it is not run
        self._is_owed = False  # the bell for what is on the board
        self._ring_at = 0.0
        self._runs_beside_host = kernel.processors() > 1  # else the host hears no bell before this process rests

    def serve(self) -> None:
        """Until the host closes the channel."""
        for train, first, function, calls in wire.frames(self._channel):
            if train == first:
                self._ring_at = time.monotonic() + wire.RING_SECONDS
            if train != self._over:
                self._run(train, first, function, calls)
            del calls  # nothing of them is kept while waiting for the next

    def _run(self, train: int, first: int, function: str, calls: list[list[Any]]) -> None:
        """Calls of a train, until the host takes back the rest, or one has printed, failed or answered at length.

        So an answer that is kept is fetched before another call begins.
        """
        last = first + len(calls) - 1
        for number, arguments in enumerate(calls, first):
            if not self._board.begin(train, number):
                self._over, self._is_owed = train, True  # the word that it will not
                break
            if self._answer(number, function, arguments):
                self._over = train
                break
            if number < (sent := self._board.last):
                self._ring_early(is_next_last=number == sent - 1)
        if self._is_owed and (train == self._over or self._board.last <= last):
            self._ring()

    def _answer(self, number: int, function: str, arguments: list[Any]) -> bool:
        """Run one call and answer it; whether the train ends with it, though others may follow.

        What is kept on the board is read before what comes over the channel, so nothing may be kept after that.
        """
        self._gate.running = number
        _heed_interrupts()
        reply, has_failed = answer(self._workspace, number, function, arguments)
        if os.getpid() != self._process:  # user code forked and its child came back here: only the worker may answer
            os._exit(0)
        self._is_owed = self._board.has_room(reply)
        has_ended = not self._is_owed or has_failed or self._spout.has_printed() or bool(self._workspace.parcels)
        if has_ended:
            self._board.end(number)  # before the answer is there to be read
        if self._is_owed:
            self._board.keep(reply)
        else:
            self._channel.sendall(reply)
        return has_ended

    def _ring_early(self, *, is_next_last: bool) -> None:
        """Have the host look at answers that have been there for a while, or when it wants to before the last call."""
        now = time.monotonic()
        if now > self._ring_at or (is_next_last and self._runs_beside_host and self._board.is_asked_early):
            self._ring()
            self._ring_at = now + wire.RING_SECONDS

    def _ring(self) -> None:
        self._channel.sendall(wire.BELL)
        self._is_owed = False
