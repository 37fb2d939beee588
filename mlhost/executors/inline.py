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
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from mlhost.errors import from_wire, to_wire
from mlhost.executors import callables
from mlhost.executors.console import OUTPUT_BYTES
from mlhost.executors.faults import told
from mlhost.executors.threads import Listener, ThreadExecutor, WorkspaceThread
from mlhost.runtime import onesample
from mlhost.runtime.capture import OwnStreams
from mlhost.runtime.interrupt import ThreadGate, gate_of_this_thread
from mlhost.runtime.workspace import Workspace

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

    def __init__(self, folder: Path, console: int, listener: Listener) -> None:
        super().__init__(folder, console, listener)
        namespace = {"__name__": "__main__", "__doc__": None, "__builtins__": builtins}
        self._workspace = Workspace(namespace, folder, f"workspace {next(_numbers)}", is_alone=False)
        self._calls: SimpleQueue[tuple[int, Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._gate: ThreadGate | None = None

    def put(self, number: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """See `WorkspaceThread`."""
        callables.name_of(function)  # refuses what is none of the runtime's
        assert self._gate is not None
        self._gate.forget()
        self._calls.put((number, function, args))

    def interrupt(self, number: int) -> None:
        """See `WorkspaceThread`."""
        del number  # `put` forgets what came too late for the call before
        if self._gate is not None:
            self._gate.interrupt()

    def dismiss(self) -> None:
        """See `WorkspaceThread`."""
        self._calls.put(None)

    def live(self) -> None:
        """See `WorkspaceThread`."""
        with contextlib.closing(OwnStreams(self.console)):
            self._gate = gate_of_this_thread()
            self.tell(self.listener.on_ready)
            self._serve()

    def _serve(self) -> None:
        me = os.getpid()
        while (call := self._calls.get()) is not None:
            number, function, arguments = call
            error, result = None, None
            try:
                result = function(self._workspace, *arguments)
            except BaseException as raised:
                error = from_wire(to_wire(told(raised)))  # without its traceback, which holds the user's objects
            if os.getpid() != me:  # user code forked and its child came back here: it has no server to serve
                os._exit(0)
            self.tell(self.listener.on_answer, number, error, result)
            del call, arguments, error, result  # nothing of a call is kept while waiting for the next
