"""Blobs: immutable bytes named by their sha256, sealed with the server's key and verified on every read.

A blob is never in memory as a whole: it comes in and goes out in chunks. A large one is written in parts before the
write that names it, without a seal until then. What its bytes mean is nobody's business here.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sqlite3
import tempfile
import threading
import zlib
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import time
from typing import Any

import aiosqlite

from mlhost.errors import NotFound, Unavailable
from mlhost.store import Store

CHUNK_BYTES = 1 << 20  # of content: far from SQLite's limit for a row, and enough for zlib to find repetitions
MEMORY_BYTES = 8 << 20  # of a blob that is being received; beyond it waits on disk
PART_CHUNKS = 16  # that one write takes of a large blob, so that others wait for a fraction of a second
SAMPLES = 4  # looked at before a chunk is compressed, spread over it
SAMPLE_BYTES = 4096
WORTHWHILE = 0.875  # of its size that the sample may keep: numbers without a pattern cost time and win a few percent

NO_SEAL = b""  # of a blob on its way
INSERT = """
insert into blobs (sha256, size, seal, created_at) values (:sha256, :size, :seal, :created_at)
on conflict (sha256) do update set size = excluded.size, seal = excluded.seal
"""
INSERT_UNSEALED = """
insert into blobs (sha256, size, seal, created_at) values (:sha256, :size, :seal, :created_at)
on conflict (sha256) do nothing
"""
DELETE_CHUNKS = "delete from blob_chunks where sha256 = ?"
INSERT_CHUNK = "insert or replace into blob_chunks (sha256, position, compressed, content) values (?, ?, ?, ?)"

# One statement a chunk, so that no reader waits for another's whole blob. The casts: damage to a file can turn bytes
# into text.
SELECT = """
select size, cast(seal as blob) as seal, compressed, cast(content as blob) as content,
(select count(*) from blob_chunks where sha256 = :sha256) as chunks
from blobs left join blob_chunks on blob_chunks.sha256 = blobs.sha256 and position = :position
where blobs.sha256 = :sha256
"""

# Chunks go with their blob (on delete cascade).
SWEEP = """
delete from blobs where not exists (select 1 from snapshots where blob = sha256)
and not exists (select 1 from services where blob = sha256)
and not exists (select 1 from services where compiled = sha256)
and not exists (select 1 from batches where blob = sha256)
and sha256 not in (select value from json_each(?))
"""


@dataclass(frozen=True, slots=True)
class SealedBlob:
    """A blob ready to be kept, as long as it is held."""

    sha256: str  # of the content, in hexadecimal: the blob's name
    size: int  # bytes of content
    seal: bytes  # HMAC-SHA256 over name and size
    spool: Spool


class Blobs:
    """The blobs of one store, all sealed with one key; large ones wait as unnamed files in the folder `spool`."""

    def __init__(self, store: Store, key: bytes, spool: Path | None = None) -> None:
        self._store = store
        self._key = key
        self._spool = str(spool) if spool else None
        self._held: Counter[str] = Counter()  # received and not yet let go: no sweep may take them

    @asynccontextmanager
    async def receive(self, content: AsyncIterable[bytes]) -> AsyncIterator[SealedBlob]:
        """Hash, compress and put aside what comes; held until the block ends.

        Inside it, `write_ahead` lets the write that names the blob be short. Unavailable if the disk does not take it.
        """
        with closing(Spool(self._spool)) as spool:
            async for piece in content:
                await asyncio.to_thread(spool.add, piece)
            sha256 = await asyncio.to_thread(spool.end)
            sealed = SealedBlob(sha256, spool.size, _seal(sha256, spool.size, self._key), spool)
            try:
                with self._hold(sha256):
                    yield sealed
            except BaseException:
                if spool.is_stored:
                    await asyncio.shield(asyncio.get_running_loop().create_task(self._clean_up()))
                raise

    async def write_ahead(self, sealed: SealedBlob) -> None:
        """Write all of a large new blob but its seal, in parts; one that is there and sound stays as it is."""
        if sealed.spool.count <= PART_CHUNKS:
            return
        if await self._store.read_one("select 1 from blobs where sha256 = ?", (sealed.sha256,)):
            with suppress(Unavailable):  # damaged, or on its way from elsewhere: `keep` writes it anew
                await self.verify(sealed.sha256)
                sealed.spool.is_stored = True
            return
        sealed.spool.is_stored = True
        rows = _rows(sealed)
        for _ in range(0, sealed.spool.count, PART_CHUNKS):
            async with self._store.write() as db:
                await db.execute(INSERT_UNSEALED, _blob(sealed) | {"seal": NO_SEAL})
                await db.executemany(INSERT_CHUNK, islice(rows, PART_CHUNKS))

    async def keep(self, db: aiosqlite.Connection, sealed: SealedBlob) -> None:
        """Write the blob inside the caller's `store.write()`, which is to write the row naming it too.

        A blob that is there already is written anew: the bytes are the same, and a damaged copy heals.
        """
        await db.execute(INSERT, _blob(sealed))
        if not sealed.spool.is_stored:
            await db.execute(DELETE_CHUNKS, (sealed.sha256,))
            await db.executemany(INSERT_CHUNK, _rows(sealed))  # takes one after the other, in the connection's thread

    async def read(self, sha256: str) -> AsyncIterator[bytes]:
        """The content in chunks, exactly as it was sealed; NotFound if there is none any more, Unavailable if damaged.

        The last chunk comes only when the whole is verified; until then a consumer must not trust the others.
        """
        reading = _Reading(sha256, self._key)
        while not reading.is_done:
            row = await self._store.read_one(SELECT, {"sha256": sha256, "position": reading.position})
            if row is None:
                raise NotFound(f"there is no blob {sha256}")
            if chunk := await asyncio.to_thread(reading.take, row):
                yield chunk

    async def verify(self, sha256: str) -> None:
        """Read it all for nothing but the errors of `read`."""
        async for _ in self.read(sha256):
            pass

    async def sweep(self, db: aiosqlite.Connection) -> int:
        """Delete, inside the caller's `store.write()`, the blobs nothing names; how many they were."""
        return (await db.execute(SWEEP, (json.dumps(list(self._held)),))).rowcount

    async def check(self) -> list[str]:
        """The names of the blobs that `read` refuses; reads them all, one after the other."""
        damaged = []
        for row in await self._store.read("select sha256 from blobs where seal != x'' order by sha256"):
            try:
                with suppress(NotFound):  # swept meanwhile
                    await self.verify(row["sha256"])
            except Unavailable:
                damaged.append(row["sha256"])
        return damaged

    @contextmanager
    def _hold(self, sha256: str) -> Iterator[None]:
        self._held[sha256] += 1
        try:
            yield
        finally:
            self._held[sha256] -= 1
            if not self._held[sha256]:
                del self._held[sha256]

    async def _clean_up(self) -> None:
        """Nothing came of a blob that was written ahead."""
        with suppress(Unavailable):  # the next sweep takes it
            async with self._store.write() as db:
                await self.sweep(db)


