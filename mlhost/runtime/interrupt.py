"""Where user code may be interrupted: only between `with interruptible():` and its end.

An interrupt (SIGINT in a process worker) that arrives at any other moment is too late or too early and is ignored, so
that it can never tear our own bookkeeping in two.
"""

from __future__ import annotations

from types import FrameType, TracebackType


class _Gate:
    """Open while user code runs; the first interrupt closes it, so that one interrupt raises once."""

    __slots__ = ("is_open",)

    def __init__(self) -> None:
        self.is_open = False

    def __enter__(self) -> None:
        self.is_open = True

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.is_open = False


_gate = _Gate()


def interruptible() -> _Gate:
    """A `with` block in which an interrupt raises KeyboardInterrupt; put it inside the `try` that tells of it."""
    return _gate


def on_signal(number: int, frame: FrameType | None) -> None:
    """The handler of SIGINT in a process worker."""
    if _gate.is_open:
        _gate.is_open = False
        raise KeyboardInterrupt
