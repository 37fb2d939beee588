from __future__ import annotations

import asyncio
import random
import resource
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import aiosqlite
import pytest

from mlhost.errors import Unavailable
from mlhost.store import Store

Opener = Callable[[], Awaitable[Store]]
INSERT = "insert into users (name, password_hash, role, created_at) values (?, 'hash', 'owner', 0)"


async def names(store: Store) -> list[str]:
    return [row["name"] for row in await store.read("select name from users order by name")]


def connection_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "_connection_worker_thread" in thread.name}


def ended(threads: set[threading.Thread]) -> bool:
    for thread in threads:
        thread.join(5)
    return not any(thread.is_alive() for thread in threads)


class Gate:
    """An SQL function that holds the writer's thread until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    async def install(self, store: Store) -> None:
        async with store.write() as db:
            await db.create_function("gate", 0, self._wait)

    def _wait(self) -> int:
        self.reached.set()
        assert self.opened.wait(10)
        return 0


@pytest.fixture
async def gate(store: Store) -> Gate:
    gate = Gate()
    await gate.install(store)
    return gate


async def cancel_often(task: asyncio.Task[None]) -> None:
    for _ in range(3):
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()


async def test_a_write_is_read_once_its_block_has_ended(store: Store) -> None:
    async with store.write() as db:
        await db.execute(INSERT, ("ada",))
        assert await store.read("select * from users") == []
    row = await store.read_one("select name, role, created_at from users where name = :name", {"name": "ada"})
    assert row is not None
    assert dict(row) == {"name": "ada", "role": "owner", "created_at": 0.0}
    assert await store.read_one("select * from users where name = 'bob'") is None


async def test_a_block_that_raises_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.write() as db:
            await db.execute(INSERT, ("ada",))
            _ = 1 / 0
    assert await names(store) == []


async def test_concurrent_writers_never_share_a_transaction(store: Store) -> None:
    async def add(n: int) -> None:
        async with store.write() as db:
            await db.execute(INSERT, (f"{n:03}a",))
            await asyncio.sleep(random.Random(n).choice([0, 0.001]))
            rows = await db.execute_fetchall("select count(*) from users where name like '___a'")
            firsts = next(iter(rows))[0]
            rows = await db.execute_fetchall("select count(*) from users where name like '___b'")
            assert firsts == next(iter(rows))[0] + 1
            await db.execute(INSERT, (f"{n:03}b",))
            if n % 3 == 0:
                raise RuntimeError(n)

    outcomes = await asyncio.gather(*map(add, range(60)), return_exceptions=True)
    assert [n for n, outcome in enumerate(outcomes) if outcome] == list(range(0, 60, 3))
    assert await names(store) == [f"{n:03}{half}" for n in range(60) if n % 3 for half in "ab"]


async def test_a_bystanders_insert_survives_anothers_rollback(store: Store) -> None:
    begun = asyncio.Event()

    async def failing() -> None:
        async with store.write() as db:
            await db.execute(INSERT, ("lost",))
            begun.set()
            await asyncio.sleep(0.01)
            raise RuntimeError

    task = asyncio.create_task(failing())
    await begun.wait()
    async with store.write() as db:
        await db.execute(INSERT, ("kept",))
    with pytest.raises(RuntimeError):
        await task
    assert await names(store) == ["kept"]


async def test_an_integrity_error_reaches_the_caller_as_it_is(store: Store) -> None:
    async with store.write() as db:
        await db.execute(INSERT, ("ada",))
    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE constraint failed: users\.name"):
        async with store.write() as db:
            await db.execute(INSERT, ("ada",))
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        async with store.write() as db:
            await db.execute("insert into grants values ('g', 'nobody', '', 'a', 0, 0)")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await store.read("select * from nowhere")


async def test_the_reader_cannot_write(store: Store) -> None:
    with pytest.raises(Unavailable):
        await store.read(INSERT, ("ada",))
    assert await names(store) == []


async def test_a_transaction_that_ended_inside_its_block_is_not_acknowledged(store: Store) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no transaction is active"):
        async with store.write() as db:
            await db.execute(INSERT, ("ada",))
            await db.execute("rollback")  # as SQLite itself does after some errors
    assert await names(store) == []


async def test_the_file_is_safe_against_power_failure_and_not_mapped(store: Store, database: Path) -> None:
    settings = dict.fromkeys(["journal_mode", "synchronous", "foreign_keys", "mmap_size", "trusted_schema"])
    for setting in settings:
        async with store.write() as db:
            settings[setting] = next(iter(await db.execute_fetchall(f"pragma {setting}")))[0]
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "mmap_size": 0,
        "trusted_schema": 0,
    }
    assert [row[0] for row in await store.read("pragma query_only")] == [1]


async def test_a_cancelled_begin_does_not_leave_a_transaction_open(store: Store, database: Path) -> None:
    async def add() -> None:
        async with store.write() as db:
            await db.execute(INSERT, ("lost",))

    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("begin immediate")  # the store's `begin` now waits in its thread
        task = asyncio.create_task(add())
        await asyncio.sleep(0.02)
        await cancel_often(task)
        other.execute("rollback")
    with pytest.raises(asyncio.CancelledError):
        await task
    async with store.write() as db:
        await db.execute(INSERT, ("kept",))
    assert await names(store) == ["kept"]


async def test_a_write_cancelled_again_and_again_holds_its_lock_until_it_is_rolled_back(
    store: Store, gate: Gate
) -> None:
    async def add() -> None:
        async with store.write() as db:
            await db.execute(INSERT, ("lost",))
            await db.execute_fetchall("select gate()")

    async def bystander() -> None:
        async with store.write() as db:
            await db.execute(INSERT, ("kept",))

    task, waiting = asyncio.create_task(add()), asyncio.create_task(bystander())
    await asyncio.to_thread(gate.reached.wait, 30)
    await cancel_often(task)
    assert not waiting.done()
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await waiting
    assert await names(store) == ["kept"]


async def test_a_cancelled_commit_ends_before_the_next_write_begins(store: Store, gate: Gate) -> None:
    in_the_way: list[asyncio.Future[object]] = []

    async def add() -> None:
        async with store.write() as db:
            await db.execute(INSERT, ("committed",))
            in_the_way.append(asyncio.ensure_future(db.execute_fetchall("select gate()")))
            await asyncio.to_thread(gate.reached.wait, 30)

    task = asyncio.create_task(add())
    await asyncio.to_thread(gate.reached.wait, 30)
    await asyncio.sleep(0.02)  # now the commit waits behind the gate
    await cancel_often(task)
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.gather(*in_the_way)
    assert await names(store) == ["committed"]


async def test_a_cancel_during_the_rollback_of_an_error_is_not_lost(store: Store, gate: Gate) -> None:
    in_the_way: list[asyncio.Future[object]] = []

    async def fail() -> None:
        async with store.write() as db:
            in_the_way.append(asyncio.ensure_future(db.execute_fetchall("select gate()")))
            await asyncio.to_thread(gate.reached.wait, 30)
            raise RuntimeError

    task = asyncio.create_task(fail())
    await asyncio.to_thread(gate.reached.wait, 30)
    await asyncio.sleep(0.02)
    await cancel_often(task)
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.gather(*in_the_way)


async def test_writes_cancelled_at_random_moments_lose_no_acknowledged_row(store: Store) -> None:
    chance = random.Random(4)
    acknowledged: set[int] = set()

    async def add_pair(n: int) -> None:
        async with store.write() as db:
            await db.execute(INSERT, (f"{n}a",))
            await db.execute(INSERT, (f"{n}b",))
        acknowledged.add(n)

    async def cancel_at_random(task: asyncio.Task[None]) -> None:
        for _ in range(chance.choice([1, 1, 2, 3])):
            for _ in range(chance.randrange(8)):
                await asyncio.sleep(0)
            await asyncio.sleep(chance.choice([0, chance.random() / 1000]))
            task.cancel()

    cancelled = 0
    for n in range(0, 1200, 3):
        victim = asyncio.create_task(add_pair(n))
        bystanders = [asyncio.create_task(add_pair(n + 1)), asyncio.create_task(add_pair(n + 2))]
        await cancel_at_random(victim)
        await asyncio.gather(*bystanders)
        await asyncio.wait([victim])
        cancelled += victim.cancelled()

    assert 50 < cancelled < 400
    stored = await names(store)
    assert {int(name[:-1]) for name in stored} >= acknowledged
    assert sorted(stored) == sorted(f"{n}{half}" for n in {int(name[:-1]) for name in stored} for half in "ab")


async def test_a_full_disk_is_said_in_words_and_passes_when_there_is_space(store: Store) -> None:
    async with store.write() as db:
        await db.execute(INSERT, ("before",))
        pages = next(iter(await db.execute_fetchall("pragma page_count")))[0]
        await db.execute(f"pragma max_page_count = {pages + 4}")
    for _ in range(3):
        with pytest.raises(Unavailable, match="disk that holds the database is full; free some space"):
            async with store.write() as db:
                await db.execute(INSERT, ("lost",))
                await db.execute(INSERT, ("x" * 100_000,))
        assert await names(store) == ["before"]
    async with store.write() as db:
        await db.execute("pragma max_page_count = 1000000")
        await db.execute(INSERT, ("x" * 100_000,))
    assert len(await names(store)) == 2


async def test_a_file_the_system_will_not_let_grow_is_said_in_words(store: Store, database: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = database.with_name("mlhost.sqlite-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50_000, hard))
    try:
        with pytest.raises(Unavailable, match="disk that holds the database fails"):
            async with store.write() as db:
                await db.execute(INSERT, ("x" * 100_000,))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    async with store.write() as db:
        await db.execute(INSERT, ("x" * 100_000,))
    assert await store.check() == []


async def test_closing_folds_the_journal_into_the_file(open_store: Opener, database: Path) -> None:
    before = connection_threads()
    store = await open_store()
    assert len(connection_threads() - before) == 2
    async with store.write() as db:
        await db.execute(INSERT, ("ada",))
    assert database.with_name("mlhost.sqlite-wal").exists()
    await store.close()
    await store.close()
    assert [path.name for path in database.parent.iterdir()] == ["mlhost.sqlite"]
    assert ended(connection_threads() - before)


async def test_closing_waits_for_the_write_under_way(open_store: Opener, database: Path) -> None:
    store = await open_store()
    begun = asyncio.Event()

    async def add() -> None:
        async with store.write() as db:
            begun.set()
            await asyncio.sleep(0.02)
            await db.execute(INSERT, ("ada",))

    task = asyncio.create_task(add())
    await begun.wait()
    await store.close()
    await task
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("select name from users").fetchall() == [("ada",)]


async def test_a_schema_that_is_no_text_any_more_is_refused_with_words(open_store: Opener, database: Path) -> None:
    await (await open_store()).close()
    database.write_bytes(database.read_bytes().replace(b"TABLE snapshots", b"TABL\xa0 snapshots"))
    with pytest.raises(Unavailable, match=r"mlhost\.sqlite: the database is damaged"):
        await open_store()


@pytest.mark.parametrize("content", [b"not a database " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_a_file_that_is_no_database_is_refused_by_name(database: Path, content: bytes) -> None:
    before = connection_threads()
    database.write_bytes(content)
    with pytest.raises(Unavailable, match=r"mlhost\.sqlite: the file is not a database; restore a backup"):
        await Store.open(database)
    assert database.read_bytes() == content
    assert ended(connection_threads() - before)


async def test_a_folder_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be opened; see that its folder exists"):
        await Store.open(tmp_path / "nowhere" / "mlhost.sqlite")


async def test_a_newer_database_does_not_open(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("pragma user_version = 9999")
    with pytest.raises(Unavailable, match="has version 9999"):
        await Store.open(database)


async def test_opening_can_be_cancelled_at_any_moment(database: Path) -> None:
    await (await Store.open(database)).close()
    before = connection_threads()
    for n in range(60):
        task = asyncio.create_task(Store.open(database))
        await asyncio.sleep(n * 0.0001)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            await task.result().close()
    assert ended(connection_threads() - before)


async def test_check_finds_nothing_in_a_sound_file(store: Store) -> None:
    assert await store.check() == []


async def test_check_names_rows_that_refer_to_nothing(open_store: Opener, database: Path) -> None:
    await (await open_store()).close()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("insert into grants values ('g', 'nobody', '', 'a', 0, 0)")
    store = await open_store()
    assert await store.check() == ["grants: row 1 refers to no row of users"]
    await store.close()


async def test_check_finds_damaged_pages(open_store: Opener, database: Path) -> None:
    store = await open_store()
    async with store.write() as db:
        await db.executemany(INSERT, [(f"user {n} " + "x" * 500,) for n in range(200)])
    await store.close()
    content = bytearray(database.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8192] = b"\xa5" * 8192
    database.write_bytes(content)
    store = await open_store()
    assert await store.check() != []
    await store.close()


async def test_aiosqlite_still_runs_what_was_cancelled(database: Path) -> None:
    """The habit of aiosqlite that `write` is built around."""
    async with aiosqlite.connect(database, isolation_level=None) as db:
        gate = Gate()
        await db.create_function("gate", 0, gate._wait)
        held = asyncio.ensure_future(db.execute_fetchall("select gate()"))
        begin = asyncio.ensure_future(db.execute("begin"))
        await asyncio.sleep(0)
        begin.cancel()
        gate.opened.set()
        await held
        await db.execute("select 1")
        assert db.in_transaction
        await db.rollback()
