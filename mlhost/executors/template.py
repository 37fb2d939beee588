"""The template process: imports the scientific stack once, then forks a worker whenever the host asks.

It runs `python -m mlhost.executors.template DESCRIPTOR MODULES ["1d"]` with one end of a socketpair; "1d" is
`runtime.accept_1d_samples`. The host sends ["fork", number, spec] with two descriptors (the worker's channel, its
console) or ["signal", number, signal]; it is told ["ready", missing modules], ["forked", number], ["failed", number,
why] and ["exited", number, wait status, peak bytes]. As the parent it alone signals workers, so a signal can never
reach a process id that was given away again. It never runs user code and never computes: a process forked after an
OpenMP region hangs.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
from typing import Any

from mlhost.executors import child, wire
from mlhost.runtime import onesample

PR_SET_PDEATHSIG = 1  # prctl(2)
MAX_DESCRIPTORS = 2  # that travel with one message


def main() -> None:
    """Serve the host at the other end of the descriptor until it is gone."""
    control = socket.socket(fileno=int(sys.argv[1]))
    die_with_parent()
    missing = preload(sys.argv[2].split(",") if sys.argv[2] else [])
    if sys.argv[3:] == ["1d"]:
        onesample.install()
    gc.collect()
    gc.freeze()  # without it a collection in a worker would copy every page of the template
    template = Template(control)
    template.send(["ready", missing])
    template.run()


def preload(modules: list[str]) -> list[str]:
    """Import the modules; return those that are not installed or do not import, with the reason."""
    missing = []
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as fault:  # a broken package must not keep the server from starting
            missing.append(f"{name} ({type(fault).__name__}: {fault})")
    return missing


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends (Linux; elsewhere the closed socket ends it)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Template:
    """The loop of the template process: messages from the host, and children that ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._numbers: dict[int, int] = {}  # process id -> worker number
        self._received = bytearray()
        self._descriptors: list[int] = []
        self._alarm, wakeup = socket.socketpair()
        self._alarm.setblocking(False)
        wakeup.setblocking(False)
        self._wakeup = wakeup
        signal.set_wakeup_fd(wakeup.fileno())
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the host's business

    def send(self, event: list[Any]) -> None:
        """Tell the host."""
        self._control.sendall(wire.pack(event))

    def run(self) -> None:
        """Until the host closes its end."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._alarm, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._alarm:
                        self._reap()
                    elif not self._receive():
                        return

    def _receive(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 65536, MAX_DESCRIPTORS)
        except ConnectionResetError:
            return False
        if not data:
            return False
        self._received += data
        self._descriptors += descriptors
        while (message := self._next_message()) is not None:
            if message[0] == "fork":
                self._fork(message[1], message[2])
            else:
                self._signal(message[1], message[2])
        return True

    def _next_message(self) -> Any:
        head = wire.LENGTH.size
        if len(self._received) < head:
            return None
        (length,) = wire.LENGTH.unpack_from(self._received)
        if len(self._received) < head + length:
            return None
        body = bytes(self._received[head : head + length])
        del self._received[: head + length]
        return wire.unpack(body)

    def _fork(self, number: int, spec: dict[str, Any]) -> None:
        channel, console = self._descriptors[:2]
        del self._descriptors[:2]
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as fault:
            self.send(["failed", number, str(fault)])
        else:
            if pid == 0:
                signal.set_wakeup_fd(-1)
                die_with_parent()
                if os.getppid() != parent:  # the template died before the line above took effect
                    os._exit(1)
                child.become(channel, console, spec)
            self._numbers[pid] = number
            self.send(["forked", number])
        os.close(channel)
        os.close(console)

    def _signal(self, number: int, which: int) -> None:
        for pid, owner in self._numbers.items():
            if owner == number:
                try:
                    os.killpg(pid, which)
                except ProcessLookupError:  # so young that it has not made its group yet
                    os.kill(pid, which)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._alarm.recv(4096):
                pass
        while self._numbers and (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)):
            pid = ended.si_pid
            # Before it is reaped its process id cannot be another's: end whatever it started.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            number = self._numbers.pop(pid, None)
            if number is not None:
                self.send(["exited", number, status, usage.ru_maxrss * child.RUSAGE_UNIT])


if __name__ == "__main__":
    main()