def _blob(sealed: SealedBlob) -> dict[str, Any]:
    return {"sha256": sealed.sha256, "size": sealed.size, "seal": sealed.seal, "created_at": time()}


def _rows(sealed: SealedBlob) -> Iterator[tuple[str, int, bool, bytes]]:
    return ((sealed.sha256, n, *chunk) for n, chunk in enumerate(sealed.spool.chunks()))


class Spool:
    """The chunks of a blob on its way in, compressed where that makes them shorter.

    It may be closed while a thread, whose caller was cancelled, still adds to it.
    """

    def __init__(self, folder: str | None) -> None:
        self.size = 0  # bytes of content so far
        self.is_stored = False  # the chunks are in the database already
        self._hash = hashlib.sha256()
        self._rest = bytearray()  # not yet a chunk
        self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=folder)  # noqa: SIM115 - `close` closes it
        self._chunks: list[tuple[bool, int]] = []  # whether compressed, bytes in the file
        self._using = threading.Lock()
        self._is_closed = False

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return len(self._chunks)

    def add(self, piece: bytes) -> None:
        """Take in what comes next, of any length."""
        self.size += len(piece)
        self._hash.update(piece)
        self._rest += piece
        while len(self._rest) >= CHUNK_BYTES:
            self._put(bytes(self._rest[:CHUNK_BYTES]))
            del self._rest[:CHUNK_BYTES]

    def end(self) -> str:
        """That was all: the sha256 of it."""
        if self._rest:
            self._put(bytes(self._rest))
            self._rest.clear()
        return self._hash.hexdigest()

    def chunks(self) -> Iterator[tuple[bool, bytes]]:
        """Each chunk: whether it is compressed, and the bytes to keep."""
        self._file.seek(0)
        for is_compressed, length in self._chunks:
            yield is_compressed, self._file.read(length)

    def close(self) -> None:
        """Let go of them."""
        with self._using, suppress(OSError):  # what did not fit on the disk is still in the buffer
            self._is_closed = True
            self._file.close()

    def _put(self, chunk: bytes) -> None:
        packed = zlib.compress(chunk, level=1) if _shrinks(chunk) else chunk  # the fastest level; others win little
        kept = packed if len(packed) < len(chunk) else chunk
        with self._using:
            if not self._is_closed:
                self._write(kept)
        self._chunks.append((kept is not chunk, len(kept)))

    def _write(self, kept: bytes) -> None:
        try:
            self._file.write(kept)
            self._file.flush()  # else a full disk would be met later, where nobody expects it
        except OSError as fault:
            raise Unavailable(
                f"The disk of the data folder does not take the snapshot: {fault.strerror}; free some space, then try"
                " again."
            ) from fault


