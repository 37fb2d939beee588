"""The host's side of the template process: start it, have it fork workers, hear how they end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlhost.errors import Unavailable
from mlhost.executors import wire
from mlhost.executors.channel import FrameProtocol
from mlhost.executors.console import OUTPUT_BYTES
from mlhost.executors.pythons import Python

log = logging.getLogger(__name__)

FORK_SECONDS = 10.0  # the longest a fork may take on a busy machine
TEMPLATE_SECONDS = 120.0  # the longest the template may take for its imports on a slow disk
END_SECONDS = 5.0  # the longest it may take to end all workers and what their code started

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
    open_files: int = 0
    file_bytes: int = 0
    processes: int = 0
    cpu_seconds: float = 0.0
    output_bytes: int = OUTPUT_BYTES
    accept_1d_samples: bool = False
    python: str = ""

    def limits(self) -> dict[str, int]:
        """What the kernel holds each process of a worker to: setting -> bytes or count, 0 = no limit."""
        return {f"limits.{name}": getattr(self, name) for name in ("memory_bytes", "open_files", "file_bytes")}


OnExit = Callable[[tuple[int, int] | str], None]  # told (wait status, peak bytes), or the reason in words


@dataclass(frozen=True, slots=True)
class Forked:
    """A worker process: its number with its template, and the process ids of both."""

    number: int
    pid: int
    template_pid: int


class Template:
    """One running template process; when it dies its workers die with it, and another must be started."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.lost = False
        self._process = process
        self._control = control
        self._numbers = itertools.count(1)
        self._exits: dict[int, OnExit] = {}
        self._forks: dict[int, asyncio.Future[int]] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.BaseTransport | None = None

    @classmethod
    async def start(cls, work: Path, settings: ProcessSettings, python: Python) -> Template:
        """Start the process in the folder `work`; its imports go on while this returns."""
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = [python.path, "-P", "-m", "mlhost.executors.template", str(theirs.fileno())]
            flags = ["1d"] if settings.accept_1d_samples else []
            process = subprocess.Popen(  # noqa: ASYNC220 - the start is short, and nothing else can be done before
                [*arguments, str(settings.processes), ",".join(settings.preload), *flags],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=work,
                env=_environment(settings, os.environ, python),
                start_new_session=True,
            )
        # One descriptor for the transport, which reads, and one for us: descriptors travel only by sendmsg.
        template = cls(process, ours.dup())
        ours.setblocking(False)
        template._transport, _ = await asyncio.get_running_loop().create_unix_connection(
            lambda: FrameProtocol(template._on_event, template._on_end), sock=ours
        )
        return template

    async def fork(
        self,
        spec: Mapping[str, Any],
        descriptors: tuple[int, int, int],
        on_exit: OnExit,
    ) -> Forked:
        """Fork a worker that gets the descriptors; Unavailable if that cannot be.

        When this raises there is no worker, or none for long, and `on_exit` is never told.
        """
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
            async with asyncio.timeout(FORK_SECONDS):
                pid = await forked
        except TimeoutError:
            self._exits.pop(number, None)
            self._process.kill()  # it hangs: the next worker is forked from a new one
            raise Unavailable(f"The template process did not fork a worker within {FORK_SECONDS:g} s.") from None
        except BaseException:
            with contextlib.suppress(Unavailable):  # the template is gone, and all workers with it
                self.signal(number, signal.SIGKILL)  # should it be forked all the same
            self._exits.pop(number, None)
            raise
        finally:
            self._forks.pop(number, None)
        return Forked(number, pid, self._process.pid)

    def signal(self, number: int, which: signal.Signals) -> None:
        """Signal a worker's process group; nothing happens if it has ended."""
        if not self.lost and number in self._exits:
            self._send(["signal", number, which.value])

    async def close(self) -> None:
        """End the process, which ends its workers first, and everything their code started."""
        if not self._ready.done():  # it has no workers and does not listen yet
            self._process.kill()
        if self._transport is not None:
            self._transport.close()
        self._end("the server stopped")
        try:
            await asyncio.to_thread(self._process.wait, END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the kernel ends the workers with it
            await asyncio.to_thread(self._process.wait)

    def _send(self, message: list[Any], descriptors: tuple[int, ...] = ()) -> None:
        try:
            socket.send_fds(self._control, [wire.pack(message)], descriptors)
        except OSError as fault:
            raise Unavailable(f"The template process does not listen: {fault}") from fault

    def _on_event(self, body: memoryview) -> None:
        kind, *rest = wire.unpack(body)
        if kind == "exited":
            number, status, peak_bytes, reason = rest
            if on_exit := self._exits.pop(number, None):
                on_exit(reason or (status, peak_bytes))
        elif kind == "ready":
            for module in rest[0]:
                log.info("not preloaded: %s", module)
            self._ready.set_result(None)
        elif forked := self._forks.get(rest[0]):
            if forked.done():
                return
            if kind == "forked":
                forked.set_result(rest[1])
            else:
                forked.set_exception(Unavailable(f"No worker can be started: {rest[1]}"))

    def _on_end(self) -> None:
        self._end("the process that workers are forked from died")

    def _end(self, reason: str) -> None:
        if self.lost:
            return
        self.lost = True
        self._control.close()
        fault = Unavailable("The process that workers are forked from died; the next call starts a new one.")
        waiters: list[asyncio.Future[Any]] = [self._ready, *self._forks.values()]
        for waiting in waiters:
            if not waiting.done():
                waiting.set_exception(fault)
                waiting.exception()  # nobody may be waiting, and that is no mistake
        exits, self._exits = self._exits, {}
        for on_exit in exits.values():
            on_exit(reason)


def _environment(settings: ProcessSettings, environ: Mapping[str, str], python: Python) -> dict[str, str]:
    allowed = (*ENVIRONMENT, *settings.environment)
    kept = {name: environ[name] for name in allowed if name in environ}
    if python.links:  # the server's own path holds modules of another Python
        kept["PYTHONPATH"] = python.links
    threads = dict.fromkeys(THREAD_VARIABLES, str(settings.threads))
    return {**kept, **threads, "MPLBACKEND": "Agg", "PYTHONUNBUFFERED": "1"}
