"""Where user code may be interrupted: only between `with interruptible():` and its end.

An interrupt names the call it is for. One that comes before the user code of that call has begun is kept until it does;
one that comes while another call runs does nothing. So it can never tear our own bookkeeping in two, nor reach another
call. In a process worker an interrupt is SIGINT to the main thread; a thread of the server that holds a workspace is
interrupted by an asynchronous exception.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

NOBODY = -1
LATE_SECONDS = 10.0  # no signal is longer on its way from the host


class Gate:
    """Open while user code runs; the first interrupt closes it, so that one interrupt raises once."""

    __slots__ = ("_heeded", "is_open", "order", "running")

    def __init__(self) -> None:
        self.is_open = False
        self.running = 0  # the number of the call that runs
        self.order: Callable[[], tuple[int, float]] = lambda: (0, 0.0)  # the call to interrupt, and since when
        self._heeded = 0  # the number of the call that was interrupted

    def __enter__(self) -> None:
        self.is_open = True
        if self._heeded != self.running and self.order()[0] == self.running:
            self._heed()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.is_open = False

    def on_signal(self) -> None:
        """A signal came: the host's, or one that user code sent to itself."""
        meant, sent = self.order()
        if meant != self.running and time.monotonic() - sent < LATE_SECONDS:
            return  # it came too late for its call, or too early
        if self.is_open:
            self._heed()
        self._heeded = 0  # once more when it opens

    def _heed(self) -> None:
        self.is_open = False
        self._heeded = self.running
        raise KeyboardInterrupt


class ThreadGate(Gate):
    """The gate of the thread that makes it, through which another thread interrupts its user code.

    The exception must be sent only while the gate is open for the call it is meant for, and must have arrived before
    anything else runs. So there is a token with the number of the call while the gate is open, and `dict.pop`, which is
    atomic, decides who gets it: the thread that leaves, then nobody sends; or the one who interrupts, then the thread
    does not leave before the exception is raised, in the user code or, too late for that, where it is swallowed.
    """

    __slots__ = ("_asked", "_sending", "_thread", "_token")

    def __init__(self) -> None:
        super().__init__()
        self._asked = NOBODY  # the call to interrupt, as long as that has not been done
        self._token: dict[int, bool] = {}
        self._sending = threading.Lock()
        self._thread = threading.get_ident()

    def __enter__(self) -> None:
        self._token[self.running] = True
        if self._asked == self.running:
            self._asked = NOBODY
            if self._take(self.running):
                raise KeyboardInterrupt

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if not self._take(self.running):
            self._swallow()

    def interrupt(self, number: int) -> None:
        """Raise KeyboardInterrupt in the user code of that call, now or when it begins."""
        with self._sending:
            self._asked = number  # before the token is tried for: the thread looks the other way round
            if self._take(number):
                self._asked = NOBODY
                _raise_in(self._thread, KeyboardInterrupt)

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

    def _take(self, number: int) -> bool:
        return self._token.pop(number, False)


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


def main_gate() -> Gate:
    """The gate of a process worker, whose main thread is interrupted by a signal."""
    return _main


def on_signal(number: int, frame: FrameType | None) -> None:
    """The handler of SIGINT in a process worker."""
    _main.on_signal()


def _raise_in(thread: int, exception: type[BaseException]) -> None:
    """Have the exception raised at the thread's next bytecode, in the place of one that has not been raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(exception))
