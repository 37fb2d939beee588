"""The `process` placement: each workspace in a process of its own, forked from a warm template."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate
from uuid import uuid4

from mlhost.errors import CodeFailed, MlhostError, Unavailable, WorkerLost, from_wire
from mlhost.executors import Given, Result, deaths, wire
from mlhost.executors.console import Console
from mlhost.executors.forking import ProcessSettings, Template
from mlhost.runtime.workspace import Workspace

GRACE_SECONDS = 2.0  # between asking a call or a worker to stop and killing it
READ_BYTES = 65536  # of console at a time


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

    async def open(self, *, deadline_seconds: float) -> ProcessWorker:
        """A new worker; Unavailable if none can be had."""
        template = await self._living_template()
        folder = self._work / str(uuid4())
        folder.mkdir(mode=0o700)
        worker = ProcessWorker(folder, deadline_seconds, self._settings.memory_bytes)
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


class ProcessWorker:
    """The host's side of one worker process."""

    def __init__(self, folder: Path, deadline_seconds: float, memory_bytes: int) -> None:
        self.console = Console()
        self.lost = ""
        self._folder = folder
        self._deadline_seconds = deadline_seconds
        self._memory_bytes = memory_bytes
        self._turn = asyncio.Lock()
        self._numbers = itertools.count()
        self._pending: tuple[int, asyncio.Future[Any]] | None = None
        self._stop_reason = ""  # why the host interrupted the pending call
        self._kill_reason = ""  # why the host killed the worker
        self._ended = asyncio.Event()
        self._timers: list[asyncio.TimerHandle] = []
        self._transport: asyncio.WriteTransport | None = None
        self._console_end: int | None = None
        self._template: Template | None = None
        self._number = 0

    @property
    def busy(self) -> bool:
        """Whether a call is running."""
        return self._pending is not None

    async def start(self, template: Template) -> None:
        """Have the template fork the process and connect to it."""
        ours, theirs = socket.socketpair()
        console_end, their_console = os.pipe()
        try:
            os.set_blocking(console_end, False)
            self._template, self._console_end = template, console_end
            loop = asyncio.get_running_loop()
            ours.setblocking(False)
            transport, _ = await loop.create_unix_connection(
                lambda: wire.FrameProtocol(self._on_reply, self._on_channel_end), sock=ours
            )
            self._transport = transport
            spec = {"folder": str(self._folder), "memory_bytes": self._memory_bytes}
            self._number = await template.fork(spec, (theirs.fileno(), their_console), self._on_exit)
        finally:
            theirs.close()
            os.close(their_console)
        if not self.lost:
            loop.add_reader(console_end, self._read_console)

    async def call(
        self,
        function: Callable[Concatenate[Workspace, Given], Result],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Result:
        """Run `function(workspace, *args)` in the worker; see `Worker.call`."""
        if kwargs:
            raise TypeError("arguments of a call travel by position")
        async with self._turn:
            result: Result = await self._exchange(f"{function.__module__}:{function.__name__}", args)
            return result

    def interrupt(self) -> bool:
        """SIGINT to the running call, and SIGKILL should it not have stopped within two seconds."""
        if self._pending is None:
            return False
        self._stop("")
        return True

    async def close(self, *, force: bool = False) -> None:
        """End the process, wait for its end and remove its folder."""
        if self._template is None:  # it never started
            self._on_exit(None)
        if not self._ended.is_set():
            await self._end(force)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _end(self, force: bool) -> None:
        if force:
            self._kill("it was closed by force")
        else:
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

    async def _exchange(self, function: str, args: tuple[Any, ...]) -> Any:
        if self.lost:
            raise WorkerLost(self.lost)
        loop = asyncio.get_running_loop()
        number, reply = next(self._numbers), loop.create_future()
        frame = wire.pack([number, function, args])
        self._pending, self._stop_reason = (number, reply), ""
        self._timers = [loop.call_later(self._deadline_seconds, self._expire)]
        assert self._transport is not None
        self._transport.write(frame)
        try:
            result = await reply
        except asyncio.CancelledError:
            await self._drain(number)
            raise
        except MlhostError:
            if self._stop_reason and not self.lost:
                raise CodeFailed(self._stop_reason) from None
            raise
        finally:
            self._pending = None
            for timer in self._timers:
                timer.cancel()
            self._read_console()
        if self._stop_reason:
            raise CodeFailed(self._stop_reason)
        return result

    async def _drain(self, number: int) -> None:
        """The caller went away: stop its call and wait for the reply, which nobody else must get."""
        reply = asyncio.get_running_loop().create_future()
        self._pending = (number, reply)
        if self.lost:
            return
        self._stop("The caller went away.")
        while not reply.done():
            with contextlib.suppress(asyncio.CancelledError):  # asked again: the grace bounds the wait
                await asyncio.wait([reply])
        reply.exception()

    def _expire(self) -> None:
        self._stop(f"Stopped after {self._deadline_seconds:g} seconds, the time one call may take.")

    def _stop(self, reason: str) -> None:
        self._stop_reason = reason
        self._signal(signal.SIGINT)
        loop = asyncio.get_running_loop()
        killing = reason or "it did not stop when it was interrupted"
        self._timers.append(loop.call_later(GRACE_SECONDS, self._kill, f"{killing} It had to be killed."))

    def _kill(self, reason: str) -> None:
        self._kill_reason = self._kill_reason or reason
        self._signal(signal.SIGKILL)

    def _signal(self, which: signal.Signals) -> None:
        if self._template is not None:
            self._template.signal(self._number, which)

    # --- what the worker sends -------------------------------------------------------------------------------------

    def _on_reply(self, document: Any) -> None:
        if not isinstance(document, list) or len(document) != 3:
            raise ValueError("not a reply")
        number, error, result = document
        if self._pending is None or self._pending[0] != number or self._pending[1].done():
            return  # user code wrote to the channel: nobody waits for this
        if error is None:
            self._pending[1].set_result(result)
        else:
            self._pending[1].set_exception(_error(error))

    def _on_channel_end(self) -> None:
        if not self._ended.is_set():
            self._signal(signal.SIGKILL)  # most often it has ended already, and the template will say how

    def _on_exit(self, ended: tuple[int, int] | None) -> None:
        """The process is gone: (wait status, peak bytes), or None if the template died with it."""
        if self._kill_reason:
            self.lost = self._kill_reason
        elif ended is None:
            self.lost = "the process that workers are forked from died"
        else:
            self.lost = deaths.describe(*ended, self._memory_bytes)
        self._ended.set()
        self._close_console()
        if self._transport is not None:
            self._transport.abort()
        if self._pending is not None and not self._pending[1].done():
            self._pending[1].set_exception(WorkerLost(self.lost))

    def _read_console(self) -> None:
        """Take what is in the pipe now; all that was printed before a reply is there when the reply is."""
        if self._console_end is None:
            return
        with contextlib.suppress(BlockingIOError):
            while printed := os.read(self._console_end, READ_BYTES):
                self.console.write(printed)
                if len(printed) < READ_BYTES:
                    break

    def _close_console(self) -> None:
        if self._console_end is not None:
            self._read_console()
            asyncio.get_running_loop().remove_reader(self._console_end)
            os.close(self._console_end)
            self._console_end = None


def _error(wire_error: Any) -> MlhostError:
    """The worker's error; one that user code made up must not break the host."""
    try:
        return from_wire(wire_error)
    except (KeyError, TypeError):
        return WorkerLost("it answered with something that is not an answer")
