"""Calls of one version that wait for a worker at the same time, sent to it as one.

Nothing waits for others to come: a call that finds a worker free is none of ours. Those that find none wait together,
and whoever is first in the queue of the pool takes the others along.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from mlhost.errors import CodeFailed, MlhostError, WorkerLost
from mlhost.executors import Worker
from mlhost.executors.pool import Pool
from mlhost.runtime.joining import answer_together

MOST_CALLS = 64  # in one run
MOST_BODY_BYTES = 1 << 16  # of a call; a longer one has rows enough of its own
MOST_WAITING = 1024  # beyond which a call waits in the queue of the pool, which has a bound of its own


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call that waits for a worker."""

    body: bytes
    since: float  # perf_counter
    answer: asyncio.Future[bytes | None]


class Together:
    """Takes calls of a version whose model answers several at once as one by one."""

    def __init__(self, pool: Pool, on_had: Callable[[float], None]) -> None:
        self._pool = pool
        self._on_had = on_had  # told for each call how many seconds it waited for a worker
        self._waiting: deque[Waiting] = deque()
        self._is_asking = False  # for a worker
        self._tasks: set[asyncio.Task[None]] = set()

    async def score(self, body: bytes) -> bytes | None:
        """The answer, as `scoring.score` gives it; None if the call is to be made alone.

        Busy or Unavailable as `Pool.lease`.
        """
        if len(body) > MOST_BODY_BYTES or len(self._waiting) >= MOST_WAITING:
            return None
        if not self._waiting and self._pool.has_room:
            return None
        call = Waiting(body, perf_counter(), asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._ask_for_a_worker()
        return await call.answer

    def _ask_for_a_worker(self) -> None:
        if self._waiting and not self._is_asking:
            self._is_asking = True
            task = asyncio.get_running_loop().create_task(self._ask())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self) -> None:
        calls: list[Waiting] = []
        try:
            async with self._pool.lease() as worker:
                self._is_asking = False
                calls = self._take()
                self._ask_for_a_worker()  # for those who are left
                if calls:
                    await _answer(worker, calls)
        except MlhostError as fault:  # there is no worker
            self._is_asking = False
            calls = list(self._waiting)
            self._waiting.clear()
            for call in calls:
                if not call.answer.done():
                    call.answer.set_exception(fault)
        finally:
            self._pool.times.calls += max(0, len(calls) - 1)
            for call in calls:
                if not call.answer.done():
                    call.answer.set_result(None)

    def _take(self) -> list[Waiting]:
        """Those who waited longest, none whose caller has gone away."""
        taken: list[Waiting] = []
        while self._waiting and len(taken) < MOST_CALLS:
            call = self._waiting.popleft()
            if not call.answer.done():
                taken.append(call)
                self._on_had(perf_counter() - call.since)
        return taken


async def _answer(worker: Worker, calls: list[Waiting]) -> None:
    """Answer those that can be; whatever happens to them together, alone it is told to the one it is about."""
    worker.console.clear()
    try:
        answers = await worker.call(answer_together, [call.body for call in calls])
    except (CodeFailed, WorkerLost):
        return
    except MlhostError:  # the code broke what answers are made with: the next call gets another worker
        await worker.close(force=True)
        return
    if worker.console.take() or len(answers) != len(calls):
        return  # whose output it is cannot be told
    for call, answer in zip(calls, answers, strict=True):
        if not call.answer.done():
            call.answer.set_result(answer)
