"""Blobs: immutable bytes named by their sha256, sealed with the server's key and verified on every read.

A blob is in memory as a whole while it is written or read; what its bytes mean is nobody's business here.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sqlite3
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import time

import aiosqlite

from mlhost.errors import NotFound, Unavailable
from mlhost.store import Store

CHUNK_BYTES = 1 << 20  # of content: far from SQLite's limit for a row, and enough for zlib to find repetitions

INSERT = """
insert into blobs (sha256, size, seal, created_at) values (:sha256, :size, :seal, :created_at)
on conflict (sha256) do update set size = excluded.size, seal = excluded.seal
"""
DELETE_CHUNKS = "delete from blob_chunks where sha256 = ?"
INSERT_CHUNK = "insert into blob_chunks (sha256, position, compressed, content) values (?, ?, ?, ?)"

# One statement sees one state of the database. The casts: damage to a file can turn bytes into text.
SELECT = """
select size, cast(seal as blob) as seal, compressed, cast(content as blob) as content
from blobs left join blob_chunks using (sha256) where sha256 = ? order by position
"""

# Chunks go with their blob (on delete cascade).
SWEEP = """
delete from blobs where not exists (select 1 from snapshots where blob = sha256)
and not exists (select 1 from services where blob = sha256)
and not exists (select 1 from batches where blob = sha256)
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Up to CHUNK_BYTES of content, compressed where that makes it shorter."""

    compressed: bool
    content: bytes


@dataclass(frozen=True, slots=True)
class SealedBlob:
    """A blob ready to be kept."""

    sha256: str  # of the content, in hexadecimal: the blob's name
    size: int  # bytes of content
    seal: bytes  # HMAC-SHA256 over name and size
    chunks: tuple[Chunk, ...]


class Blobs:
    """The blobs of one store, all sealed with one key."""

    def __init__(self, store: Store, key: bytes) -> None:
        self._store = store
        self._key = key

    async def seal(self, content: bytes) -> SealedBlob:
        """Do in a thread what takes time, so that the write that follows is short."""
        return await asyncio.to_thread(_sealed, content, self._key)

    async def keep(self, db: aiosqlite.Connection, sealed: SealedBlob) -> None:
        """Write the blob inside the caller's `store.write()`, which is to write the row naming it too.

        A blob that is there already is written anew: the bytes are the same, and a damaged copy heals.
        """
        blob = {"sha256": sealed.sha256, "size": sealed.size, "seal": sealed.seal, "created_at": time()}
        await db.execute(INSERT, blob)
        await db.execute(DELETE_CHUNKS, (sealed.sha256,))
        chunks = ((sealed.sha256, n, chunk.compressed, chunk.content) for n, chunk in enumerate(sealed.chunks))
        await db.executemany(INSERT_CHUNK, chunks)

    async def read(self, sha256: str) -> bytes:
        """The content, exactly as it was sealed; NotFound if there is none, Unavailable if it is damaged."""
        rows = await self._store.read(SELECT, (sha256,))
        if not rows:
            raise NotFound(f"there is no blob {sha256}")
        return await asyncio.to_thread(_verified, sha256, rows, self._key)

    async def sweep(self, db: aiosqlite.Connection) -> int:
        """Delete, inside the caller's `store.write()`, the blobs nothing names; how many they were."""
        return (await db.execute(SWEEP)).rowcount

    async def check(self) -> list[str]:
        """The names of the blobs that `read` refuses; reads them all, one after the other."""
        damaged = []
        for row in await self._store.read("select sha256 from blobs order by sha256"):
            try:
                with suppress(NotFound):  # swept meanwhile
                    await self.read(row["sha256"])
            except Unavailable:
                damaged.append(row["sha256"])
        return damaged


def _sealed(content: bytes, key: bytes) -> SealedBlob:
    sha256 = hashlib.sha256(content).hexdigest()
    pieces = (content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES))
    return SealedBlob(sha256, len(content), _seal(sha256, len(content), key), tuple(map(_packed, pieces)))


def _seal(sha256: str, size: int, key: bytes) -> bytes:
    return hmac.digest(key, f"{sha256} {size}".encode(), "sha256")


def _packed(piece: bytes) -> Chunk:
    packed = zlib.compress(piece, level=1)  # the fastest; higher levels win little on arrays
    return Chunk(True, packed) if len(packed) < len(piece) else Chunk(False, piece)


def _verified(sha256: str, rows: Sequence[sqlite3.Row], key: bytes) -> bytes:
    """The content of a blob's rows. The seal comes first, so that the size may bound what is unpacked."""
    size = rows[0]["size"]
    if not hmac.compare_digest(rows[0]["seal"], _seal(sha256, size, key)):
        raise _damaged(sha256, "its seal does not fit: it was changed, or sealed under another server's key")
    chunks = [row for row in rows if row["content"] is not None]
    if len(chunks) > -(-size // CHUNK_BYTES):
        raise _damaged(sha256, "it has more chunks than its size needs")
    try:
        content = b"".join(_unpacked(row) for row in chunks)
    except zlib.error as error:
        raise _damaged(sha256, "a chunk cannot be decompressed") from error
    if len(content) != size or not hmac.compare_digest(hashlib.sha256(content).hexdigest(), sha256):
        raise _damaged(sha256, "its content is not what was sealed")
    return content


def _unpacked(row: sqlite3.Row) -> bytes:
    """A chunk's content, never more than a chunk may have, whatever was put in its place."""
    content: bytes = row["content"]
    return zlib.decompressobj().decompress(content, CHUNK_BYTES) if row["compressed"] else content


def _damaged(sha256: str, how: str) -> Unavailable:
    return Unavailable(
        f"blob {sha256} is damaged: {how}; restore it from a backup, or delete what it is used by",
        blob=sha256,
    )
