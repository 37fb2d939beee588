"""The `inline` placement: workspaces in the server's own interpreter, each on one thread. For trusted code only.

A workspace has its namespace, its console (what Python prints), and what `threads` gives it. Everything else is the
server's: modules and what code sets in them, `random`, the environment, memory, `sys.modules["__main__"]` (so plain
pickle does not find the workspace's own classes; snapshots do). Files put into the folder cannot be imported: another
workspace would get the same module. `runtime.accept_1d_samples` changes scikit-learn for the whole interpreter, and
for good, from the first workspace on.

Code is interrupted by an exception at its next bytecode: one long call into C does not notice (nor does code that
swallows it). An interrupt can land while a library holds a lock. `os._exit`, a crash in C or too much memory take the
server along, and code that computes holds the interpreter up to 5 ms at a time, however many wait for it.
"""

from __future__ import annotations

import builtins
import contextlib
import itertools
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from mlhost.errors import MlhostError, from_wire, to_wire
from mlhost.executors import callables
from mlhost.executors.console import OUTPUT_BYTES
from mlhost.executors.faults import told
from mlhost.executors.spout import Spout
from mlhost.executors.threads import Listener, ThreadExecutor, WorkspaceThread
from mlhost.executors.trains import TRAIN_CALLS
from mlhost.executors.wire import RING_SECONDS
from mlhost.runtime import onesample
from mlhost.runtime.capture import OwnStreams
from mlhost.runtime.interrupt import ThreadGate, gate_of_this_thread
from mlhost.runtime.workspace import Workspace

_Train = tuple[int, Callable[..., Any], deque[tuple[Any, ...]]]  # the number of the first call, function, arguments

_numbers = itertools.count(1)  # of the workspaces of this interpreter, whose tracebacks name them


class InlineExecutor(ThreadExecutor):
    """Opens workspaces in this interpreter."""

    def __init__(self, work: Path, output_bytes: int = OUTPUT_BYTES, *, accept_1d_samples: bool = False) -> None:
        def make(folder: Path, console: int, listener: Listener) -> InlineThread:
            if accept_1d_samples:  # not before a workspace is opened: a server that has none stays as it is
                onesample.install()
            return InlineThread(folder, console, listener)

        super().__init__(work, make, output_bytes)


class InlineThread(WorkspaceThread):
    """One workspace in this interpreter."""

    carries = TRAIN_CALLS

    def __init__(self, folder: Path, console: int, listener: Listener) -> None:
        super().__init__(folder, console, listener)
        namespace = {"__name__": "__main__", "__doc__": None, "__builtins__": builtins}
        self._workspace = Workspace(namespace, folder, f"workspace {next(_numbers)}", is_alone=False)
        self._trains: SimpleQueue[_Train | None] = SimpleQueue()
        self._waiting: deque[tuple[Any, ...]] = deque()  # of the train put last, the calls that have not begun
        self._last = 0  # the number of the last of them
        self._done: deque[tuple[int, MlhostError | None, Any, bool]] = deque()  # what is to be told
        self._gate: ThreadGate | None = None
        self._spout = Spout(console)

    @property
    def begun(self) -> int:
        """See `WorkspaceThread`."""
        return self._last - len(self._waiting)

    def put(self, first: int, function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> None:
        """See `WorkspaceThread`."""
        callables.name_of(function)  # refuses what is none of the runtime's
        self._waiting = deque(calls)
        self._last = first + len(calls) - 1
        self._trains.put((first, function, self._waiting))

    def recall(self) -> int:
        """See `WorkspaceThread`; a call is whose who takes it out, which is atomic."""
        with contextlib.suppress(IndexError):
            while True:
                self._waiting.pop()
                self._last -= 1
        return self._last

    def collect(self) -> None:
        """See `WorkspaceThread`."""
        while self._done:
            self.listener.on_answer(*self._done.popleft())

    def interrupt(self, number: int) -> None:
        """See `WorkspaceThread`."""
        if self._gate is not None:
            self._gate.interrupt(number)

    def dismiss(self) -> None:
        """See `WorkspaceThread`."""
        self._trains.put(None)

    def live(self) -> None:
        """See `WorkspaceThread`."""
        with contextlib.closing(OwnStreams(self.console)):
            self._gate = gate_of_this_thread()
            self.tell(self.listener.on_ready)
            self._serve()

    def _serve(self) -> None:
        while (train := self._trains.get()) is not None:
            self._run(*train)
            del train  # nothing of it is kept while waiting for the next

    def _run(self, number: int, function: Callable[..., Any], waiting: deque[tuple[Any, ...]]) -> None:
        """The calls of a train, until the host takes back the rest, or one has printed something or failed."""
        assert self._gate is not None
        ring_at = time.monotonic() + RING_SECONDS
        while waiting:
            try:
                arguments = waiting.popleft()
            except IndexError:  # taken back in this very moment
                break
            self._gate.running = number
            error, result = self._answer(function, arguments)
            if has_ended := error is not None or self._spout.has_printed():
                waiting.clear()
            self._done.append((number, error, result, has_ended))
            number += 1
            if waiting and (now := time.monotonic()) > ring_at:
                self.tell(self.listener.on_bell)
                ring_at = now + RING_SECONDS
        self.tell(self.listener.on_bell)

    def _answer(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[MlhostError | None, Any]:
        me = os.getpid()
        try:
            return None, function(self._workspace, *arguments)
        except BaseException as raised:
            return from_wire(to_wire(told(raised))), None  # without its traceback, which holds the user's objects
        finally:
            if os.getpid() != me:  # user code forked and its child came back here: it has no server to serve
                os._exit(0)
