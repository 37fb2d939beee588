"""Workspaces on threads of the server's process: what the `inline` and the `interpreter` placement have in common.

A workspace has its thread, its folder and, on Linux, a working directory and umask of its own; elsewhere the folder is
made but is not the current one. Nothing kills a thread: code that does not heed its interrupt is given up, the worker
is lost, and the code runs on until it ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import shutil
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from mlhost.errors import MlhostError, Unavailable
from mlhost.executors.calling import GRACE_SECONDS, CallingWorker
from mlhost.executors.console import OUTPUT_BYTES, Inlet
from mlhost.executors.trains import Train

log = logging.getLogger(__name__)

CLONE_FS = 0x200  # unshare(2): working directory and umask
INSIST_SECONDS = 0.1  # between interrupts of a worker that is being closed


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told, on the loop, what happens in a thread."""

    on_ready: Callable[[], None]  # it waits for calls
    on_answer: Callable[[int, MlhostError | None, Any, bool], None]  # see `CallingWorker._on_answer`
    on_bell: Callable[[], None]  # there are answers to be asked for
    on_end: Callable[[str], None]  # it is about to end; the text says why it should not have, if so


class WorkspaceThread(ABC, threading.Thread):
    """Where a workspace lives; it prints to the descriptor `console`, which the thread closes."""

    carries = 1  # calls that it may have at once

    def __init__(self, folder: Path, console: int, listener: Listener) -> None:
        super().__init__(name=f"mlhost workspace {folder.name}", daemon=True)
        self.folder = folder
        self.console = console
        self.listener = listener
        self._loop = asyncio.get_running_loop()

    def run(self) -> None:
        """Live in the folder until dismissed; whatever happens, the listener is told of the end."""
        fault = ""
        try:
            _move_into(self.folder)
            self.live()
        except BaseException as unexpected:
            fault = f"{type(unexpected).__name__}: {unexpected}"
            log.exception("the thread of a workspace failed")
        finally:
            self.tell(self.listener.on_end, fault)

    def tell(self, callback: Callable[..., None], *args: Any) -> None:
        """Call back on the loop."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody is left to be told
            self._loop.call_soon_threadsafe(callback, *args)

    @abstractmethod
    def live(self) -> None:
        """In the thread: tell when ready, then answer one call after the other."""

    # --- asked on the loop -----------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """What has to be done on the loop before the thread starts."""

    @abstractmethod
    def put(self, first: int, function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> None:
        """The next train: the arguments of its calls, which are numbered from `first` on."""

    @property
    @abstractmethod
    def begun(self) -> int:
        """The number of the call that has begun last."""

    def recall(self) -> int:
        """Have no more calls begin; the number of the one that has begun last."""
        return self.begun

    def collect(self) -> None:
        """Tell of all answers that are there by now."""

    @abstractmethod
    def interrupt(self, number: int) -> None:
        """Interrupt the user code of that call, now or when it begins."""

    @abstractmethod
    def dismiss(self) -> None:
        """There will be no more calls: the thread ends when its code does."""


MakeThread = Callable[[Path, int, Listener], WorkspaceThread]  # folder, console, listener


class ThreadExecutor:
    """Opens workspaces on threads of this process."""

    def __init__(self, work: Path, make: MakeThread, output_bytes: int = OUTPUT_BYTES) -> None:
        self._work = work.absolute()
        self._make = make
        self._output_bytes = output_bytes
        self._open: set[ThreadWorker] = set()
        self._closed = False

    async def open(self, *, deadline_seconds: float, deadline_setting: str = "") -> ThreadWorker:
        """A new worker; Unavailable if none can be had."""
        if self._closed:
            raise Unavailable("The server is stopping.")
        folder = self._work / str(uuid4())
        folder.mkdir(mode=0o700)
        worker = ThreadWorker(folder, deadline_seconds, self._output_bytes, self._open.discard)
        worker.deadline_setting = deadline_setting
        self._open.add(worker)
        try:
            await worker.start(self._make)
        except BaseException:
            await worker.close(force=True)
            raise
        return worker

    async def close(self) -> None:
        """End all workers."""
        self._closed = True
        await asyncio.gather(*(worker.close(force=True) for worker in self._open))


class ThreadWorker(CallingWorker):
    """The host's side of one workspace and its thread."""

    def __init__(
        self, folder: Path, deadline_seconds: float, output_bytes: int, on_closed: Callable[[ThreadWorker], None]
    ) -> None:
        super().__init__(folder, deadline_seconds, output_bytes)
        self._on_closed = on_closed
        self._thread: WorkspaceThread | None = None
        self._is_left_behind = False
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()

    @property
    def lingers(self) -> bool:
        """See `Worker`."""
        return self._is_left_behind and not self._ended.is_set()

    def resident_bytes(self) -> int:
        """See `Worker`; it lives in the server's memory."""
        return 0

    async def start(self, make: MakeThread) -> None:
        """Start the thread and wait until the workspace is its own."""
        self._inlet = Inlet(self.console)
        listener = Listener(self._on_ready, self._on_answer, self._collect, self._on_end)
        thread: WorkspaceThread | None = None
        try:
            thread = make(self.folder, self._inlet.writer, listener)
            await thread.connect()
            thread.start()
        except BaseException as fault:
            os.close(self._inlet.writer)
            if thread is not None:
                thread.dismiss()
            if isinstance(fault, (RuntimeError, OSError)):
                raise Unavailable(f"No thread can be started: {fault}") from None
            raise
        self._thread = thread
        self.carries = thread.carries
        await self._ready

    async def close(self, *, force: bool = False) -> None:
        """End the thread, unless its code does not stop, and remove the folder."""
        self._closed_reason = "it was closed by force" if force else "it was closed"
        if not force:
            self.interrupt()
            async with self._turn:  # a running call ends, or is given up after the grace
                await self._at_rest.wait()
        self._lose(self.lost or self._closed_reason)
        if self._thread is not None and not self._is_left_behind:
            await self._end(self._thread)
        gc.unfreeze()  # the workspace's objects may be among what the server keeps out of its collections
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
        self._on_closed(self)

    async def _end(self, thread: WorkspaceThread) -> None:
        thread.dismiss()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                while not self._ended.is_set():
                    thread.interrupt(thread.begun)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._ended.wait(), INSIST_SECONDS)
        if not self._ended.is_set():
            self._leave_behind("It was closed.")

    def tell_early(self, wanted: bool) -> None:
        """See `Worker`; nothing is gained here by calls that join, as the thread and the server take turns anyway."""

    # --- one train -------------------------------------------------------------------------------------------------

    def _send(self, train: Train) -> None:
        assert self._thread is not None
        self._thread.put(train.first, train.function, [call.args for call in train.calls])

    def _begun(self) -> int:
        return self._thread.begun if self._thread is not None else 0

    def _recall(self, train: Train) -> None:
        assert self._thread is not None
        self._on_recalled(train, self._thread.recall())

    def _take_answers(self) -> None:
        if self._thread is not None:
            self._thread.collect()

    def _lose(self, reason: str) -> None:
        if self._thread is not None:  # it may live on, and what goes back to its owner must not begin there
            self._thread.recall()
        super()._lose(reason)

    def _signal_stop(self, number: int) -> None:
        if self._thread is not None:
            self._thread.interrupt(number)

    def _give_up(self, reason: str) -> None:
        self._leave_behind(reason)
        assert self._thread is not None
        self._thread.dismiss()  # it ends when its code does, and what that came to is dropped

    def _leave_behind(self, reason: str) -> None:
        self._is_left_behind = True
        log.warning("code that does not stop is left running in the server, in %s: %s", self.folder, reason)
        self._lose(f"{reason}, and its code still runs in the server")

    # --- what the thread tells -------------------------------------------------------------------------------------

    def _on_ready(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _on_end(self, fault: str) -> None:
        self._ended.set()
        if not self.lost:
            self._lose(f"its thread ended: {fault}")
        if not self._ready.done():
            self._ready.set_exception(Unavailable(f"No workspace can be had: {fault}"))
            self._ready.exception()


def _move_into(folder: Path) -> None:
    """Give the calling thread a working directory and a umask of its own, where the system can."""
    if sys.platform != "linux":
        return
    try:
        _unshare()
    except OSError as fault:
        log.warning("workspaces on threads share the server's working directory: %s", fault)
        return
    os.chdir(folder)
    os.umask(0o077)


def _unshare() -> None:
    if sys.version_info >= (3, 12):
        os.unshare(CLONE_FS)
    elif ctypes.CDLL(None, use_errno=True).unshare(CLONE_FS):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
