"""The `interpreter` placement: each workspace in a subinterpreter of the server's process, with its own GIL.

For trusted, pure-Python code on CPython 3.14 and later: earlier ones never give an interpreter's memory back and can
abort. What the interpreter does not hold apart it shares with the server: descriptors (what C code or a child process
prints is the server's output), memory, signals, the environment. Most compiled packages refuse to load, and say so.

Code is interrupted by a watchdog thread of its own interpreter, at its next bytecode; see `threads` for what does not
heed it. Threads that code started and left running keep their interpreter, and the end of the process, waiting.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlhost.errors import MlhostError, Unavailable
from mlhost.executors import guest
from mlhost.executors.channel import Channel
from mlhost.executors.console import OUTPUT_BYTES
from mlhost.executors.threads import Listener, ThreadExecutor, WorkspaceThread
from mlhost.runtime.workspace import ping

log = logging.getLogger(__name__)

NEEDS = (3, 14)
IS_SUPPORTED = sys.version_info >= NEEDS
GREETING = -1  # the number of a call whose answer shows that the interpreter is ready


class InterpreterExecutor(ThreadExecutor):
    """Opens workspaces in subinterpreters; Unavailable before CPython 3.14.

    `refusing` is asked at each start for the packages known not to load there, and why.
    """

    def __init__(
        self, work: Path, refusing: Callable[[], Mapping[str, str]] = dict, output_bytes: int = OUTPUT_BYTES
    ) -> None:
        if not IS_SUPPORTED:
            raise Unavailable(f"Sessions in subinterpreters need CPython {NEEDS[0]}.{NEEDS[1]} or later.")

        def make(folder: Path, console: int, listener: Listener) -> InterpreterThread:
            return InterpreterThread(folder, console, listener, refusing())

        super().__init__(work, make, output_bytes)


class InterpreterThread(WorkspaceThread):
    """One workspace in an interpreter of its own."""

    def __init__(self, folder: Path, console: int, listener: Listener, refusing: Mapping[str, str]) -> None:
        super().__init__(folder, console, listener)
        self._refusing = refusing
        self._put = 0  # the number of the call put last: there is one at a time
        self._channel = Channel(self._on_answer, self._on_disturbed, lambda: None)
        self._ours, self._theirs = socket.socketpair()
        self._alarm, self._watchdogs = socket.socketpair()
        self._alarm.setblocking(False)

    async def connect(self) -> None:
        """See `WorkspaceThread`."""
        await self._channel.connect(self._ours)
        self._channel.send(GREETING, GREETING, ping, [()])

    @property
    def begun(self) -> int:
        """See `WorkspaceThread`."""
        return self._put

    def put(self, first: int, function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> None:
        """See `WorkspaceThread`."""
        self._put = first
        self._channel.send(first, first, function, calls)

    def interrupt(self, number: int) -> None:
        """See `WorkspaceThread`."""
        try:
            self._alarm.send(guest.NUMBER.pack(number))
        except OSError as fault:  # it is over, or does not listen to a thousand interrupts
            log.debug("an interrupt was not delivered: %s", fault)

    def dismiss(self) -> None:
        """See `WorkspaceThread`."""
        self._channel.close()

    def live(self) -> None:
        """See `WorkspaceThread`."""
        from concurrent import interpreters  # type: ignore[attr-defined, unused-ignore] # there from 3.14 on

        try:
            interpreter = interpreters.create()
            try:
                interpreter.call(
                    guest.serve,
                    self._theirs.detach(),
                    self.console,
                    self._watchdogs.detach(),
                    str(self.folder),
                    dict(self._refusing),
                )
            finally:
                interpreter.close()
        finally:
            self._alarm.close()
            os.close(self.console)

    def _on_answer(self, number: int, error: MlhostError | None, result: Any) -> None:
        if number == GREETING:
            self.listener.on_ready()
        else:
            self.listener.on_answer(number, error, result, True)

    def _on_disturbed(self) -> None:
        log.warning("code in a subinterpreter disturbed its channel to the server")
