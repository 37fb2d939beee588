"""A pool: the warm workers of one service version, leased one call at a time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from mlhost.errors import Busy, MlhostError, Unavailable
from mlhost.executors import Worker

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1  # what a caller is told who finds the queue full


class Pool:
    """Up to `size` workers made by `start` as they are needed; up to `queue` callers may wait for one, in order."""

    def __init__(self, start: Callable[[], Awaitable[Worker]], size: int, queue: int) -> None:
        self._start = start
        self._size = size
        self._queue = queue
        self._count = 0  # workers that live or are being started
        self._idle: list[Worker] = []  # the one used last is taken first: its caches are warm
        self._waiting: deque[asyncio.Future[Worker]] = deque()
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def adopt(self, worker: Worker) -> None:
        """Take in a worker that is ready."""
        self._added(1)
        self._give(worker)

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Worker]:
        """A worker for one call; Busy when too many wait, or the error that kept a worker from starting."""
        worker = await self._take()
        try:
            yield worker
        finally:
            self._give(worker)

    async def close(self) -> None:
        """Let those who wait be served, then end all workers."""
        self._closed = True
        while self._idle:
            self._discard(self._idle.pop())
        await self._empty.wait()
        await asyncio.gather(*self._tasks)

    async def _take(self) -> Worker:
        if self._closed:
            raise Unavailable("The service has been withdrawn.")
        while self._idle:
            worker = self._idle.pop()
            if not worker.lost:
                return worker
            self._discard(worker)
        if len(self._waiting) >= self._queue:
            raise Busy("Too many calls wait for this service.", retry_after_seconds=RETRY_AFTER_SECONDS)
        if self._count < self._size:
            self._grow()
        waiter: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give(waiter.result())  # it was handed over while the caller went away
            raise

    def _give(self, worker: Worker) -> None:
        if worker.lost:
            self._discard(worker)
            if not self._closed or self._next_waiter(peek=True):
                self._grow()
        elif waiter := self._next_waiter():
            waiter.set_result(worker)
        elif self._closed:
            self._discard(worker)
        else:
            self._idle.append(worker)

    def _next_waiter(self, *, peek: bool = False) -> asyncio.Future[Worker] | None:
        while self._waiting and self._waiting[0].done():  # it was cancelled
            self._waiting.popleft()
        if not self._waiting:
            return None
        return self._waiting[0] if peek else self._waiting.popleft()

    def _grow(self) -> None:
        self._added(1)
        self._spawn(self._start_one())

    async def _start_one(self) -> None:
        try:
            worker = await self._start()
        except Exception as fault:
            self._added(-1)
            log.warning("a worker did not start: %s", fault)
            if self._count == 0:  # nobody is left who could serve them
                self._fail_waiting(fault)
        else:
            self._give(worker)

    def _fail_waiting(self, fault: Exception) -> None:
        error = fault if isinstance(fault, MlhostError) else Unavailable("No worker could be started.")
        while waiter := self._next_waiter():
            waiter.set_exception(error)

    def _discard(self, worker: Worker) -> None:
        self._added(-1)
        self._spawn(worker.close())

    def _added(self, count: int) -> None:
        self._count += count
        if self._count:
            self._empty.clear()
        else:
            self._empty.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
