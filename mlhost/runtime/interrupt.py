"""Where user code may be interrupted: only between `with interruptible():` and its end.

An interrupt that comes before the user code of its call has begun is kept until it does; the host has one that came
after it forgotten before the next call. So it can never tear our own bookkeeping in two, nor reach another call. In a
process worker an interrupt is SIGINT to the main thread; a thread of the server that holds a workspace is interrupted
by an asynchronous exception.
"""

from __future__ import annotations

import ctypes
import threading
import time
from types import FrameType, TracebackType

from mlhost.runtime.workspace import Workspace

SETTLE_SECONDS = 0.1  # for signals still on their way, or merged into one by the system


class Gate:
    """Open while user code runs; the first interrupt closes it, so that one interrupt raises once."""

    __slots__ = ("asked", "is_open", "seen")

    def __init__(self) -> None:
        self.is_open = False
        self.asked = False  # whether an interrupt came while it was closed
        self.seen = 0  # signals that arrived since the host last asked

    def __enter__(self) -> None:
        self.is_open = True
        if self.asked:
            self.asked = self.is_open = False
            raise KeyboardInterrupt

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.is_open = False


class ThreadGate(Gate):
    """The gate of the thread that makes it, through which another thread interrupts its user code.

    The exception must be sent only while the gate is open, and must have arrived before anything else runs. So there
    is one token while the gate is open, and `list.pop`, which is atomic, decides who gets it: the thread that leaves,
    then nobody sends; or the one who interrupts, then the thread does not leave before the exception is raised, in
    the user code or, too late for that, where it is swallowed.
    """

    __slots__ = ("_sending", "_thread", "_token")

    def __init__(self) -> None:
        super().__init__()
        self._token: list[None] = []
        self._sending = threading.Lock()
        self._thread = threading.get_ident()

    def __enter__(self) -> None:
        self._token.append(None)
        if self.asked:
            self.asked = False
            if self._take():
                raise KeyboardInterrupt

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if not self._take():
            self._swallow()

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the thread's user code, now or when it begins."""
        with self._sending:
            self.asked = True  # before the token is tried for: the thread looks the other way round
            if self._take():
                self.asked = False
                _raise_in(self._thread, KeyboardInterrupt)

    def forget(self) -> None:
        """An interrupt that nothing came of was for a call that is over."""
        self.asked = False

    def _swallow(self) -> None:
        """Leave only when no exception is on its way any more.

        It is not taken back but raised and caught: CPython 3.11 clears the flag that makes all threads look for
        exceptions only when one is raised, and left standing it slows every thread down, or hangs a traced one.
        """
        try:
            while self._sending.locked():  # not acquired: the exception may be raised here, with the lock held
                time.sleep(0)
            _raise_in(self._thread, KeyboardInterrupt)  # in the place of one that has not been raised yet
            while True:
                pass
        except KeyboardInterrupt:
            pass

    def _take(self) -> bool:
        try:
            self._token.pop()
        except IndexError:
            return False
        return True


class _Here(threading.local):
    gate = Gate()  # the one of all threads that made none of their own


_main = _Here.gate
_here = _Here()


def interruptible() -> Gate:
    """A `with` block in which an interrupt raises KeyboardInterrupt; put it inside the `try` that tells of it."""
    return _here.gate


def gate_of_this_thread() -> ThreadGate:
    """From now on user code in the calling thread is interrupted through this gate."""
    _here.gate = gate = ThreadGate()
    return gate


# --- in a process worker -------------------------------------------------------------------------------------------


def on_signal(number: int, frame: FrameType | None) -> None:
    """The handler of SIGINT in a process worker."""
    _main.seen += 1
    if _main.is_open:
        _main.is_open = False
        raise KeyboardInterrupt
    _main.asked = True


def settle(workspace: Workspace, sent: int) -> None:
    """Let the signals arrive that the host has `sent` to the call before, and forget them."""
    del workspace
    latest = time.monotonic() + SETTLE_SECONDS
    while _main.seen < sent and time.monotonic() < latest:
        time.sleep(0.001)
    _main.seen = max(0, _main.seen - sent)
    _main.asked = _main.seen > 0  # one more has come: it is for the next call


def _raise_in(thread: int, exception: type[BaseException]) -> None:
    """Have the exception raised at the thread's next bytecode, in the place of one that has not been raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(exception))
