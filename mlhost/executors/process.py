"""The `process` placement: each workspace in a process of its own, forked from a warm template."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate
from uuid import uuid4

from mlhost.errors import CodeFailed, MlhostError, Unavailable, WorkerLost, from_wire
from mlhost.executors import Given, Result, deaths, wire
from mlhost.executors.console import Console
from mlhost.runtime.workspace import Workspace

log = logging.getLogger(__name__)

GRACE_SECONDS = 2.0  # between asking a call or a worker to stop and killing it
TEMPLATE_SECONDS = 120.0  # the longest the template may take for its imports on a slow disk
READ_BYTES = 65536  # of console at a time

# What workers may see of the server's environment; `runtime.environment` adds to it.
ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "TZ")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What workers are made with; the fields are the settings of the same names."""

    preload: tuple[str, ...] = ()
    threads: int = 1
    environment: tuple[str, ...] = ()
    memory_bytes: int = 0


class ProcessExecutor:
    """Forks workers from one template process, and starts a new template should that one die."""

    def __init__(self, work: Path, settings: ProcessSettings) -> None:
        self._work = work
        self._settings = settings
        self._template: _Template | None = None
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

    async def _living_template(self) -> _Template:
        async with self._starting:
            if self._closed:
                raise Unavailable("The server is stopping.")
            if self._template is not None and self._template.lost:
                await self._template.close()
                self._template = None
            if self._template is None:
                self._template = await _Template.start(self._work, self._settings)
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
        self._template: _Template | None = None
        self._number = 0

    @property
    def busy(self) -> bool:
        """Whether a call is running."""
        return self._pending is not None

    async def start(self, template: _Template) -> None:
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


class _Template:
    """The host's side of the template process."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.lost = False
        self._process = process
        self._control = control
        self._numbers = itertools.count(1)
        self._exits: dict[int, Callable[[tuple[int, int] | None], None]] = {}
        self._forks: dict[int, asyncio.Future[None]] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.BaseTransport | None = None

    @classmethod
    async def start(cls, work: Path, settings: ProcessSettings) -> _Template:
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = [sys.executable, "-P", "-m", "mlhost.executors.template", str(theirs.fileno())]
            process = subprocess.Popen(  # noqa: ASYNC220 - the start is short, and nothing else can be done before
                [*arguments, ",".join(settings.preload)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=work,
                env=_environment(settings, os.environ),
                start_new_session=True,
            )
        # One descriptor for the transport, which reads, and one for us: descriptors travel only by sendmsg.
        template = cls(process, ours.dup())
        ours.setblocking(False)
        template._transport, _ = await asyncio.get_running_loop().create_unix_connection(
            lambda: wire.FrameProtocol(template._on_event, template._on_end), sock=ours
        )
        return template

    async def fork(
        self,
        spec: Mapping[str, Any],
        descriptors: tuple[int, int],
        on_exit: Callable[[tuple[int, int] | None], None],
    ) -> int:
        """Fork a worker that gets the two descriptors; its number here. Unavailable if that cannot be."""
        try:
            async with asyncio.timeout(TEMPLATE_SECONDS):
                await asyncio.shield(self._ready)
        except TimeoutError:
            raise Unavailable(f"The template process is not ready after {TEMPLATE_SECONDS:g} s.") from None
        number = next(self._numbers)
        forked = self._forks[number] = asyncio.get_running_loop().create_future()
        self._exits[number] = on_exit
        try:
            self._send(["fork", number, spec], descriptors)
            await forked
        except BaseException:
            self._exits.pop(number, None)
            self.signal(number, signal.SIGKILL)
            raise
        finally:
            self._forks.pop(number, None)
        return number

    def signal(self, number: int, which: signal.Signals) -> None:
        """Signal a worker's process group; nothing happens if it has ended."""
        if not self.lost and number in self._exits:
            self._send(["signal", number, which.value])

    async def close(self) -> None:
        """End the process; the kernel ends its workers with it."""
        if self._transport is not None:
            self._transport.close()
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        self._on_end()

    def _send(self, message: list[Any], descriptors: tuple[int, ...] = ()) -> None:
        try:
            socket.send_fds(self._control, [wire.pack(message)], descriptors)
        except OSError as fault:
            raise Unavailable(f"The template process does not listen: {fault}") from fault

    def _on_event(self, event: Any) -> None:
        kind, *rest = event
        if kind == "exited":
            number, status, peak_bytes = rest
            if on_exit := self._exits.pop(number, None):
                on_exit((status, peak_bytes))
        elif kind == "ready":
            for module in rest[0]:
                log.info("not preloaded: %s", module)
            self._ready.set_result(None)
        elif forked := self._forks.get(rest[0]):
            if forked.done():
                return
            if kind == "forked":
                forked.set_result(None)
            else:
                forked.set_exception(Unavailable(f"No worker can be started: {rest[1]}"))

    def _on_end(self) -> None:
        if self.lost:
            return
        self.lost = True
        self._control.close()
        fault = Unavailable("The process that workers are forked from died; the next call starts a new one.")
        for waiting in (self._ready, *self._forks.values()):
            if not waiting.done():
                waiting.set_exception(fault)
                waiting.exception()  # nobody may be waiting, and that is no mistake
        exits, self._exits = self._exits, {}
        for on_exit in exits.values():
            on_exit(None)


def _environment(settings: ProcessSettings, environ: Mapping[str, str]) -> dict[str, str]:
    allowed = (*ENVIRONMENT, *settings.environment)
    kept = {name: environ[name] for name in allowed if name in environ}
    threads = dict.fromkeys(THREAD_VARIABLES, str(settings.threads))
    return {**kept, **threads, "MPLBACKEND": "Agg", "PYTHONUNBUFFERED": "1"}
