"""Batches: many records scored under one id, which whoever began them may follow, cancel and fetch from (contract
section 6).

A batch runs the version as it was when the batch began: a patch does not reach it. Deleting the version deletes its
batches, as their addresses go with it. What the end of a server leaves unfinished is gone on with by the next one.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from mlhost.auth.principal import Principal, Role
from mlhost.batches.ledger import Batch, Ledger, chunked
from mlhost.batches.running import Run
from mlhost.errors import Invalid, NotFound, Unavailable
from mlhost.params import jsontext
from mlhost.services import Services

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0  # between two looks for batches that are to go
MAX_DIGITS = 10  # of an index that can be one
KEEPING_SECONDS = 5.0  # that a cancelled batch gets to commit what has been scored


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The settings of section `batches`."""

    max_parallel: int
    max_records: int
    max_open_per_user: int
    keep_seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch has come."""

    state: str  # Pending, Ready, InProgress, Complete or Failed
    done: int
    total: int
    has_ended: bool
    failure: str  # why it failed


class Batches:
    """The batches of one server; another user's batch does not exist for the one who asks, unless that is an Owner."""

    def __init__(self, ledger: Ledger, services: Services, limits: BatchLimits) -> None:
        self._ledger = ledger
        self._services = services
        self._limits = limits
        self._running: dict[int, tuple[Run, asyncio.Task[None]]] = {}
        self._tidying: asyncio.Task[None] | None = None
        self._closed = False

    async def resume(self) -> None:
        """Go on with what an earlier server left unfinished."""
        leftovers = await self._ledger.leftovers()
        for batch in await self._ledger.unfinished():
            self._begin(batch)
        self._tidying = asyncio.get_running_loop().create_task(self._tidy(leftovers))

    async def close(self) -> None:
        """Stop what runs; the next server goes on with it."""
        self._closed = True
        await _stopped({task for _, task in self._running.values()} | ({self._tidying} if self._tidying else set()))

    def count(self) -> int:
        """How many run."""
        return len(self._running)

    # --- the verbs -------------------------------------------------------------------------------------------------

    async def start(self, who: Principal, name: str, version: str, body: bytes, parallel: int) -> str:
        """Begin a batch on a JSON array of input objects; its id, once nothing of it can be lost any more.

        Whether the inputs fit is found out when they are scored: a record that does not is an answer without success.
        """
        self._services.ready(name, version)
        if parallel < 1:
            raise Invalid("parallelCount: must be 1 or more", field="parallelCount")
        chunks = await asyncio.to_thread(_chunks, body, self._limits.max_records)
        batch = await self._ledger.accept(
            who.name,
            name,
            version,
            chunks,
            parallel=min(parallel, self._limits.max_parallel),
            most_open=self._limits.max_open_per_user,
        )
        if not self._closed:
            self._begin(batch)
        return batch.execution_id

    async def list(self, who: Principal, name: str, version: str) -> list[str]:
        """The ids of the caller's batches of a version, oldest first; of everybody's for Owners."""
        self._services.ready(name, version)
        return [batch.execution_id for batch in await self._ledger.of_version(name, version) if _may_see(who, batch)]

    async def latest(self, who: Principal, most: int) -> Sequence[tuple[Batch, str]]:
        """The caller's batches of all versions, or everybody's for Owners, newest first, each with its state."""
        owner = None if who.role >= Role.OWNER else who.name
        return [(batch, self._state(batch)) for batch in await self._ledger.latest(owner, most)]

    async def get(self, who: Principal, name: str, version: str, execution_id: str) -> tuple[Batch, str]:
        """One batch and its state."""
        batch = await self._get(who, name, version, execution_id)
        return batch, self._state(batch)

    async def some(
        self, who: Principal, name: str, version: str, execution_id: str, *, start: int, most: int, most_bytes: int
    ) -> Sequence[tuple[int, bytes | None]]:
        """So many results from a record on, each with its position; None for one that is larger than `most_bytes`."""
        batch = await self._get(who, name, version, execution_id)
        return await self._ledger.some(batch.id, start, most, most_bytes)

    async def progress(self, who: Principal, name: str, version: str, execution_id: str) -> Progress:
        """How far a batch has come."""
        batch = await self._get(who, name, version, execution_id)
        return Progress(self._state(batch), batch.done, batch.total, batch.has_ended, batch.failure)

    async def results(
        self, who: Principal, name: str, version: str, execution_id: str
    ) -> AsyncIterator[Sequence[bytes]]:
        """The results there are, each a WebServiceResult as JSON, in the order of the records, some at a time."""
        batch = await self._get(who, name, version, execution_id)
        async for page in self._ledger.pages(batch.id):
            yield page

    async def delete(self, who: Principal, name: str, version: str, execution_id: str) -> None:
        """Cancel a batch, interrupting the records that run, and remove it with its results."""
        batch = await self._get(who, name, version, execution_id)
        if not await self._remove(batch.id):
            raise _unknown(execution_id)

    async def files(self, who: Principal, name: str, version: str, execution_id: str, index: str) -> dict[str, str]:
        """The files a record's code made of those the version declares: name -> content in base64."""
        batch = await self._get(who, name, version, execution_id)
        if not (index.isascii() and index.isdecimal() and len(index) <= MAX_DIGITS and int(index) < batch.total):
            raise NotFound(f"The batch has no record {index!r}; it has {batch.total}, counted from 0.")
        answer = await self._ledger.answer(batch.id, int(index))
        if answer is None:
            raise NotFound(f"Record {index} has no result yet.")
        made = msgspec.json.decode(answer, type=_Files).output_files
        return {name: content for name, content in made.items() if content is not None}

    async def file(
        self, who: Principal, name: str, version: str, execution_id: str, index: str, file_name: str
    ) -> bytes:
        """The content of one of these files."""
        files = await self.files(who, name, version, execution_id, index)
        if file_name not in files:
            raise NotFound(f"Record {index} made no file {file_name!r}.")
        return base64.b64decode(files[file_name])

    # --- how -------------------------------------------------------------------------------------------------------

    def _begin(self, batch: Batch) -> None:
        run = Run(batch, self._ledger, self._services)
        task = asyncio.get_running_loop().create_task(run.run())
        self._running[batch.id] = run, task
        task.add_done_callback(functools.partial(self._ended, batch))

    def _ended(self, batch: Batch, task: asyncio.Task[None]) -> None:
        del self._running[batch.id]
        if not task.cancelled() and (fault := task.exception()):
            log.error("batch %s stopped; the next start goes on with it", batch.execution_id, exc_info=fault)

    async def _get(self, who: Principal, name: str, version: str, execution_id: str) -> Batch:
        self._services.ready(name, version)
        batch = await self._ledger.get(name, version, execution_id)
        if batch is None or not _may_see(who, batch):
            raise _unknown(execution_id)
        return batch

    def _state(self, batch: Batch) -> str:
        if batch.has_ended:
            return batch.state.title()
        running = self._running.get(batch.id)
        return running[0].state if running else "InProgress" if batch.done else "Pending"

    async def _tidy(self, leftovers: Sequence[int]) -> None:
        """Remove what an earlier server left in halves; then what has been kept long enough or lost its service."""
        while True:
            try:
                for batch_id in leftovers:
                    await self._ledger.erase(batch_id)
                leftovers = ()
                for batch_id in await self._ledger.outdated(self._limits.keep_seconds):
                    await self._remove(batch_id)
            except Unavailable as fault:
                log.warning("old batches were not removed: %s", fault.message)
            await asyncio.sleep(min(LOOK_SECONDS, self._limits.keep_seconds / 4))

    async def _remove(self, batch_id: int) -> bool:
        """Stop a batch and delete it; False if another has deleted it already."""
        if running := self._running.get(batch_id):
            await _stopped({running[1]})
        return await self._ledger.delete(batch_id)


class _Files(msgspec.Struct, rename="camel"):
    """Of a WebServiceResult what its file routes need."""

    output_files: dict[str, str | None]


async def _stopped(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel them until they have ended: a first time they may still keep what is done."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=KEEPING_SECONDS)


def _chunks(body: bytes, most: int) -> list[list[bytes]]:
    """The records of a body, checked to be an array of objects."""
    return chunked(_checked(body, most))


def _checked(body: bytes, most: int) -> Iterator[bytes]:
    for index, text in enumerate(jsontext.items(body)):
        if not text.startswith(b"{"):
            raise Invalid(f"Record {index} (counted from 0) must be a JSON object of inputs.", field=f"[{index}]")
        if index == most:
            raise Invalid(f"A batch may have {most} records (batches.max_records).")
        yield text


def _may_see(who: Principal, batch: Batch) -> bool:
    return batch.owner == who.name or who.role >= Role.OWNER


def _unknown(execution_id: str) -> NotFound:
    return NotFound(f"There is no batch execution {execution_id!r} of this version.")
