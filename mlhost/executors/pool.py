"""A pool: the warm workers of one service version, leased one call at a time.

Where calls have proven quick, several that wait are sent to a worker in one go: on the way there and back the processor
changes hands, which costs more than such a call. Nobody waits for a train to fill.

Patient callers, which are those who score a batch, take what the others leave: a worker that becomes free goes to
whoever is not patient first, and while patient ones hold workers there may be one more, so that another caller need
never wait for the end of a long record.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import monotonic, perf_counter
from typing import Any

from mlhost.errors import Busy, MlhostError, Unavailable
from mlhost.executors import Worker, parcels
from mlhost.executors.trains import HARMLESS, TRAIN_CALLS, Call, Train
from mlhost.runtime.parcels import Kept

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1  # what a caller is told who finds the queue full
PATIENCE_SECONDS = 1.0  # before another try, when a worker to be kept warm did not start; doubled up to a minute
LONGEST_PATIENCE_SECONDS = 60.0
# Why a worker was replaced: it died, or pool.max_calls and pool.max_growth_bytes had it go.
LOST, CALLS, GROWTH = "lost", "max_calls", "max_growth"
CALLS_BETWEEN_WEIGHINGS = 100
QUICK_SECONDS = 0.002  # a call of a service takes on average, at the most, whose calls ride together
PACE_TRAINS = 16  # that the average goes over: a machine that had something else to do makes no service slow
PROVEN_CALLS = 32  # one after the other that printed nothing and did not fail


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The settings of section `pool`, and how many workers are kept started whether or not anyone calls."""

    workers: int
    queue: int
    retire_seconds: float = 600.0
    max_calls: int = 0  # 0 = any
    max_growth_bytes: int = 0  # 0 = any
    least: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What the workers of a pool do, and how many callers wait for one."""

    busy: int
    idle: int
    starting: int
    waiting: int


@dataclass(slots=True)
class Times:
    """What the calls took that have been answered since the pool was opened, all together."""

    calls: int = 0
    queue_seconds: float = 0.0  # until they had a worker
    run_seconds: float = 0.0  # that they had it


@dataclass(slots=True, eq=False)
class _Member:
    """A worker and what the pool remembers of it."""

    pool: Pool
    worker: Worker
    calls: int = 0  # that were answered and are counted
    ready_bytes: int = 0  # resident when it was first weighed
    next_weighing: int = 1  # after so many calls
    idle_since: float = 0.0  # monotonic
    # Of the calls it has and those just answered:
    departed: float = 0.0  # when it was sent them, or the last of them were counted
    counted: int = 0  # calls of the train
    asked: list[float] = field(default_factory=list)  # when each of the others was made

    @property
    def has_more(self) -> bool:
        """See `Owner`."""
        return bool(self.pool._waiting)

    def on_back(self, calls: list[Call]) -> None:
        """See `Owner`."""
        self.pool._put_back(calls)

    def on_nearly_over(self, train: Train) -> None:
        """See `Owner`."""
        self.pool._join(self, train)

    def on_over(self, train: Train) -> None:
        """See `Owner`."""
        self.pool._arrive(self, train)


class Lease:
    """One call's claim to a worker: it is had on entering, and given back on leaving."""

    __slots__ = ("_had", "_is_patient", "_member", "_pool", "_queued_seconds")

    def __init__(self, pool: Pool, patient: bool) -> None:
        self._pool = pool
        self._is_patient = patient
        self._member: _Member | None = None
        self._had = self._queued_seconds = 0.0

    async def __aenter__(self) -> Worker:
        pool, asked = self._pool, perf_counter()
        self._member = await (pool._take_patiently() if self._is_patient else pool._take())
        self._had = perf_counter()
        self._queued_seconds = self._had - asked
        return self._member.worker

    async def __aexit__(self, *_: object) -> None:
        pool, member = self._pool, self._member
        assert member is not None
        times = pool.times
        times.calls += 1
        times.queue_seconds += self._queued_seconds
        times.run_seconds += perf_counter() - self._had
        pool._held_patiently -= self._is_patient
        member.calls += 1
        pool._take_back(member)


