"""One batch while it runs: so many of its records at once, each on a worker leased from its version's pool.

What a record came to is gathered and committed together with what ended meanwhile; how much may wait for the disk is
bounded, and so is how much is read ahead.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter
from typing import TypeVar

from mlhost import services as versions
from mlhost.batches.ledger import Batch, Ledger
from mlhost.errors import Busy, MlhostError, NotFound, Unavailable, WorkerLost
from mlhost.executors import Worker, parcels
from mlhost.scoring import Ready, failed, score_on
from mlhost.services import Service, Services

log = logging.getLogger(__name__)

TRIES = 3  # of a record whose worker died; then the record is taken to be what kills it
START_TRIES = 3  # to get a worker, before the batch has failed
PATIENCE_SECONDS = 1.0  # before the next try
MAX_WAITING = 500  # results that wait to be committed
MAX_WAITING_BYTES = 4 << 20

Done = TypeVar("Done")


class CannotRunError(Exception):
    """The batch cannot go on; the message says why."""


class VanishedError(Exception):
    """The batch was deleted together with its service."""


class Run:
    """The run of a batch, from its first record that has no result yet to its end."""

    def __init__(self, batch: Batch, ledger: Ledger, services: Services) -> None:
        self.state = "InProgress" if batch.done else "Pending"
        self._batch = batch
        self._ledger = ledger
        self._services = services
        self._lanes = min(batch.parallel, batch.total)
        self._start = 0  # where the next chunk of records starts
        self._records: deque[tuple[int, bytes]] = deque()
        self._reading = asyncio.Lock()
        self._apart: Ready | None = None  # the version as it was, once it has been patched
        self._results: list[tuple[int, bytes]] = []
        self._committing: asyncio.Task[None] | None = None
        self._waiting_bytes = 0
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Score what has no result yet; a run that is cancelled can be gone on with by another one."""
        failure = ""
        try:
            await self._score_all()
        except* VanishedError:
            failure = "The service was deleted."  # and with it what this would be written to
        except* CannotRunError as faults:
            failure = str(faults.exceptions[0])
        except* Exception as faults:
            log.exception("batch %s failed", self._batch.execution_id, exc_info=faults)
            failure = "Something went wrong inside the server; its log says what."
        finally:
            if self._apart:
                await self._apart.pool.close()
        await _patiently(functools.partial(self._ledger.finish, self._batch.id, failure))

    async def _score_all(self) -> None:
        service = await self._ledger.service(self._batch)
        if service is None:
            raise VanishedError
        self.state = "InProgress" if self._batch.done else "Ready"
        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(self._lanes):
                    lanes.create_task(self._score_some(service))
        finally:
            if self._committing:  # what has been scored is kept, however the run ends
                await self._committing

    async def _score_some(self, service: Service) -> None:
        edition = versions.edition(service)
        while record := await self._next_record():
            position, text = record
            await self._keep(position, await self._score(service, edition, text))

    async def _next_record(self) -> tuple[int, bytes] | None:
        async with self._reading:
            if not self._records:
                self._start, records = await self._ledger.next_chunk(self._batch.id, self._start)
                self._records.extend(records)
            return self._records.popleft() if self._records else None

    # --- one record ------------------------------------------------------------------------------------------------

    async def _score(self, service: Service, edition: str, text: bytes) -> bytes:
        """What the record comes to; whatever its code does is an answer."""
        lost = ""
        tally = self._ready(service, edition).meter.records
        for _ in range(TRIES):
            async with self._lease(service, edition) as worker:
                self.state = "InProgress"
                try:
                    # Whole, however large: the store takes no pieces.
                    return await parcels.whole(await score_on(worker, text, tally, perf_counter()))
                except WorkerLost as loss:
                    tally.refuse(loss)
                    lost = loss.message
                except MlhostError as fault:
                    tally.refuse(fault)
                    return failed(fault.message)
        return failed(f"The service's worker was lost during this call, {TRIES} times: {lost}.")

    @asynccontextmanager
    async def _lease(self, service: Service, edition: str) -> AsyncIterator[Worker]:
        async with AsyncExitStack() as stack:
            yield await self._worker(stack, service, edition)

    async def _worker(self, stack: AsyncExitStack, service: Service, edition: str) -> Worker:
        tries = 0
        while True:
            pool = self._ready(service, edition).pool
            try:
                return await stack.enter_async_context(pool.lease(patient=True))
            except Busy as busy:  # all workers there may be are taken by others
                await asyncio.sleep(busy.details.get("retry_after_seconds", PATIENCE_SECONDS))
            except MlhostError as fault:
                tries += 1
                if tries == START_TRIES:
                    raise CannotRunError(f"No worker of the service could be started: {fault.message}") from fault
                await asyncio.sleep(PATIENCE_SECONDS)

    def _ready(self, service: Service, edition: str) -> Ready:
        """The version as it was when the batch began, on warm workers of its own once it has been patched."""
        if self._apart is None:
            try:
                ready = self._services.ready(service.name, service.version)
            except NotFound:
                raise VanishedError from None
            if ready.edition == edition:
                return ready
            self._apart = self._services.ready_apart(service)
        return self._apart

    # --- its result ------------------------------------------------------------------------------------------------

    async def _keep(self, position: int, answer: bytes) -> None:
        """Have the result committed soon; wait if too many wait for it already."""
        self._results.append((position, answer))
        self._waiting_bytes += len(answer)
        if self._committing is None or self._committing.done():
            if self._committing:
                self._committing.result()  # raises what kept the last ones from being committed
            self._committing = asyncio.create_task(self._commit())
        while not self._committing.done() and (
            len(self._results) >= MAX_WAITING or self._waiting_bytes >= MAX_WAITING_BYTES
        ):
            self._room.clear()
            await self._room.wait()

    async def _commit(self) -> None:
        """Commit what waits, and what comes to wait meanwhile."""
        try:
            while results := self._results:
                self._results = []
                if not await _patiently(functools.partial(self._ledger.keep, self._batch.id, results)):
                    raise VanishedError
                self._waiting_bytes = sum(len(answer) for _, answer in self._results)
                self._room.set()
        finally:
            self._room.set()


async def _patiently(write: Callable[[], Awaitable[Done]]) -> Done:
    """Write, again and again while the disk cannot take it: what has been scored need not be scored again."""
    while True:
        try:
            return await write()
        except Unavailable as fault:
            log.warning("a batch waits for the store: %s", fault.message)
            await asyncio.sleep(PATIENCE_SECONDS)
