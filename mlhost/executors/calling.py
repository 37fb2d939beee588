"""What every worker does the same way: one call at a time, with a deadline, stopped when asked, answered to its caller.

Several may be sent in one go, as a train, and in a process more may join it; they are still run one after the other.
When one of them takes long, the host takes back those behind it. A placement adds how calls reach the workspace, how
their code is interrupted, and what becomes of code that does not stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate

from mlhost.errors import CodeFailed, MlhostError, WorkerLost
from mlhost.executors import Given, Result
from mlhost.executors.console import Console, Inlet
from mlhost.executors.trains import Awaited, Call, Owner, Train
from mlhost.runtime.parcels import Kept
from mlhost.runtime.workspace import Workspace

GRACE_SECONDS = 1.8  # between asking a call or a worker to stop and giving it up: it is gone within two seconds
SLOW_SECONDS = 0.005  # between looks at a train; a call that runs at two of them is slow


class CallingWorker(ABC):
    """A `Worker` without its placement."""

    carries = 1  # calls that it may have at once
    _first_look_seconds = math.inf  # between the start of a call and the first `_look`

    def __init__(self, folder: Path, deadline_seconds: float, output_bytes: int) -> None:
        self.folder = folder
        self.console = Console(output_bytes)
        self.lost = ""
        self.deadline_seconds = deadline_seconds
        self.deadline_setting = ""
        self.python = platform.python_version()
        self._inlet: Inlet | None = None
        self._turn = asyncio.Lock()
        self._train: Train | None = None
        self._answered: list[tuple[Call, MlhostError | None, Any]] = []  # and whoever made them is to be told
        self._at_rest = asyncio.Event()  # there is no train
        self._at_rest.set()
        self._next_number = 1
        self._is_alone = True  # no other call is behind the one that runs, and it is watched for itself
        self._is_recalled = False  # the rest of the train has been, or is being, taken back
        self._seen = 0  # the number of the call that had begun at the last look
        self._stopped = 0  # the number of the call the host has interrupted
        self._stop_reason = ""  # and why: "after 5 seconds"
        self._closed_reason = ""  # set once it is being closed, also for the calls that wait for their turn
        self._deadline = 0.0  # of the running call, or of all of a train together, by the loop's clock
        self._next_look = 0.0  # at it, by the same
        self._watch: asyncio.TimerHandle | None = None  # left running from one call to the next: it seldom fires
        self._watch_at = 0.0  # when it fires
        self._stopping: list[asyncio.TimerHandle] = []

    @property
    def lingers(self) -> bool:
        """Whether its code runs on in the server although the worker is lost."""
        return False

    @property
    def busy(self) -> bool:
        """Whether a call is running."""
        return self._train is not None

    @property
    def aboard(self) -> int:
        """How many calls it has that are not answered yet."""
        return len(self._train.calls) if self._train is not None else 0

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
            await self._at_rest.wait()
            call = Awaited(function, *args)
            try:
                self._begin([call], None)
                result: Result = await call.reply
            except asyncio.CancelledError:
                call.drop()
                await self._drain(call)
                raise
            finally:
                if self._inlet is not None:
                    self._inlet.read()
            return result

    def run(self, calls: Sequence[Call], owner: Owner) -> None:
        """Have calls of one function run one after the other; whoever does this has the worker to itself.

        Each is answered on its own, with what it printed. WorkerLost or Invalid if they do not even leave.
        """
        self.console.clear()  # a thread of an earlier call may have gone on printing
        self._begin(calls, owner)
        if self._inlet is not None:
            self._inlet.is_held = len(calls) > 1  # what comes out meanwhile must not be mixed up

    def join(self, calls: Sequence[Call]) -> None:
        """Have more calls of the function of the train that is nearly over run behind those, as part of it."""
        train = self._train
        assert train is not None
        self._send_more(train, calls)
        train.calls.extend(calls)
        self._next_number += len(calls)
        self._deadline = asyncio.get_running_loop().time() + self.deadline_seconds * len(train.calls)

    def abandon(self, call: Call) -> None:
        """The caller went away: stop its call if that is running; if it has not begun, its answer will be dropped."""
        train = self._train
        if train is None or call not in train.calls:
            return
        number = train.number + train.calls.index(call)
        if number == max(train.number, self._begun()):
            self._stop("because the caller went away", number)

    def interrupt(self) -> bool:
        """Interrupt the running call, and give it up should it not have stopped within two seconds."""
        if (train := self._train) is None:
            return False
        self._stop("", min(max(train.number, self._begun()), train.last))
        return True

    # --- the placement's part --------------------------------------------------------------------------------------

    @abstractmethod
    def _send(self, train: Train) -> None:
        """Have the calls run; `_on_answer` is told of each in order when it has."""

    def _takes_more(self, train: Train) -> bool:
        """Whether more calls may be sent behind those of the train."""
        del train
        return False

    def _send_more(self, train: Train, calls: Sequence[Call]) -> None:
        """Have the calls run behind those of the train; only if it `_takes_more`."""
        raise NotImplementedError

    @abstractmethod
    def _begun(self) -> int:
        """The number of the call that has begun last, as far as can be told."""

    @abstractmethod
    def _recall(self, train: Train) -> None:
        """Have no more calls of the train begin; `_on_recalled` is told when that is so."""

    @abstractmethod
    def _take_answers(self) -> None:
        """Have `_on_answer` told of all answers that are there by now."""

    @abstractmethod
    def _signal_stop(self, number: int) -> None:
        """Interrupt the user code of the call of that number, and of no other."""

    @abstractmethod
    def _give_up(self, reason: str) -> None:
        """The call has not stopped within the grace; `reason` is a clause."""

    def _look(self) -> float:
        """See whether the running call keeps the placement's own limits, else stop it; seconds until the next look."""
        return math.inf

    def _collect(self) -> None:
        """Pass on all answers that are there by now, but first see to it that the worker has what it does next."""
        train = self._train
        self._take_answers()
        if train is not None and train is self._train and train.owner is not None and self._may_join(train):
            train.owner.on_nearly_over(train)
        self._tell()

    def _may_join(self, train: Train) -> bool:
        if self._is_alone or self._is_recalled or self._stopped or self.lost or self._closed_reason:
            return False
        return train.is_nearly_over and self._takes_more(train)

    def _on_answer(self, number: int, error: MlhostError | None, result: Any, is_last: bool) -> None:
        """What the call of that number came to; it may have printed something if no other follows it in its train."""
        train = self._train
        if train is None or train.number != number:
            return  # nobody waits for it
        call = train.next()
        told: MlhostError | None = error
        if number == self._stopped:
            if self._stop_reason:
                told = CodeFailed(f"Stopped {self._stop_reason}.", is_stopped=True)
            train.is_whole = False
            self._forget_stop()
        train.note(error)
        if type(result) is Kept and train.owner is not None:
            self._hold(train, call, told, result)
            return
        if train.owner is not None and (is_last or not self.console.is_empty):
            self._take_console(train, call)
        self._answered.append((call, told, result))
        if is_last:
            self._give_back(train, number)
        elif not train.calls:
            self._end_train(train)

    def _hold(self, train: Train, call: Call, error: MlhostError | None, kept: Kept) -> None:
        """The owner fetches what was kept and tells the caller then; the worker has not gone on, and has no train."""
        self._take_console(train, call)
        train.kept = call, kept
        if error is not None:
            self._answered.append((call, error, None))
        self._give_back(train, train.number - 1)

    def _take_console(self, train: Train, call: Call) -> None:
        if self._inlet is not None:
            self._inlet.read()
        call.console = self.console.take()
        train.is_whole = train.is_whole and not call.console

    def _on_recalled(self, train: Train, begun: int) -> None:
        """No call after the one of the number `begun` will begin."""
        if train is not self._train:
            return
        self._collect()
        if train is not self._train:
            return
        self._give_back(train, begun)
        if train is self._train:
            self._go_on_alone(train)

    def _go_on_alone(self, train: Train) -> None:
        """The one call that is left takes long: it is watched like any that was sent alone."""
        self._is_alone = True
        if self._inlet is not None:
            self._inlet.release()
        if train.calls[0].done() and not self._stopped:
            self._stop("because the caller went away", train.number)
            return
        now = asyncio.get_running_loop().time()
        self._deadline = now + self.deadline_seconds
        self._next_look = min(self._deadline, now + self._first_look_seconds)
        self._watch_from(self._next_look)

    def _give_back(self, train: Train, begun: int) -> None:
        """Return what comes after that number to the owner; the train is over if nothing is left."""
        back = train.leave(begun)
        if back and train.owner is not None:
            train.owner.on_back(back)
        if not train.calls and train is self._train:
            self._end_train(train)

    def _end_train(self, train: Train) -> None:
        self._train = None
        self._forget_stop()
        self._at_rest.set()
        if self._inlet is not None:
            self._inlet.release()
        if train.owner is None or not train.owner.has_more:
            self._tell()
        if train.owner is not None:
            train.owner.on_over(train)
            self._tell()

    def _tell(self) -> None:
        answered, self._answered = self._answered, []
        for call, error, result in answered:
            call.answer(error, result)

    def _lose(self, reason: str) -> None:
        """The worker is no more: tell the caller that waits, and whoever calls later."""
        was_lost, self.lost = bool(self.lost), reason  # before anybody is told, who might send more
        if not was_lost:
            self._collect()
        if self._watch is not None:
            self._watch.cancel()
        if self._inlet is not None:
            self._inlet.close()
        self._forget_stop()
        if (train := self._train) is not None:
            begun = max(train.number, self._begun())  # one at least: it may have died before it told
            back = train.leave(begun)
            while train.calls:
                error = WorkerLost(reason)
                train.next().answer(error, None)
                train.note(error)
            if back and train.owner is not None:
                train.owner.on_back(back)
            self._end_train(train)

    # --- one train -------------------------------------------------------------------------------------------------

    def _begin(self, calls: Sequence[Call], owner: Owner | None) -> None:
        if reason := self.lost or self._closed_reason:
            raise WorkerLost(reason)
        train = Train(self._next_number, calls, owner)
        self._next_number += len(calls)
        self._is_alone, self._is_recalled, self._seen = len(calls) == 1, False, 0
        self._train = train
        self._at_rest.clear()
        now = asyncio.get_running_loop().time()
        self._deadline = now + self.deadline_seconds * len(calls)
        look = self._first_look_seconds if self._is_alone else SLOW_SECONDS
        self._next_look = min(self._deadline, now + look)
        if self._watch is None or self._watch_at > self._next_look:
            self._watch_from(self._next_look)
        try:
            self._send(train)
        except BaseException:
            self._train = None
            self._at_rest.set()
            raise

    async def _drain(self, call: Call) -> None:
        """The caller went away: stop its call and wait for the reply, which nobody else must get."""
        self.abandon(call)
        while not self._at_rest.is_set():
            with contextlib.suppress(asyncio.CancelledError):  # asked again: the grace bounds the wait
                await self._at_rest.wait()

    def _watch_from(self, when: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch_at = when  # not the handle's own: uvloop's has none when it is due at once
        self._watch = asyncio.get_running_loop().call_at(when, self._on_time)

    def _on_time(self) -> None:
        """A call still runs: stop it at its deadline, and let the placement look at it until then."""
        self._watch = None
        train = self._train
        if train is None or self._stop_reason:  # nothing runs, or it is being stopped
            return
        now = asyncio.get_running_loop().time()
        left = self._deadline - now
        if now < self._next_look:  # it was set for a call that is over
            self._watch_from(self._next_look)
        elif not self._is_alone:
            self._look_at_train(train, now)
        elif left <= 0 or self._next_look >= self._deadline:
            setting = f" ({self.deadline_setting})" if self.deadline_setting else ""
            self._stop(f"after {self.deadline_seconds:g} seconds, the time one call may take{setting}", train.number)
        else:
            self._next_look = min(self._deadline, now + self._look())
            if not self._stop_reason:
                self._watch_from(self._next_look)

    def _look_at_train(self, train: Train, now: float) -> None:
        """Take back what has not begun when the same call runs as at the last look, or all have had their time."""
        begun = self._begun()
        if (begun == self._seen or now >= self._deadline) and not self._is_recalled:
            self._is_recalled = True
            self._recall(train)
        if train is self._train and not self._is_alone:
            self._seen = begun
            self._next_look = now + SLOW_SECONDS
            self._watch_from(self._next_look)

    def _stop(self, reason: str, number: int) -> None:
        """Interrupt a call, and give it up after the grace; `reason` is said after "stopped", or ""."""
        if number != self._stopped:
            self._forget_stop()
        self._stop_reason, self._stopped = reason, number
        train = self._train
        if train is not None and len(train.calls) > 1 and not self._is_recalled:
            self._is_recalled = True  # whatever becomes of this one, the others shall not wait for it
            self._recall(train)
            if number != self._stopped:  # it was answered, or given back, in this very moment
                return
        self._signal_stop(number)
        loop = asyncio.get_running_loop()
        # Once more half way: the first may have come before the worker had even read the call.
        self._stopping.append(loop.call_later(GRACE_SECONDS / 2, self._signal_stop, number))
        told = f"it did not stop when it was interrupted {reason}".rstrip()
        self._stopping.append(loop.call_later(GRACE_SECONDS, self._give_up, told))

    def _forget_stop(self) -> None:
        """The call that was to be stopped is answered."""
        self._stop_reason, self._stopped = "", 0
        while self._stopping:
            self._stopping.pop().cancel()
