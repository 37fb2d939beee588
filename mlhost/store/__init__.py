"""The database: one SQLite file, one connection that writes and one that reads.

One process may have it open (`DataFolder` sees to that) and only its writer checkpoints: SQLite before 3.51.3
can damage a file that two connections checkpoint at once. What the tables hold is up to the nouns above.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Self

import aiosqlite

from mlhost.errors import Unavailable
from mlhost.store.migrate import migrate

BUSY_SECONDS = 5.0  # how long to wait for another program, a backup say, that has the file locked

# synchronous = full: what was acknowledged survives a power failure, not only a crash.
# journal_size_limit: after a large blob the journal gives its space back, down to 64 MiB.
PRAGMAS = """
pragma journal_mode = wal;
pragma synchronous = full;
pragma journal_size_limit = 67108864;
pragma mmap_size = 0;
pragma trusted_schema = off;
"""

WORDS = {
    sqlite3.SQLITE_FULL: "the disk that holds the database is full; free some space, then try again",
    sqlite3.SQLITE_IOERR: "the disk that holds the database fails; see that it is there, sound and not full",
    sqlite3.SQLITE_READONLY: "the database cannot be written; see who owns it and how its disk is mounted",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened; see that its folder exists and who may enter it",
    sqlite3.SQLITE_BUSY: "another program has the database locked; end it, then try again",
    sqlite3.SQLITE_CORRUPT: "the database is damaged; stop the server and restore a backup",
    sqlite3.SQLITE_NOTADB: "the file is not a database; restore a backup, or move it away to start anew",
}

Parameters = Sequence[Any] | Mapping[str, Any]


class Store:
    """An open database; made by `open`, and to be closed, since each connection has a thread of its own."""

    def __init__(self, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self._writer = writer
        self._reader = reader
        self._writing = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the database, made or migrated if need be; Unavailable if the file cannot be used."""
        with _disk_errors_in_words(f"{path}: "):
            await asyncio.to_thread(_prepare, path)
            writer = await _connect(path, "pragma foreign_keys = on")
            try:
                return cls(writer, await _connect(path, "pragma query_only = on"))
            except BaseException:
                await writer.close()
                raise

    @asynccontextmanager
    async def write(self) -> AsyncIterator[aiosqlite.Connection]:
        """A transaction of one's own: committed at the end of the block, rolled back if the block raises.

        Who is cancelled during the commit cannot know whether it took place. Writes do not nest.
        """
        with _disk_errors_in_words():
            async with self._writing:
                try:
                    await self._writer.execute("begin immediate")
                    yield self._writer
                    # `commit()` would say nothing if an error inside the block has ended the transaction.
                    await self._writer.execute("commit")
                except BaseException:
                    await self._roll_back()
                    raise

    async def _roll_back(self) -> None:
        """Return once the writer is out of its transaction, however often the caller is cancelled meanwhile.

        The connection's thread runs statements in order, the cancelled ones too: when a rollback is seen to
        end, a cancelled `begin` or `commit` has ended before it.
        """
        try:
            await self._writer.rollback()
        except asyncio.CancelledError:
            await self._roll_back()
            raise

    async def read(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """All rows, as of the last commit."""
        with _disk_errors_in_words():
            return list(await self._reader.execute_fetchall(sql, parameters))

    async def read_one(self, sql: str, parameters: Parameters = ()) -> sqlite3.Row | None:
        """The first row, if there is any."""
        rows = await self.read(sql, parameters)
        return rows[0] if rows else None

    async def check(self) -> list[str]:
        """What is wrong with the file, a sentence each; reads all of it."""
        try:
            damage = [row[0] for row in await self.read("pragma quick_check") if row[0] != "ok"]
            orphans = await self.read("pragma foreign_key_check")
        except Unavailable as error:
            return [error.message]
        return damage + [f"{table}: row {row} refers to no row of {parent}" for table, row, parent, _ in orphans]

    async def close(self) -> None:
        """Close when the write under way has ended; the last connection folds the journal into the file."""
        async with self._writing:
            try:
                await self._reader.close()
            finally:
                await self._writer.close()


def copy_database(path: Path, target: Path) -> int:
    """Copy a database as it is at one moment into a file of its own, while others write; the version of its schema.

    For the process that has it open, or has the folder: the connection made here never checkpoints, as it never writes
    and others are there to the end. Blocks; Unavailable if the disk does not take it.
    """
    target.touch(mode=0o600)
    with (
        _disk_errors_in_words(f"{target}: "),
        closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as source,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        source.execute("pragma query_only = on")
        source.backup(copy)  # all pages in one step: one read transaction, which no write restarts
        (version,) = copy.execute("pragma user_version").fetchone()
        copy.execute("pragma journal_mode = delete")  # no files beside it; the next server changes it back
    return int(version)


@contextmanager
def _disk_errors_in_words(place: str = "") -> Iterator[None]:
    """What the disk or the file did to us becomes Unavailable; every other error of SQLite passes."""
    try:
        yield
    except sqlite3.Error as error:
        words = WORDS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)  # the low byte is the kind of error
        if words is None:
            raise
        raise Unavailable(place + words) from error


def _prepare(path: Path) -> None:
    """Do what can fail before the connections have their threads."""
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        try:
            connection.executescript(PRAGMAS)
        except UnicodeDecodeError as error:  # sqlite3 quotes the damaged table in its message, and fails to
            raise Unavailable(f"{path}: {WORDS[sqlite3.SQLITE_CORRUPT]}") from error
        migrate(connection)


async def _connect(path: Path, pragma: str) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        await connection.executescript(PRAGMAS + pragma)
    except BaseException:
        await connection.close()
        raise
    return connection
