"""The reserve: workers started ahead of need, and the bound on all workers there are.

Starting one takes milliseconds of work and waits for the template's imports; taking one from the reserve takes none.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic

from mlhost.config import Placement
from mlhost.errors import Busy, MlhostError, Unavailable
from mlhost.executors import Executor, Worker

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5  # what a caller is told who finds all workers taken
ROOM_SECONDS = 0.1  # that one waits for a place when all workers are at work: most calls are over by then
PATIENCE_SECONDS = 1.0  # before another try, when a spare worker did not start


class Reserve:
    """Opens workers in the placement asked for, never more than `most` in all; keeps `initial` spare ones of one."""

    def __init__(
        self, executors: Mapping[Placement, Executor], initial: int, most: int, spare_in: Placement = "process"
    ) -> None:
        self._executors = executors
        self._initial = initial
        self._most = most
        self._spare_in = spare_in
        self._spare: deque[Worker] = deque()
        self._living: list[Worker] = []  # spare or given out
        self._starting = 0
        self._refilling: asyncio.Task[None] | None = None
        self._burying: set[asyncio.Task[None]] = set()
        self._end_one: Callable[[], Awaitable[None] | None] = _nobody

    def take_from(self, end_one: Callable[[], Awaitable[None] | None]) -> None:
        """Where to get room when there are as many as may be: `end_one` ends a worker nobody needs, or gives None."""
        self._end_one = end_one

    def fill(self) -> None:
        """Begin to start the spare workers."""
        if self._refilling is None or self._refilling.done():
            self._refilling = asyncio.get_running_loop().create_task(self._refill())

    async def open(self, placement: Placement, *, deadline_seconds: float, deadline_setting: str = "") -> Worker:
        """A worker, from the reserve if there is one; Busy when there are as many as may be.

        Unavailable if the system does not let one start.
        """
        if placement != self._spare_in:
            return await self._start(placement, deadline_seconds, deadline_setting)
        worker = self._take_spare() or await self._start(placement)
        worker.deadline_seconds, worker.deadline_setting = deadline_seconds, deadline_setting
        self.fill()
        return worker

    async def close(self) -> None:
        """End all workers."""
        if self._refilling is not None:
            self._refilling.cancel()
            await asyncio.wait([self._refilling])
        await asyncio.gather(*(worker.close(force=True) for worker in self._spare), *self._burying)
        await asyncio.gather(*(executor.close() for executor in self._executors.values()))

    def count(self) -> int:
        """How many live, are being started, or were given up while their code runs on in the server."""
        self._living = [worker for worker in self._living if not worker.lost or worker.lingers]
        return len(self._living) + self._starting

    def _take_spare(self) -> Worker | None:
        while self._spare:
            worker = self._spare.popleft()
            if not worker.lost:
                return worker
            task = asyncio.get_running_loop().create_task(worker.close(force=True))  # its folder is still there
            self._burying.add(task)
            task.add_done_callback(self._burying.discard)
        return None

    async def _start(self, placement: Placement, deadline_seconds: float = 0, deadline_setting: str = "") -> Worker:
        await self._make_room()
        self._starting += 1  # the place is taken before the worker is started
        try:
            worker = await self._executors[placement].open(
                deadline_seconds=deadline_seconds, deadline_setting=deadline_setting
            )
        except OSError as fault:  # no descriptors or no room is left
            raise Unavailable(f"No worker can be started: {fault}") from fault
        finally:
            self._starting -= 1
        self._living.append(worker)
        return worker

    async def _make_room(self) -> None:
        latest = monotonic() + ROOM_SECONDS
        while self.count() >= self._most:
            if (spare := self._take_spare()) is not None:  # of another placement: else it would have been taken
                await spare.close(force=True)
            elif (ending := self._end_one()) is not None:
                await ending
            elif monotonic() < latest:
                await asyncio.sleep(ROOM_SECONDS / 10)
            else:
                raise Busy(
                    f"{self._most} workers are at work, which is all there may be (pool.max); close sessions, make"
                    " pools of services smaller, or try again later.",
                    retry_after_seconds=RETRY_AFTER_SECONDS,
                )

    async def _refill(self) -> None:
        while len(self._spare) < self._initial and self.count() < self._most:
            try:
                self._spare.append(await self._start(self._spare_in))
            except MlhostError as fault:
                log.warning("a spare worker did not start: %s", fault)
                await asyncio.sleep(PATIENCE_SECONDS)


def _nobody() -> None:
    return None
