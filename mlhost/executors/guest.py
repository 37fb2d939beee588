"""The inside of a subinterpreter: its console, its watchdog, what it says of packages that refuse, and its loop.

Nothing here runs in the server's own interpreter. Threads it starts are of this interpreter, which is why a watchdog
can interrupt its code and nobody else can.
"""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from mlhost.executors import wire
from mlhost.executors.serving import answer, main_module
from mlhost.runtime import capture, imports, program  # noqa: F401 - loaded now, so that the first call need not
from mlhost.runtime.interrupt import ThreadGate, gate_of_this_thread
from mlhost.runtime.workspace import Workspace

NUMBER = struct.Struct("!q")  # of the call to interrupt: one message of the watchdog's socket


def serve(channel: int, console: int, alarm: int, folder: str, refusing: Mapping[str, str]) -> None:
    """Answer one call after the other until the host closes the channel.

    `channel` and `alarm` are sockets, closed at the end; `console` is a pipe that stays open, for threads that code
    left running. `refusing` are packages known not to load here, and why.
    """
    capture.install(console)
    sys.stdin = io.StringIO()
    sys.path.insert(0, "")  # modules the user uploads into the working directory
    imports.refuse(refusing)
    workspace = Workspace(main_module(), Path(folder), is_alone=False)
    gate = gate_of_this_thread()
    watchdog = _Watchdog(socket.socket(fileno=alarm), gate)
    watchdog.start()
    try:
        with socket.socket(fileno=channel) as frames:
            for _, number, function, (arguments,) in wire.frames(frames):
                gate.running = number
                reply, _ = answer(workspace, number, function, arguments)
                with contextlib.suppress(BrokenPipeError):  # the host has given this call up
                    frames.sendall(reply)
    finally:
        watchdog.stop()
        capture.flush()


class _Watchdog(threading.Thread):
    """Interrupts the code of a call whose number the host sends."""

    def __init__(self, alarm: socket.socket, gate: ThreadGate) -> None:
        super().__init__(name="mlhost watchdog")
        self._alarm = alarm
        self._gate = gate

    def run(self) -> None:
        """Until the other end is closed."""
        with self._alarm:
            while message := self._alarm.recv(NUMBER.size, socket.MSG_WAITALL):
                self._gate.interrupt(*NUMBER.unpack(message))

    def stop(self) -> None:
        """End, whatever the host does."""
        self._alarm.shutdown(socket.SHUT_RD)
        self.join()
