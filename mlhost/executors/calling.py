"""What every worker does the same way: one call at a time, with a deadline, stopped when asked, answered to its caller.

A placement adds how a call reaches the workspace, how its code is interrupted, and what becomes of code that does not
stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Concatenate

from mlhost.errors import CodeFailed, MlhostError, WorkerLost
from mlhost.executors import Given, Result
from mlhost.executors.console import Console, Inlet
from mlhost.runtime.workspace import Workspace

GRACE_SECONDS = 1.8  # between asking a call or a worker to stop and giving it up: it is gone within two seconds


class CallingWorker(ABC):
    """A `Worker` without its placement."""

    _first_look_seconds = math.inf  # between the start of a call and the first `_look`

    def __init__(self, deadline_seconds: float, output_bytes: int) -> None:
        self.console = Console(output_bytes)
        self.lost = ""
        self.deadline_seconds = deadline_seconds
        self.deadline_setting = ""
        self.python = platform.python_version()
        self._inlet: Inlet | None = None
        self._turn = asyncio.Lock()
        self._numbers = itertools.count()
        self._pending: tuple[int, asyncio.Future[Any]] | None = None
        self._answered = -1  # the number of the last call whose reply came
        self._stop_reason = ""  # why the host interrupted the pending call: "after 5 seconds"
        self._closed_reason = ""  # set once it is being closed, also for the calls that wait for their turn
        self._deadline = 0.0  # of the pending call, by the loop's clock
        self._next_look = 0.0  # at it, by the same
        self._watch: asyncio.TimerHandle | None = None  # left running from one call to the next: it seldom fires
        self._stopping: list[asyncio.TimerHandle] = []

    @property
    def lingers(self) -> bool:
        """Whether its code runs on in the server although the worker is lost."""
        return False

    @property
    def busy(self) -> bool:
        """Whether a call is running."""
        return self._pending is not None

    async def call(
        self,
        function: Callable[Concatenate[Workspace, Given], Result],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Result:
        """Run `function(workspace, *args)` in the worker; see `Worker.call`."""
        if kwargs:
            raise TypeError("arguments of a call travel by position")
        async with self._turn:
            result: Result = await self._exchange(function, args)
            return result

    def interrupt(self) -> bool:
        """Interrupt the running call, and give it up should it not have stopped within two seconds."""
        if self._pending is None:
            return False
        self._stop("")
        return True

    # --- the placement's part --------------------------------------------------------------------------------------

    @abstractmethod
    def _send(self, number: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Have the call run; `_on_answer` is told the same number when it has."""

    @abstractmethod
    def _signal_stop(self) -> None:
        """Interrupt the user code of the pending call."""

    @abstractmethod
    def _give_up(self, reason: str) -> None:
        """The pending call has not stopped within the grace; `reason` is a clause."""

    def _look(self) -> float:
        """See whether the pending call keeps the placement's own limits, else stop it; seconds until the next look."""
        return math.inf

    def _on_answer(self, number: int, error: MlhostError | None, result: Any) -> None:
        """What the call of that number came to."""
        if self._pending is None or self._pending[0] != number:
            return  # nobody waits for it
        self._answered = number
        if self._pending[1].done():  # the caller is going away
            return
        if error is None:
            self._pending[1].set_result(result)
        else:
            self._pending[1].set_exception(error)

    def _lose(self, reason: str) -> None:
        """The worker is no more: tell the caller that waits, and whoever calls later."""
        self.lost = reason
        if self._watch is not None:
            self._watch.cancel()
        if self._inlet is not None:
            self._inlet.close()
        if self._pending is not None and not self._pending[1].done():
            self._pending[1].set_exception(WorkerLost(reason))

    # --- one call --------------------------------------------------------------------------------------------------

    async def _exchange(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if reason := self.lost or self._closed_reason:
            raise WorkerLost(reason)
        loop = asyncio.get_running_loop()
        number, reply = next(self._numbers), loop.create_future()
        self._pending, self._stop_reason = (number, reply), ""
        started = loop.time()
        self._deadline = started + self.deadline_seconds
        self._next_look = started + min(self.deadline_seconds, self._first_look_seconds)
        if self._watch is None or self._watch.when() > self._next_look:
            self._watch_from(self._next_look)
        try:
            self._send(number, function, args)
            result = await reply
        except asyncio.CancelledError:
            await self._drain(number, reply)
            raise
        except MlhostError:
            if self._stop_reason and not self.lost:
                raise CodeFailed(f"Stopped {self._stop_reason}.", is_stopped=True) from None
            raise
        finally:
            self._pending = None
            while self._stopping:
                self._stopping.pop().cancel()
            if self._inlet is not None:
                self._inlet.read()
        if self._stop_reason:
            raise CodeFailed(f"Stopped {self._stop_reason}.", is_stopped=True)
        return result

    async def _drain(self, number: int, reply: asyncio.Future[Any]) -> None:
        """The caller went away: stop its call and wait for the reply, which nobody else must get."""
        if not reply.cancelled():
            reply.exception()  # it came at the same moment, and it is no mistake that nobody looks at it
            return
        if self.lost or self._answered == number:
            return
        reply = asyncio.get_running_loop().create_future()
        self._pending = (number, reply)
        self._stop("because the caller went away")
        while not reply.done():
            with contextlib.suppress(asyncio.CancelledError):  # asked again: the grace bounds the wait
                await asyncio.wait([reply])
        reply.exception()

    def _watch_from(self, when: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = asyncio.get_running_loop().call_at(when, self._on_time)

    def _on_time(self) -> None:
        """A call still runs: stop it at its deadline, and let the placement look at it until then."""
        self._watch = None
        if self._pending is None or self._stop_reason:  # nothing runs, or it is being stopped
            return
        now = asyncio.get_running_loop().time()
        left = self._deadline - now
        if now < self._next_look:  # it was set for a call that is over
            self._watch_from(self._next_look)
        elif left <= 0 or self._first_look_seconds == math.inf:
            setting = f" ({self.deadline_setting})" if self.deadline_setting else ""
            self._stop(f"after {self.deadline_seconds:g} seconds, the time one call may take{setting}")
        else:
            self._next_look = now + min(left, self._look())
            if not self._stop_reason:
                self._watch_from(self._next_look)

    def _stop(self, reason: str) -> None:
        """Interrupt the pending call, and give it up after the grace; `reason` is said after "stopped", or ""."""
        self._stop_reason = reason
        self._signal_stop()
        loop = asyncio.get_running_loop()
        # Once more half way: the first may have come before the worker had even read the call.
        self._stopping.append(loop.call_later(GRACE_SECONDS / 2, self._signal_stop))
        told = f"it did not stop when it was interrupted {reason}".rstrip()
        self._stopping.append(loop.call_later(GRACE_SECONDS, self._give_up, told))