class Pool:
    """Workers made by `start` as they are needed, within bounds; those who wait for one are served in order.

    Once `warm` was called, `settings.least` of them are started ahead of need and never retired.
    No more than `settings.workers` are held by patient callers at once; patient callers wait as long as it takes.
    Workers that died or are replaced are counted in `restarts`, by why.
    """

    def __init__(
        self, start: Callable[[], Awaitable[Worker]], settings: PoolSettings, restarts: Counter[str] | None = None
    ) -> None:
        self.times = Times()
        self.restarts: Counter[str] = Counter() if restarts is None else restarts
        self._start = start
        self._settings = settings
        self._count = 0  # workers that live or are being started
        self._starting = 0
        self._idle: list[_Member] = []  # the one used last is taken first: its caches are warm
        self._waiting: deque[_Waiter] = deque()
        self._waiting_patiently: deque[_Waiter] = deque()
        self._riding: list[_Member] = []  # those that have calls of `run`
        self._proven_calls = 0
        self._pace_seconds = QUICK_SECONDS  # what a call takes
        self._gathering = False  # calls until the loop's next turn
        self._held_patiently = 0  # workers that patient callers have
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._retiring: asyncio.TimerHandle | None = None
        self._warming: asyncio.TimerHandle | None = None
        self._patience_seconds = PATIENCE_SECONDS

    @property
    def settings(self) -> PoolSettings:
        """The bounds in force."""
        return self._settings

    def usage(self) -> Usage:
        """What the workers do; those found dead at rest are replaced if they are to be kept warm."""
        for member in [member for member in self._idle if member.worker.lost]:
            self._idle.remove(member)
            self._bury(member)
        self.warm()
        return self.seen()

    def seen(self) -> Usage:
        """What the workers do, as it is: nothing is started or ended, and those found dead count as neither."""
        lost = sum(bool(member.worker.lost) for member in self._idle)
        busy = self._count - self._starting - len(self._idle)
        return Usage(busy, len(self._idle) - lost, self._starting, self._count_waiting())

    def resize(self, least: int, workers: int) -> None:
        """Other bounds from now on; a worker too many ends when it is free."""
        self._settings = replace(self._settings, least=least, workers=workers)
        while self._idle and self._is_too_large:
            self._discard(self._idle.pop(0))
        if self._idle:
            self._retire_later()
        for _ in range(min(self._count_waiting() - self._starting, workers - self._count)):
            self._grow()
        self.warm()

    def warm(self) -> None:
        """Start the workers that are missing from those to be kept, one after the other, in the background."""
        if self._count < self._settings.least and not self._starting and self._warming is None and not self._closed:
            self._grow()

    @property
    def has_room(self) -> bool:
        """Whether a call would have a worker, or one started for it, without waiting for another call to end."""
        return bool(self._idle) or self._count < self._room

    @property
    def resting_since(self) -> float | None:
        """When the worker that may be ended for another's sake came to rest (monotonic); None if there is none."""
        return self._idle[0].idle_since if self._idle and self._count > self._settings.least else None

    def end_resting(self) -> asyncio.Task[None]:
        """End that worker."""
        return self._discard(self._idle.pop(0))

    def adopt(self, worker: Worker) -> None:
        """Take in a worker that is ready."""
        self._added(1)
        self._give(_Member(self, worker))

    def start(self, call: Call) -> None:
        """Have a call run on one of the workers, now or as soon as there is one; what it printed is the call's then.

        It is answered as by `Worker.call`, or with the error that kept a worker from starting. Busy when too many wait.
        """
        self._check_open()
        if self._gathering or (self._riding and self._idle and self._is_quick):
            self._gather(call)
        elif member := self._take_idle():
            self._depart(member, [call])
        else:
            self._queue_up()
            if not (self._waiting and isinstance(self._waiting[-1], Call)):
                self._ask_early()
            self._waiting.append(call)

    def abandon(self, call: Call) -> None:
        """Whoever made the call went away: it is stopped if it runs."""
        call.drop()
        with suppress(ValueError):
            self._waiting.remove(call)
        for member in self._riding:
            member.worker.abandon(call)

    def lease(self, *, patient: bool = False) -> Lease:
        """A worker for one call, inside an `async with`.

        Busy when too many wait, or the error that kept a worker from starting.
        """
        return Lease(self, patient)

    async def close(self) -> None:
        """Let those who wait be served, then end all workers."""
        self._closed = True
        for timer in (self._retiring, self._warming):
            if timer is not None:
                timer.cancel()
        while self._idle:
            self._discard(self._idle.pop())
        await self._empty.wait()
        await asyncio.gather(*self._tasks)

    async def _take(self) -> _Member:
        self._check_open()
        if member := self._take_idle():
            return member
        self._queue_up()
        return await self._wait(self._waiting)

    def _queue_up(self) -> None:
        """Have a worker started for one who comes and finds none, or see that there is room to wait."""
        if self._count < self._room:
            self._grow()
        elif self._is_full(self._settings.queue):
            raise _busy()

    async def _take_patiently(self) -> _Member:
        self._check_open()
        if self._may_hold_patiently and (member := self._take_idle()):
            self._held_patiently += 1
            return member
        if self._count < self._settings.workers:
            self._grow()
        return await self._wait(self._waiting_patiently)

    @property
    def _may_hold_patiently(self) -> bool:
        return self._held_patiently < self._settings.workers

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("The service has been withdrawn.")

    def _take_idle(self) -> _Member | None:
        while self._idle:
            member = self._idle.pop()
            if not member.worker.lost:
                return member
            self._bury(member)
        return None

    async def _wait(self, queue: deque[_Waiter]) -> _Member:
        waiter: asyncio.Future[_Member] = asyncio.get_running_loop().create_future()
        queue.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                with suppress(ValueError):  # it may have been passed over already
                    queue.remove(waiter)
            elif waiter.exception() is None:  # it was handed over while the caller went away
                self._held_patiently -= queue is self._waiting_patiently
                self._give(waiter.result())
            raise

    def _take_back(self, member: _Member) -> None:
        if 0 < self._settings.max_calls <= member.calls:
            self._replace(member, CALLS)
        elif self._settings.max_growth_bytes and member.calls >= member.next_weighing and self._has_grown(member):
            self._replace(member, GROWTH)
        else:
            self._give(member)

    def _give(self, member: _Member) -> None:
        """To the one who waits longest, or to rest."""
        if self._is_too_large:
            self._discard(member)
        elif member.worker.lost:
            self._replace(member, LOST)
        elif waiter := _next(self._waiting):
            if isinstance(waiter, Call):
                self._depart(member, self._train(member, waiter))
            else:
                waiter.set_result(member)
        elif self._may_hold_patiently and isinstance(waiter := _next(self._waiting_patiently), asyncio.Future):
            self._held_patiently += 1
            waiter.set_result(member)
        elif self._closed:
            self._discard(member)
        else:
            member.idle_since = monotonic()
            self._idle.append(member)
            self._retire_later()

    def _count_waiting(self) -> int:
        waiting = sum(not waiter.done() for waiter in (*self._waiting, *self._waiting_patiently))
        return waiting + self._count_riding()

    # --- trains ----------------------------------------------------------------------------------------------------

    @property
    def _is_quick(self) -> bool:
        return self._proven_calls >= PROVEN_CALLS and self._pace_seconds < QUICK_SECONDS

    def _gather(self, call: Call) -> None:
        """Have the call leave together with others that come in the same turn of the loop: it is not alone."""
        if self._is_full(self._settings.queue + len(self._idle)):
            raise _busy()
        if not self._gathering:
            self._gathering = True
            asyncio.get_running_loop().call_soon(self._leave)
        self._waiting.append(call)

    def _leave(self) -> None:
        self._gathering = False
        while self._waiting and (member := self._take_idle()):
            self._give(member)
        for _ in range(min(len(self._waiting) - self._starting, self._room - self._count)):
            self._grow()
        if self._waiting:
            self._ask_early()

    def _ask_early(self) -> None:
        """Have the workers tell when their trains are nearly over, which those who wait may join."""
        for member in self._riding:
            member.worker.tell_early(True)

    def _train(self, member: _Member, first: Call) -> list[Call]:
        """The first who waits, and those behind that can go with it: each worker's share, if calls are quick."""
        if not (self._is_quick and self._waiting and first.is_small):
            return [first]
        return [first, *self._riders(first.function, self._share(member, 1) - 1)]

    def _share(self, member: _Member, chosen: int = 0) -> int:
        """How many calls a worker may have, those included that it has and that have been chosen for it."""
        calls = len(self._waiting) + chosen + sum(each.worker.aboard for each in self._riding)
        share = min(member.worker.carries, math.ceil(calls / self._count))
        return min(share, self._settings.max_calls - member.calls) if self._settings.max_calls else share

    def _riders(self, function: Callable[..., Any], most: int) -> list[Call]:
        """Those who wait longest, as far as they can go together."""
        riders: list[Call] = []
        while len(riders) < most and self._waiting:
            call = self._waiting[0]
            if not isinstance(call, Call) or call.function is not function or not call.is_small:
                break
            self._waiting.popleft()
            if not call.done():
                riders.append(call)
        return riders

    def _join(self, member: _Member, train: Train) -> None:
        """Have calls that wait join a train that is nearly over, unless somebody else is to have its worker."""
        is_promised = self._is_too_large or (self._waiting_patiently and self._may_hold_patiently)
        if self._is_quick and self._waiting and not is_promised:
            self._count_answered(member, train)
            if riders := self._riders(train.function, self._share(member) - member.worker.aboard):
                self._note_sent(member, riders, perf_counter())
                member.worker.join(riders)
        member.worker.tell_early(bool(self._waiting))

    def _note_sent(self, member: _Member, calls: list[Call], now: float) -> None:
        member.asked += [call.asked for call in calls]
        for call in calls:
            call.sent = now

    def _depart(self, member: _Member, calls: list[Call]) -> None:
        member.departed, member.counted, member.asked = perf_counter(), 0, []
        self._note_sent(member, calls, member.departed)
        self._riding.append(member)
        try:
            member.worker.run(calls, member)
            if len(calls) > 1:
                member.worker.tell_early(bool(self._waiting))
        except Exception as fault:  # a call that is too large to travel, say
            self._riding.remove(member)
            for call in calls:
                call.answer(fault, None)
            asyncio.get_running_loop().call_soon(self._give, member)  # not at once: there may be many such calls

    def _arrive(self, member: _Member, train: Train) -> None:
        """A worker has done what it was sent, but for what came back."""
        self._riding.remove(member)
        self._count_answered(member, train)
        self._proven_calls = self._proven_calls if train.is_whole else 0
        if train.kept is not None:
            self._spawn(self._fetch(member, *train.kept))
        elif train.is_spoiled:
            self._replace(member, LOST)
        else:
            self._take_back(member)

    def _count_answered(self, member: _Member, train: Train) -> None:
        """What the calls took that have been answered since this was last asked."""
        count, now = train.count - member.counted, perf_counter()
        if not count:
            return
        seconds = now - member.departed
        self.times.calls += count
        self.times.run_seconds += seconds
        # Those behind the first have waited for the ones before them; one that joined may have come after those left.
        self.times.queue_seconds += sum(max(0.0, member.departed - asked) for asked in member.asked[:count])
        self.times.queue_seconds += seconds * (count - 1) / 2
        self._proven_calls += count
        self._pace_seconds += (seconds / count - self._pace_seconds) / PACE_TRAINS
        member.calls += count
        member.departed, member.counted = now, train.count
        del member.asked[:count]

    async def _fetch(self, member: _Member, call: Call, kept: Kept) -> None:
        """Have the answer before the worker gets another call, or have it dropped if nobody waits for it any more."""
        begins, is_sound = perf_counter(), True
        try:
            if call.done():
                await parcels.forget(member.worker.call, kept.parcel)
            else:
                call.answer(None, await parcels.fetch(member.worker, kept))
        except Exception as fault:  # the worker died, say, or the disk is full
            call.answer(fault, None)
            is_sound = isinstance(fault, (*HARMLESS, Unavailable))
        self.times.run_seconds += perf_counter() - begins
        if is_sound:
            self._take_back(member)
        else:
            self._replace(member, LOST)

    def _put_back(self, calls: list[Call]) -> None:
        """Calls that were sent and have not begun are the next ones."""
        self._waiting.extendleft(call for call in reversed(calls) if not call.done())
        self._leave()

    def _is_full(self, most: int) -> bool:
        """Whether so many wait, those included who have been sent behind others."""
        waiting = len(self._waiting)
        return waiting + len(self._riding) * TRAIN_CALLS >= most and waiting + self._count_riding() >= most

    def _count_riding(self) -> int:
        """Calls that have been sent behind others."""
        return sum(max(0, member.worker.aboard - 1) for member in self._riding)

    # --- more and fewer --------------------------------------------------------------------------------------------

    @property
    def _room(self) -> int:
        """How many workers there may be: one more while patient callers hold some, so that others need not wait."""
        return self._settings.workers + (self._held_patiently > 0)

    @property
    def _is_too_large(self) -> bool:
        return self._count > self._room

    def _grow(self) -> None:
        self._added(1)
        self._starting += 1
        self._spawn(self._start_one())

    async def _start_one(self) -> None:
        try:
            worker = await self._start()
        except Exception as fault:
            self._starting -= 1
            self._added(-1)
            log.warning("a worker did not start: %s", fault)
            if self._count == 0:  # nobody is left who could serve them
                self._fail_waiting(fault)
            self._warm_later()
        else:
            self._starting -= 1
            self._patience_seconds = PATIENCE_SECONDS
            self._give(_Member(self, worker))
            self.warm()

    def _warm_later(self) -> None:
        if self._count < self._settings.least and self._warming is None and not self._closed:
            self._warming = asyncio.get_running_loop().call_later(self._patience_seconds, self._warm_again)
            self._patience_seconds = min(2 * self._patience_seconds, LONGEST_PATIENCE_SECONDS)

    def _warm_again(self) -> None:
        self._warming = None
        self.warm()

    def _fail_waiting(self, fault: Exception) -> None:
        error = fault if isinstance(fault, MlhostError) else Unavailable("No worker could be started.")
        while waiter := _next(self._waiting) or _next(self._waiting_patiently):
            if isinstance(waiter, Call):
                waiter.answer(error, None)
            else:
                waiter.set_exception(error)

    def _bury(self, member: _Member) -> None:
        """Let go of a worker that died at rest."""
        self.restarts[LOST] += 1
        self._discard(member)

    def _replace(self, member: _Member, why: str) -> None:
        self.restarts[why] += 1
        self._discard(member)
        if (not self._closed or self._waiting or self._waiting_patiently) and self._count < self._room:
            self._grow()

    def _discard(self, member: _Member) -> asyncio.Task[None]:
        self._added(-1)
        return self._spawn(member.worker.close())

    def _has_grown(self, member: _Member) -> bool:
        """Whether a worker has grown beyond what it may since it was first weighed."""
        member.next_weighing = member.calls + CALLS_BETWEEN_WEIGHINGS
        weight = member.worker.resident_bytes()
        member.ready_bytes = member.ready_bytes or weight
        if weight - member.ready_bytes <= self._settings.max_growth_bytes:
            return False
        log.info("a worker grew by %.0f MiB and is replaced", (weight - member.ready_bytes) / 2**20)
        return True

    def _retire_later(self) -> None:
        if self._retiring is None and self._count > self._settings.least:
            oldest = self._idle[0].idle_since  # taken from the end, so the first has rested longest
            delay = oldest + self._settings.retire_seconds - monotonic()
            self._retiring = asyncio.get_running_loop().call_later(delay, self._retire)

    def _retire(self) -> None:
        """End the workers that have rested too long, but for those to be kept; look again later if any are left."""
        self._retiring = None
        latest = monotonic() - self._settings.retire_seconds
        rested = [member for member in self._idle if member.idle_since <= latest]
        for member in rested[: max(0, self._count - self._settings.least)]:
            self._idle.remove(member)
            self._discard(member)
        if self._idle:
            self._retire_later()

    def _added(self, count: int) -> None:
        self._count += count
        if self._count:
            self._empty.clear()
        else:
            self._empty.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


_Waiter = asyncio.Future[_Member] | Call  # who wants a worker, or has one run a call


def _busy() -> Busy:
    return Busy("Too many calls wait for this service.", retry_after_seconds=RETRY_AFTER_SECONDS)


def _next(queue: deque[_Waiter]) -> _Waiter | None:
    while queue:
        waiter = queue.popleft()
        if not waiter.done():  # else it was cancelled in this very moment
            return waiter
    return None
