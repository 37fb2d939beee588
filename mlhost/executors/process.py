"""The `process` placement: each workspace in a process of its own, forked from a warm template."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from mlhost.errors import CodeFailed, Conflict, Invalid, MlhostError, NotFound, Unavailable, WorkerLost, from_wire
from mlhost.executors import deaths, wire
from mlhost.executors.calling import GRACE_SECONDS, CallingWorker
from mlhost.executors.console import Inlet
from mlhost.executors.families import new_mark
from mlhost.executors.forking import ProcessSettings, Template
from mlhost.executors.meter import Meter
from mlhost.runtime.interrupt import settle

SETTLE = f"{settle.__module__}:{settle.__name__}"
UNANSWERED = -1  # the number of a call whose answer nobody waits for


LAST_WORD_SECONDS = 1.5  # between the end of a channel and word of how its process ended, after a sweep at worst
DISTURBED = "its code closed or disturbed descriptor 3, the channel to the server"
RAISED = (MlhostError, Invalid, NotFound, Conflict, CodeFailed, Unavailable)  # by functions of the runtime


class ProcessExecutor:
    """Forks workers from one template process, and starts a new template should that one die."""

    def __init__(self, work: Path, settings: ProcessSettings) -> None:
        self._work = work
        self._settings = settings
        self._template: Template | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    async def start(self) -> None:
        """Start the template; its imports go on in the background, and the first worker waits for them."""
        await self._living_template()

    async def open(self, *, deadline_seconds: float, deadline_setting: str = "") -> ProcessWorker:
        """A new worker; Unavailable if none can be had."""
        template = await self._living_template()
        folder = self._work / str(uuid4())
        folder.mkdir(mode=0o700)
        worker = ProcessWorker(folder, deadline_seconds, self._settings)
        worker.deadline_setting = deadline_setting
        try:
            await worker.start(template)
        except BaseException:
            await worker.close(force=True)
            raise
        return worker

    async def close(self) -> None:
        """End the template, and with it every worker."""
        self._closed = True
        if self._template is not None:
            await self._template.close()

    async def _living_template(self) -> Template:
        async with self._starting:
            if self._closed:
                raise Unavailable("The server is stopping.")
            if self._template is not None and self._template.lost:
                await self._template.close()
                self._template = None
            if self._template is None:
                self._template = await Template.start(self._work, self._settings)
            return self._template


class ProcessWorker(CallingWorker):
    """The host's side of one worker process."""

    def __init__(self, folder: Path, deadline_seconds: float, settings: ProcessSettings) -> None:
        super().__init__(deadline_seconds, settings.output_bytes)
        self._folder = folder
        self._settings = settings
        self._meter: Meter | None = None
        self._kill_reason = ""  # why the host killed the worker
        self._closed_reason = ""  # set once it is being closed
        self._function: Callable[..., Any] | None = None  # of the pending call
        self._interrupts = 0  # sent since the worker last let them settle
        self._ended = asyncio.Event()
        self._transport: asyncio.WriteTransport | None = None
        self._template: Template | None = None
        self._number = 0

    async def start(self, template: Template) -> None:
        """Have the template fork the process and connect to it."""
        ours, theirs = socket.socketpair()
        self._inlet = Inlet(self.console)
        try:
            self._template = template
            ours.setblocking(False)
            transport, _ = await asyncio.get_running_loop().create_unix_connection(
                lambda: wire.FrameProtocol(self._on_reply, self._on_channel_end), sock=ours
            )
            self._transport = transport
            mark = new_mark()
            spec = {"folder": str(self._folder), "limits": self._settings.limits(), "mark": mark}
            forked = await template.fork(spec, (theirs.fileno(), self._inlet.writer), self._on_exit)
            self._number = forked.number
            self._meter = Meter(self._settings.cpu_seconds, forked, mark)
            self._first_look_seconds = self._meter.first_look_seconds
        finally:
            theirs.close()
            os.close(self._inlet.writer)

    async def close(self, *, force: bool = False) -> None:
        """End the process, wait for its end and remove its folder."""
        if self._template is None:
            self._on_exit("it never started")
        if not self._ended.is_set():
            await self._end(force)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _end(self, force: bool) -> None:
        if force:
            self._kill("it was closed by force")
        else:
            self._closed_reason = "it was closed"  # also for the calls that wait for their turn
            self.interrupt()
            async with self._turn:  # a running call ends, or is ended after the grace
                if self._transport is not None:
                    self._transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await self._ended.wait()
        if not self._ended.is_set():
            self._kill("it did not end when it was closed")
            await self._ended.wait()

    # --- one call --------------------------------------------------------------------------------------------------

    def _send(self, number: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        assert self._transport is not None
        if self._closed_reason:
            raise WorkerLost(self._closed_reason)
        self._function = function
        if self._meter is not None:
            self._meter.start()
        frame = wire.pack([number, f"{function.__module__}:{function.__name__}", args])
        if self._interrupts:  # one of them may still be on its way, and it was not meant for this call
            self._transport.write(wire.pack([UNANSWERED, SETTLE, [self._interrupts]]))
            self._interrupts = 0
        self._transport.write(frame)

    def _look(self) -> float:
        assert self._meter is not None
        left = self._meter.left()
        if left <= 0:
            most = self._settings.cpu_seconds
            self._stop(f"after {most:g} seconds of processor time, all that one call may use (limits.cpu_seconds)")
            return math.inf
        return self._meter.wait_seconds(left)

    def _signal_stop(self) -> None:
        self._interrupts += 1
        self._signal(signal.SIGINT)

    def _give_up(self, reason: str) -> None:
        self._kill(f"{reason}, so it was killed")

    def _kill(self, reason: str) -> None:
        self._kill_reason = self._kill_reason or reason
        self._signal(signal.SIGKILL)

    def _signal(self, which: signal.Signals) -> None:
        if self._template is not None:
            self._template.signal(self._number, which)

    # --- what the worker sends -------------------------------------------------------------------------------------

    def _on_reply(self, body: memoryview) -> None:
        try:
            reply = wire.unpack_reply(body)
            if self._pending is None or reply.number != self._pending[0] or self._function is None:
                return  # an answer nobody waits for, or one that user code made up
            result = None if reply.error else wire.unpack_result(reply, self._function)
        except wire.NotAFrame:
            self._kill(DISTURBED)
            raise
        self._on_answer(reply.number, _error(reply.error) if reply.error else None, result)

    def _on_channel_end(self) -> None:
        if not self._ended.is_set():  # most often it has ended, and the template is about to say how
            asyncio.get_running_loop().call_later(LAST_WORD_SECONDS, self._kill, DISTURBED)

    def _on_exit(self, ended: tuple[int, int] | str) -> None:
        """The process is gone: (wait status, peak bytes), or the reason in words."""
        self._ended.set()
        if self._transport is not None:
            self._transport.abort()
        told = ended if isinstance(ended, str) else deaths.describe(*ended, self._settings.memory_bytes)
        self._lose(self._kill_reason or self._closed_reason or told)


def _error(error: wire.WireError) -> MlhostError:
    """The worker's error; of a kind that no function of the runtime raises, it is a fault of ours."""
    told = from_wire(msgspec.structs.asdict(error))
    return told if type(told) in RAISED else MlhostError(told.message)