class _Reading:
    """What has been read of a blob, and whether it is still what was sealed."""

    def __init__(self, sha256: str, key: bytes) -> None:
        self.position = 0  # of the chunk to be read next
        self.is_done = False
        self._sha256 = sha256
        self._key = key
        self._hash = hashlib.sha256()

    def take(self, row: sqlite3.Row) -> bytes:
        """The content of the next chunk. The seal comes first, so that the size may bound what is unpacked."""
        size = row["size"]
        if not hmac.compare_digest(row["seal"], _seal(self._sha256, size, self._key)):
            raise self._damaged("its seal does not fit: it was changed, or sealed under another server's key")
        count = -(-size // CHUNK_BYTES)
        if row["chunks"] > count:
            raise self._damaged("it has more chunks than its size needs")
        content = self._unpacked(row) if count else b""
        expected = min(CHUNK_BYTES, size - self.position * CHUNK_BYTES)
        self._hash.update(content)
        self.position += 1
        self.is_done = self.position >= count
        if len(content) != expected or (self.is_done and self._hash.hexdigest() != self._sha256):
            raise self._damaged("its content is not what was sealed")
        return content

    def _unpacked(self, row: sqlite3.Row) -> bytes:
        """A chunk's content, never more than a chunk may have, whatever was put in its place."""
        content: bytes | None = row["content"]
        if content is None:
            raise self._damaged("a chunk is missing")
        if not row["compressed"]:
            return content
        try:
            return zlib.decompressobj().decompress(content, CHUNK_BYTES)
        except zlib.error as error:
            raise self._damaged("a chunk cannot be decompressed") from error

    def _damaged(self, how: str) -> Unavailable:
        return Unavailable(
            f"blob {self._sha256} is damaged: {how}; restore it from a backup, or delete what it is used by",
            blob=self._sha256,
        )


def _seal(sha256: str, size: int, key: bytes) -> bytes:
    return hmac.digest(key, f"{sha256} {size}".encode(), "sha256")


def _shrinks(chunk: bytes) -> bool:
    """Whether a look at a few places says that compressing is worth its time."""
    if len(chunk) <= SAMPLES * SAMPLE_BYTES:
        return True
    step = (len(chunk) - SAMPLE_BYTES) // (SAMPLES - 1)
    sample = b"".join(chunk[start : start + SAMPLE_BYTES] for start in range(0, len(chunk) - SAMPLE_BYTES + 1, step))
    return len(zlib.compress(sample, level=1)) < WORTHWHILE * len(sample)
