"""The ledger: what came in with a batch and what each record came to, in the store.

A result is written once, in the same transaction as the count of those that are done; nothing is ever read of a result
that is not committed. Whatever is long is read and written in pieces, so that no other write waits for it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from time import time
from typing import Any

import msgspec

from mlhost.errors import Busy, NotFound
from mlhost.names import new_id
from mlhost.services import Service
from mlhost.services import from_row as service_from_row
from mlhost.store import Store
from mlhost.store.blobs import Blobs

MAX_CHUNK_RECORDS = 256  # kept in one row, and so in memory at once while they run
CHUNK_BYTES = 1 << 20  # of records in one row, unless a single one is larger
CHUNKS_A_WRITE = 16
ROWS_A_DELETE = 2000
PAGE_BYTES = 1 << 20  # of results read at once, unless a single one is larger

INSERT = """
insert into batches (execution_id, service, owner, definition, blob, parallel, total, state, created_at)
select :execution_id, id, :owner, definition, blob, :parallel, :total, 'arriving', :now
from services where name = :name and version = :version
"""
COUNT_UNFINISHED = """
select count(*) from batches where owner = ? and state in ('arriving', 'open') and service is not null
"""
SELECT = """
select batches.id, execution_id, owner, services.name, services.version, parallel, total, done, state, failure,
    batches.created_at, finished_at
from batches join services on services.id = batches.service where state in ('open', 'complete', 'failed')
"""
SELECT_SERVICE = """
select name, version, published_by, snapshot_id, services.created_at, batches.definition, batches.blob
from batches join services on services.id = batches.service where batches.id = ?
"""
# Of the next results by position those that fit a page, or the one that is larger.
SELECT_PAGE = f"""
select position, answer from batch_results where batch = :batch and position > :after and position <= (
    select max(position) from (
        select position, sum(length(answer)) over (order by position) - length(answer) as before
        from batch_results where batch = :batch and position > :after order by position limit 1000
    ) where before < {PAGE_BYTES}
) order by position
"""  # noqa: S608 - a number of ours
SELECT_SOME = """
select position, case when length(answer) <= ? then answer end as answer from batch_results
where batch = ? and position >= ? order by position limit ?
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch as it was when it was read."""

    id: int
    execution_id: str
    owner: str
    name: str
    version: str
    parallel: int
    total: int
    done: int
    state: str  # open, complete or failed
    failure: str  # why it failed
    created_at: float  # seconds since the epoch, UTC
    finished_at: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether there will be no more results."""
        return self.state != "open"


