"""Calls on their way to a worker: one by itself, or a train of several that it runs one after the other."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Protocol

from mlhost.errors import CodeFailed, Invalid, MlhostError, WorkerLost
from mlhost.runtime.parcels import Kept, Parcel

log = logging.getLogger(__name__)

TRAIN_CALLS = 16  # that a worker has at once, at the most
JOINABLE_CALLS = 256  # that a train has had; then others join it no more, and its worker is weighed or lent to somebody
FEW_CALLS = 2  # left of a train that others are to join
RIDING_BYTES = 4096  # what a call may be passed that travels with others
HARMLESS = (CodeFailed, Invalid, WorkerLost)  # after any other error a worker is not to be trusted


class Call(ABC):
    """A function of the runtime, what it is passed, and whoever is told what it comes to."""

    __slots__ = ("_is_done", "args", "asked", "console", "function", "sent")

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function = function
        self.args = args
        self.console = ""  # what it printed, once it is answered
        self.asked = perf_counter()
        self.sent = 0.0  # to the worker that ran it, by the same clock
        self._is_done = False

    @property
    def is_small(self) -> bool:
        """Whether it may travel together with others."""
        return sum(map(len, self.args)) <= RIDING_BYTES

    def done(self) -> bool:
        """Whether it is answered, or nobody waits for the answer any more."""
        return self._is_done

    def drop(self) -> None:
        """Nobody waits for it any more."""
        self._is_done = True

    def answer(self, error: Exception | None, result: Any) -> None:
        """Tell whoever still waits."""
        if self.done():
            if isinstance(result, Parcel):  # which nobody else would close
                result.close()
            return
        self._is_done = True
        try:
            self._tell(error, result)
        except Exception:  # a fault of ours, from which neither the worker nor its other calls may suffer
            log.exception("an answer could not be passed on")

    @abstractmethod
    def _tell(self, error: Exception | None, result: Any) -> None:
        """Called once, on the loop, while the worker is being attended to."""


class Awaited(Call):
    """A call of somebody who awaits its `reply`."""

    __slots__ = ("reply",)

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__(function, *args)
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(self) -> bool:
        """See `Call`."""
        return self.reply.done()

    def drop(self) -> None:
        """See `Call`; it is no mistake that nobody looks at what came in this very moment."""
        if not self.reply.cancel() and not self.reply.cancelled():
            self.reply.exception()

    def _tell(self, error: Exception | None, result: Any) -> None:
        if error is None:
            self.reply.set_result(result)
        else:
            self.reply.set_exception(error)


class Owner(Protocol):
    """Who sent a train; told, on the loop, what becomes of it."""

    @property
    def has_more(self) -> bool:
        """Whether calls wait for a worker."""

    def on_back(self, calls: list[Call]) -> None:
        """These had not begun and are the owner's again."""

    def on_nearly_over(self, train: Train) -> None:
        """Few of its calls are left, and others may join it: see `Worker.join`."""

    def on_over(self, train: Train) -> None:
        """All others are answered, but for one whose answer is `kept`, and the worker is free."""


class Train:
    """Calls of one function that a worker has and has not answered yet, in order."""

    __slots__ = ("calls", "count", "first", "function", "is_spoiled", "is_whole", "kept", "number", "owner")

    def __init__(self, first: int, calls: Sequence[Call], owner: Owner | None) -> None:
        self.first = self.number = first  # of the first call, and of the first that is not answered
        self.calls = deque(calls)
        self.function = calls[0].function
        self.owner = owner
        self.count = 0  # of calls that were answered
        self.is_whole = True  # none failed, was stopped or printed
        self.is_spoiled = False  # the worker is not to be used again
        self.kept: tuple[Call, Kept] | None = None  # whose answer is to be fetched before the worker has another call

    @property
    def is_nearly_over(self) -> bool:
        """Whether others should join soon, and may."""
        return 0 < len(self.calls) <= FEW_CALLS and self.last - self.first < JOINABLE_CALLS

    @property
    def last(self) -> int:
        """The number of its last call."""
        return self.number + len(self.calls) - 1

    def next(self) -> Call:
        """The call that is answered now."""
        self.number += 1
        self.count += 1
        return self.calls.popleft()

    def note(self, error: MlhostError | None) -> None:
        """What one call came to."""
        if error is not None:
            self.is_whole = False
            self.is_spoiled = self.is_spoiled or not isinstance(error, HARMLESS)

    def leave(self, begun: int) -> list[Call]:
        """Take out those after the number `begun`."""
        kept = min(max(begun - self.number + 1, 0), len(self.calls))
        left = [self.calls.pop() for _ in range(len(self.calls) - kept)]
        left.reverse()
        return left
