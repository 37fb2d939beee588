"""The `inline` placement: workspaces in the server's own interpreter, each on one thread. For trusted code only.

A workspace has its namespace, its console (what Python prints), and on Linux its working directory and umask;
elsewhere the folder is made but is not the current one. Everything else is the server's: modules and what code sets
in them, `random`, the environment, memory, `sys.modules["__main__"]` (so plain pickle does not find the workspace's
own classes; snapshots do). Files put into the folder cannot be imported: another workspace would get the same module.

Nothing kills a thread. Code is interrupted by an exception at its next bytecode: one long call into C does not notice
(nor does code that swallows it), the worker is given up, and the code runs on until it ends by itself. An interrupt can
land while a library holds a lock. `os._exit`, a crash in C or too much memory take the server along, and code that
computes holds the interpreter up to 5 ms at a time, however many wait for it.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import ctypes
import itertools
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

from mlhost.errors import MlhostError, Unavailable, WorkerLost, from_wire, to_wire
from mlhost.executors.calling import GRACE_SECONDS, CallingWorker
from mlhost.executors.child import RUNSPACE
from mlhost.executors.console import OUTPUT_BYTES, Inlet
from mlhost.executors.faults import told
from mlhost.runtime.capture import OwnStreams
from mlhost.runtime.interrupt import ThreadGate, gate_of_this_thread
from mlhost.runtime.workspace import Workspace

log = logging.getLogger(__name__)

CLONE_FS = 0x200  # unshare(2): working directory and umask
INSIST_SECONDS = 0.1  # between interrupts of a worker that is being closed
_numbers = itertools.count(1)  # of the workspaces of this interpreter, whose tracebacks name them


class InlineExecutor:
    """Opens workspaces on threads of this process."""

    def __init__(self, work: Path, output_bytes: int = OUTPUT_BYTES) -> None:
        self._work = work.absolute()
        self._output_bytes = output_bytes
        self._open: set[InlineWorker] = set()
        self._closed = False

    async def open(self, *, deadline_seconds: float, deadline_setting: str = "") -> InlineWorker:
        """A new worker; Unavailable if none can be had."""
        if self._closed:
            raise Unavailable("The server is stopping.")
        folder = self._work / str(uuid4())
        folder.mkdir(mode=0o700)
        worker = InlineWorker(folder, deadline_seconds, self._output_bytes, self._open.discard)
        worker.deadline_setting = deadline_setting
        self._open.add(worker)
        try:
            await worker.start()
        except BaseException:
            await worker.close(force=True)
            raise
        return worker

    async def close(self) -> None:
        """End all workers."""
        self._closed = True
        await asyncio.gather(*(worker.close(force=True) for worker in self._open))


class InlineWorker(CallingWorker):
    """The host's side of one workspace and its thread."""

    def __init__(
        self, folder: Path, deadline_seconds: float, output_bytes: int, on_closed: Callable[[InlineWorker], None]
    ) -> None:
        super().__init__(deadline_seconds, output_bytes)
        self._folder = folder
        self._on_closed = on_closed
        self._thread: _Thread | None = None
        self._gate: ThreadGate | None = None
        self._closed_reason = ""  # set once it is being closed
        self._is_left_behind = False
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()

    async def start(self) -> None:
        """Start the thread and wait until the workspace is its own."""
        self._inlet = Inlet(self.console)
        listener = _Listener(self._on_ready, self._on_answer, self._on_end)
        thread = _Thread(self._folder, self._inlet.writer, listener)
        try:
            thread.start()
        except RuntimeError as fault:
            os.close(self._inlet.writer)
            raise Unavailable(f"No thread can be started: {fault}") from None
        self._thread = thread
        await self._ready

    async def close(self, *, force: bool = False) -> None:
        """End the thread, unless its code does not stop, and remove the folder."""
        self._closed_reason = "it was closed by force" if force else "it was closed"
        if not force:
            self.interrupt()
            async with self._turn:  # a running call ends, or is given up after the grace
                pass
        self._lose(self.lost or self._closed_reason)
        if self._thread is not None and not self._is_left_behind:
            await self._end(self._thread)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        self._on_closed(self)

    async def _end(self, thread: _Thread) -> None:
        thread.calls.put(None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                while not self._ended.is_set():
                    self._signal_stop()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._ended.wait(), INSIST_SECONDS)
        if not self._ended.is_set():
            self._leave_behind("It was closed.")

    # --- one call --------------------------------------------------------------------------------------------------

    def _send(self, number: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        assert self._thread is not None
        assert self._gate is not None
        if self._closed_reason:  # while the call waited for its turn
            raise WorkerLost(self._closed_reason)
        if not function.__module__.startswith(RUNSPACE):
            raise MlhostError(f"{function.__module__}:{function.__name__} is not a function of the runtime")
        self._gate.forget()
        self._thread.calls.put((number, function, args))

    def _signal_stop(self) -> None:
        if self._gate is not None:
            self._gate.interrupt()

    def _give_up(self, reason: str) -> None:
        self._leave_behind(reason)
        assert self._thread is not None
        self._thread.calls.put(None)  # it ends when its code does, and what that came to is dropped

    def _leave_behind(self, reason: str) -> None:
        self._is_left_behind = True
        log.warning("code that does not stop is left running in the server")
        self._lose(f"{reason}, and its code still runs in the server")

    # --- what the thread tells, on the loop ------------------------------------------------------------------------

    def _on_ready(self, gate: ThreadGate) -> None:
        """The thread waits for calls."""
        self._gate = gate
        if not self._ready.done():
            self._ready.set_result(None)

    def _on_end(self, fault: str) -> None:
        """The thread is about to end; `fault` says why it should not have."""
        self._ended.set()
        if not self.lost:
            self._lose(f"its thread ended: {fault}")
        if not self._ready.done():
            self._ready.set_exception(Unavailable(f"No workspace can be had: {fault}"))
            self._ready.exception()


@dataclass(frozen=True, slots=True)
class _Listener:
    """Who is told, on the loop, what happens in a thread."""

    ready: Callable[[ThreadGate], None]
    answer: Callable[[int, MlhostError | None, Any], None]
    end: Callable[[str], None]


class _Thread(threading.Thread):
    """Where a workspace lives; `writer` is the descriptor it prints to, which it closes."""

    def __init__(self, folder: Path, writer: int, listener: _Listener) -> None:
        number = next(_numbers)
        super().__init__(name=f"mlhost workspace {number}", daemon=True)
        self.calls: SimpleQueue[tuple[int, Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        namespace = {"__name__": "__main__", "__doc__": None, "__builtins__": builtins}
        self._workspace = Workspace(namespace, folder, f"workspace {number}")
        self._writer = writer
        self._listener = listener
        self._loop = asyncio.get_running_loop()

    def run(self) -> None:
        """Make the workspace the thread's own, then answer one call after the other."""
        fault = ""
        try:
            with contextlib.closing(OwnStreams(self._writer)):
                _move_into(self._workspace.folder)
                self._tell(self._listener.ready, gate_of_this_thread())
                self._serve()
        except BaseException as unexpected:
            fault = f"{type(unexpected).__name__}: {unexpected}"
            log.exception("the thread of a workspace failed")
        finally:
            self._tell(self._listener.end, fault)

    def _serve(self) -> None:
        me = os.getpid()
        while (call := self.calls.get()) is not None:
            number, function, arguments = call
            error, result = None, None
            try:
                result = function(self._workspace, *arguments)
            except BaseException as raised:
                error = from_wire(to_wire(told(raised)))  # without its traceback, which holds the user's objects
            if os.getpid() != me:  # user code forked and its child came back here: it has no server to serve
                os._exit(0)
            self._tell(self._listener.answer, number, error, result)
            del call, arguments, error, result  # nothing of a call is kept while waiting for the next

    def _tell(self, callback: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody is left to be told
            self._loop.call_soon_threadsafe(callback, *args)


def _move_into(folder: Path) -> None:
    """Give the calling thread a working directory and a umask of its own, where the system can."""
    if sys.platform != "linux":
        return
    try:
        _unshare()
    except OSError as fault:
        log.warning("inline workspaces share the server's working directory: %s", fault)
        return
    os.chdir(folder)
    os.umask(0o077)


def _unshare() -> None:
    if sys.version_info >= (3, 12):
        os.unshare(CLONE_FS)
    elif ctypes.CDLL(None, use_errno=True).unshare(CLONE_FS):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