class Ledger:
    """The batches of one store."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs

    # --- what comes in ---------------------------------------------------------------------------------------------

    async def accept(
        self, owner: str, name: str, version: str, chunks: Sequence[list[bytes]], *, parallel: int, most_open: int
    ) -> Batch:
        """Store a batch; it is seen by others, and by a next start, once all its records are there."""
        execution_id, total, now = new_id(), sum(map(len, chunks)), time()
        new = {"execution_id": execution_id, "owner": owner, "name": name, "version": version, "parallel": parallel}
        async with self._store.write() as db:
            [[count]] = await db.execute_fetchall(COUNT_UNFINISHED, (owner,))
            if count >= most_open:
                raise Busy(
                    f"You have {count} unfinished batches, all one user may have (batches.max_open_per_user).",
                    retry_after_seconds=60,
                )
            inserted = await db.execute(INSERT, new | {"total": total, "now": now})
            if not inserted.rowcount or inserted.lastrowid is None:
                raise NotFound(f"There is no service {name!r} with version {version!r}.")
            batch_id = inserted.lastrowid
        try:
            await self._fill(batch_id, chunks)
        except BaseException:
            await self.erase(batch_id)
            raise
        return Batch(batch_id, execution_id, owner, name, version, parallel, total, 0, "open", "", now)

    async def _fill(self, batch_id: int, chunks: Sequence[list[bytes]]) -> None:
        """Store the records, then show the batch."""
        firsts = accumulate(map(len, chunks), initial=0)
        rows = ((batch_id, first, msgspec.msgpack.encode(chunk)) for first, chunk in zip(firsts, chunks, strict=False))
        while group := list(islice(rows, CHUNKS_A_WRITE)):
            async with self._store.write() as db:
                await db.executemany("insert into batch_inputs values (?, ?, ?)", group)
        async with self._store.write() as db:
            shown = await db.execute(
                "update batches set state = 'open' where id = ? and service is not null", (batch_id,)
            )
            if not shown.rowcount:
                raise NotFound("The service was deleted meanwhile.")

    async def next_chunk(self, batch_id: int, start: int) -> tuple[int, list[tuple[int, bytes]]]:
        """The unfinished records of the next chunk that has any, and where the one after it starts; none at the end."""
        query = "select first, texts from batch_inputs where batch = ? and first >= ? order by first limit 1"
        while row := await self._store.read_one(query, (batch_id, start)):
            texts = msgspec.msgpack.decode(row["texts"], type=list[bytes])
            first, start = row["first"], row["first"] + len(texts)
            finished = await self._store.read(
                "select position from batch_results where batch = ? and position >= ? and position < ?",
                (batch_id, first, start),
            )
            done = {position for (position,) in finished}
            if records := [(n, text) for n, text in enumerate(texts, first) if n not in done]:
                return start, records
        return start, []

    # --- what comes of it ------------------------------------------------------------------------------------------

    async def keep(self, batch_id: int, results: Sequence[tuple[int, bytes]]) -> bool:
        """Commit results; False if the batch is not there any more. A result that was there before stays as it was."""
        rows = [(batch_id, position, answer) for position, answer in results]
        try:
            async with self._store.write() as db:
                kept = await db.executemany("insert or ignore into batch_results values (?, ?, ?)", rows)
                counted = await db.execute(
                    "update batches set done = done + ? where id = ? and service is not null", (kept.rowcount, batch_id)
                )
        except sqlite3.IntegrityError:  # its service was deleted, and then the batch
            return False
        return bool(counted.rowcount)

    async def finish(self, batch_id: int, failure: str = "") -> None:
        """All is done, or nothing more can be; the snapshot it ran on is let go."""
        end = {"id": batch_id, "state": "failed" if failure else "complete", "failure": failure, "now": time()}
        async with self._store.write() as db:
            await db.execute(
                "update batches set state = :state, failure = :failure, finished_at = :now, blob = null"
                " where id = :id and state = 'open'",
                end,
            )
            await self._blobs.sweep(db)

    async def answer(self, batch_id: int, position: int) -> bytes | None:
        """The result of one record; None while there is none."""
        query = "select answer from batch_results where batch = ? and position = ?"
        row = await self._store.read_one(query, (batch_id, position))
        return row["answer"] if row else None

    async def pages(self, batch_id: int) -> AsyncIterator[list[bytes]]:
        """The results there are, in the order of their records, about a megabyte at a time."""
        after = -1
        while rows := await self._store.read(SELECT_PAGE, {"batch": batch_id, "after": after}):
            after = rows[-1]["position"]
            yield [row["answer"] for row in rows]

    async def some(self, batch_id: int, start: int, most: int, most_bytes: int) -> list[tuple[int, bytes | None]]:
        """So many results from a position on, in the order of their records; None for one larger than `most_bytes`."""
        rows = await self._store.read(SELECT_SOME, (most_bytes, batch_id, start, most))
        return [(row["position"], row["answer"]) for row in rows]

    # --- which there are -------------------------------------------------------------------------------------------

    async def get(self, name: str, version: str, execution_id: str) -> Batch | None:
        """One batch of a version."""
        found = await self._select("name = ? and version = ? and execution_id = ?", name, version, execution_id)
        return found[0] if found else None

    async def of_version(self, name: str, version: str) -> list[Batch]:
        """The batches of a version, oldest first."""
        return await self._select("name = ? and version = ?", name, version)

    async def latest(self, owner: str | None, most: int) -> list[Batch]:
        """The batches of all versions, or those of one owner, newest first and no more than `most`."""
        rows = await self._store.read(
            f"{SELECT} and (? is null or owner = ?) order by batches.id desc limit ?", (owner, owner, most)
        )
        return [Batch(**row) for row in rows]

    async def unfinished(self) -> list[Batch]:
        """What is to be gone on with, oldest first."""
        return await self._select("state = 'open'")

    async def service(self, batch: Batch) -> Service | None:
        """The version as it was when the batch began; None if the batch is not there any more."""
        row = await self._store.read_one(SELECT_SERVICE, (batch.id,))
        return service_from_row(row) if row else None

    async def _select(self, where: str, *parameters: Any) -> list[Batch]:
        rows = await self._store.read(f"{SELECT} and {where} order by batches.id", parameters)
        return [Batch(**row) for row in rows]

    # --- what goes -------------------------------------------------------------------------------------------------

    async def delete(self, batch_id: int) -> bool:
        """Delete a batch at once for all who look; False if another has deleted it already."""
        async with self._store.write() as db:
            hidden = await db.execute(
                "update batches set state = 'deleted' where id = ? and state <> 'deleted'", (batch_id,)
            )
        if hidden.rowcount:
            await self.erase(batch_id)
        return bool(hidden.rowcount)

    async def erase(self, batch_id: int) -> None:
        """Remove its rows, some at a time."""
        for table, key in (("batch_results", "position"), ("batch_inputs", "first")):
            some = f"select {key} from {table} where batch = :id limit {ROWS_A_DELETE}"  # noqa: S608 - names of ours
            is_left = 1
            while is_left:
                async with self._store.write() as db:
                    query = f"delete from {table} where batch = :id and {key} in ({some})"  # noqa: S608
                    is_left = (await db.execute(query, {"id": batch_id})).rowcount
        async with self._store.write() as db:
            await db.execute("delete from batches where id = ?", (batch_id,))
            await self._blobs.sweep(db)

    async def leftovers(self) -> list[int]:
        """At the start: batches that the end of an earlier server kept from arriving, or from going, as a whole."""
        return [n for (n,) in await self._store.read("select id from batches where state in ('arriving', 'deleted')")]

    async def outdated(self, keep_seconds: float) -> list[int]:
        """Batches that ended longer ago than that, or whose service was deleted."""
        query = """
        select id from batches where state in ('complete', 'failed') and finished_at < :ended
        or service is null and state in ('open', 'complete', 'failed')
        """
        return [n for (n,) in await self._store.read(query, {"ended": time() - keep_seconds})]


def chunked(records: Iterable[bytes]) -> list[list[bytes]]:
    """Records as they are stored together."""
    chunks: list[list[bytes]] = []
    room = 0
    for record in records:
        if room < len(record) or len(chunks[-1]) == MAX_CHUNK_RECORDS:
            chunks.append([])
            room = CHUNK_BYTES
        chunks[-1].append(record)
        room -= len(record)
    return chunks
