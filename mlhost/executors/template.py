"""The template process: imports the scientific stack once, then forks a worker whenever the host asks.

It runs `python -m mlhost.executors.template DESCRIPTOR PROCESSES MODULES ["1d"]` with one end of a socketpair;
"1d" is `runtime.accept_1d_samples`. The host sends
["fork", number, spec] with three descriptors (the worker's channel, its console, its board) or ["signal", number,
signal]; it is told ["ready", missing modules], ["forked", number, process id], ["failed", number, why] and ["exited",
number, wait status, peak bytes, why the template killed it or ""]. As the parent it alone signals workers, so a signal
can never reach a process id that was given away again. It never runs user code and never computes: a process forked
after an OpenMP region hangs.

It is also the parent of every orphan below it. It ends a worker whose code has more than PROCESSES processes (0 = any),
whatever a dead worker's code left, and all of it when the host is gone. Only SIGKILL to the template itself leaves
something: the workers die with it, but processes that left their group are on their own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
from typing import Any

from mlhost.executors import child, families, kernel, wire
from mlhost.executors.crowds import Crowds
from mlhost.runtime import onesample

MAX_DESCRIPTORS = 3  # that travel with one message


def main() -> None:
    """Serve the host at the other end of the descriptor until it is gone."""
    control = socket.socket(fileno=int(sys.argv[1]))
    kernel.signal_when_parent_ends(signal.SIGTERM)  # it also ends should a process of the server's hold the socket open
    kernel.adopt_orphans()
    missing = preload(sys.argv[3].split(",") if sys.argv[3] else [])
    if sys.argv[4:] == ["1d"]:
        onesample.install()
    gc.collect()
    gc.freeze()  # without it a collection in a worker would copy every page of the template
    template = Template(control, int(sys.argv[2]))
    try:
        kernel.never_starve()  # else the processes it is to end could keep it from ending them
        template.send(["ready", missing])
        template.run()
    finally:
        template.end()


def preload(modules: list[str]) -> list[str]:
    """Import the modules; return those that are not installed or do not import, with the reason."""
    missing = []
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as fault:  # a broken package must not keep the server from starting
            missing.append(f"{name} ({type(fault).__name__}: {fault})")
    return missing


class Template:
    """The loop of the template process: messages from the host, and children that ended."""

    def __init__(self, control: socket.socket, processes: int) -> None:
        self._control = control
        self._host = os.getppid()
        self._numbers: dict[int, int] = {}  # process id -> worker number
        self._crowds = Crowds(processes)
        self._reasons: dict[int, str] = {}  # process id -> why it was killed here
        self._received = bytearray()
        self._descriptors: list[int] = []
        self._alarm, wakeup = socket.socketpair()
        self._alarm.setblocking(False)
        wakeup.setblocking(False)
        self._wakeup = wakeup
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        # Heard, so that they wake the loop up and are not lost to a worker that is being forked, but not obeyed: a
        # terminal's Ctrl-C and a SIGTERM to all of a service's processes are the host's business.
        for each in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda number, frame: None)

    def send(self, event: list[Any]) -> None:
        """Tell the host, unless it is gone, which `run` notices."""
        with contextlib.suppress(ConnectionError):
            self._control.sendall(wire.pack(event))

    def run(self) -> None:
        """Until the host closes its end or is gone."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._alarm, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(self._crowds.pause_seconds):
                    if key.fileobj is self._alarm:
                        self._reap()
                    elif not self._receive():
                        return
                if os.getppid() != self._host:
                    return
                for pid, reason in self._crowds.too_large():
                    self._reasons[pid] = reason

    def end(self) -> None:
        """Kill all workers, and everything their code started."""
        for pid in self._numbers:
            _kill_group(pid)
        families.sweep(lambda _: False)

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
        channel, console, board = self._descriptors[:MAX_DESCRIPTORS]
        del self._descriptors[:MAX_DESCRIPTORS]
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the worker lets it through when it can handle it
        try:
            pid = os.fork()
        except OSError as fault:
            self.send(["failed", number, str(fault)])
        else:
            if pid == 0:
                signal.set_wakeup_fd(-1)
                kernel.signal_when_parent_ends(signal.SIGKILL)
                if os.getppid() != parent:  # the template died before the line above took effect
                    os._exit(1)
                child.become(channel, console, board, spec)
            self._numbers[pid] = number
            self._crowds.add(pid, spec["mark"])
            self.send(["forked", number, pid])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for descriptor in (channel, console, board):
            os.close(descriptor)

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
        with contextlib.suppress(ChildProcessError):  # there is no child any more
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                self._take_leave(ended.si_pid)

    def _take_leave(self, pid: int) -> None:
        number = self._numbers.pop(pid, None)
        if number is not None:
            # Before it is reaped its process id cannot be another's: end whatever it started.
            _kill_group(pid)
        _, status, usage = os.wait4(pid, 0)
        if number is not None:
            self._crowds.remove(pid)
            peak_bytes = usage.ru_maxrss * child.RUSAGE_UNIT
            self.send(["exited", number, status, peak_bytes, self._reasons.pop(pid, "")])


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
