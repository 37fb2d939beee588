from __future__ import annotations

import asyncio
import hashlib
import random
import sqlite3
import tracemalloc
import zlib
from array import array
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlhost.errors import MlhostError, NotFound, Unavailable
from mlhost.store import Store
from mlhost.store.blobs import CHUNK_BYTES, MEMORY_BYTES, PART_CHUNKS, Blobs
from tests.parts import keep, pieces

Opener = Callable[[], Awaitable[Store]]
NOISE = random.Random(1).randbytes(CHUNK_BYTES + 100)  # does not compress: two chunks as they are
TEXT = b"to be or not to be, " * 60_000  # compresses: two short chunks
UPDATE = "update blob_chunks set content = ? where sha256 = ? and position = ?"


async def whole(blobs: Blobs, sha256: str) -> bytes:
    return b"".join([chunk async for chunk in blobs.read(sha256)])


async def kept_as(blobs: Blobs, *content: bytes) -> list[tuple[bool, bytes]]:
    """The chunks of a blob: whether compressed, and the bytes."""
    async with blobs.receive(pieces(*content)) as sealed:
        return list(sealed.spool.chunks())


async def seal_of(blobs: Blobs, content: bytes) -> bytes:
    async with blobs.receive(pieces(content)) as sealed:
        return sealed.seal


async def change(store: Store, sql: str, *parameters: object) -> None:
    async with store.write() as db:
        assert (await db.execute(sql, parameters)).rowcount > 0


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


async def test_content_comes_back_under_the_name_of_its_hash(store: Store, blobs: Blobs) -> None:
    for content in (NOISE, TEXT, b"", b"x"):
        sha256 = await keep(store, blobs, content)
        assert sha256 == hashlib.sha256(content).hexdigest()
        assert await whole(blobs, sha256) == content
    assert await blobs.check() == []
    assert await store.check() == []


sizes = st.builds(lambda chunks, edge: max(0, chunks * CHUNK_BYTES + edge), st.integers(0, 3), st.integers(-2, 2))


@given(size=sizes | st.integers(0, 3000), compressible=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_size_comes_back(store: Store, blobs: Blobs, size: int, compressible: bool, seed: int) -> None:
    content = bytes([seed]) * size if compressible else random.Random(seed).randbytes(size)
    cut = random.Random(seed).randint(0, size)
    chunks = await kept_as(blobs, content[:cut], content[cut:])
    assert len(chunks) == -(-size // CHUNK_BYTES)
    assert all(len(chunk) <= CHUNK_BYTES for _, chunk in chunks)
    assert await whole(blobs, await keep(store, blobs, content[:cut], content[cut:])) == content


async def test_only_what_gets_shorter_is_kept_compressed(store: Store, blobs: Blobs) -> None:
    assert [compressed for compressed, _ in await kept_as(blobs, NOISE)] == [False, False]
    text = await kept_as(blobs, TEXT)
    assert [compressed for compressed, _ in text] == [True, True]
    assert sum(len(chunk) for _, chunk in text) < len(TEXT) / 50


async def test_what_hardly_gets_shorter_is_not_compressed_at_all(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    compress = zlib.compress
    monkeypatch.setattr(
        zlib, "compress", lambda content, level: lengths.append(len(content)) or compress(content, level)
    )
    chance = random.Random(3)
    floats = array("d", (chance.random() for _ in range(CHUNK_BYTES // 8))).tobytes()
    assert [compressed for compressed, _ in await kept_as(blobs, floats)] == [False]
    assert lengths == [16384]


async def test_the_last_chunk_comes_only_when_the_whole_is_verified(store: Store, blobs: Blobs) -> None:
    sha256 = await keep(store, blobs, NOISE)
    await change(store, UPDATE, flipped(NOISE[:CHUNK_BYTES], 0), sha256, 0)
    came = []
    with pytest.raises(Unavailable, match="its content is not what was sealed"):
        async for chunk in blobs.read(sha256):
            came.append(chunk)
    assert len(came) == 1


async def test_a_blob_swept_while_it_is_read_is_not_found(store: Store, blobs: Blobs) -> None:
    sha256 = await keep(store, blobs, NOISE)
    reading = blobs.read(sha256)
    assert await anext(reading) == NOISE[:CHUNK_BYTES]
    async with store.write() as db:
        assert await blobs.sweep(db) == 1
    with pytest.raises(NotFound):
        await anext(reading)


async def test_a_large_blob_comes_in_and_goes_out_without_being_in_memory(
    store: Store, blobs: Blobs, tmp_path: Path
) -> None:
    count = 64
    whole_size = count * len(NOISE)
    tracemalloc.start()
    try:
        sha256 = await keep(store, Blobs(store, b"k" * 32, tmp_path), *[NOISE] * count)
        size = 0
        async for chunk in blobs.read(sha256):
            size += len(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == whole_size
    assert peak < MEMORY_BYTES + 12 * CHUNK_BYTES


async def test_a_disk_that_does_not_take_a_large_blob_is_told_in_words(
    store: Store, blobs: Blobs, tmp_path: Path
) -> None:
    refusing = Blobs(store, b"k" * 32, tmp_path / "not there")
    assert await whole(blobs, await keep(store, refusing, NOISE)) == NOISE  # in memory
    with pytest.raises(Unavailable, match="The disk of the data folder does not take the snapshot: No such file"):
        await keep(store, refusing, *[NOISE] * 9)


async def test_others_read_and_write_while_a_large_blob_is_read(store: Store, blobs: Blobs) -> None:
    sha256 = await keep(store, blobs, *[NOISE] * 20)
    reading = blobs.read(sha256)
    await anext(reading)
    async with asyncio.timeout(1):
        await keep(store, blobs, b"another")
        assert len(await store.read("select * from blobs")) == 2
    assert sum([len(chunk) async for chunk in reading]) == 20 * len(NOISE) - CHUNK_BYTES


async def test_a_blob_that_is_not_there_is_not_found(blobs: Blobs) -> None:
    with pytest.raises(NotFound):
        await whole(blobs, "0" * 64)


async def test_a_blob_and_the_row_that_names_it_come_and_fail_together(store: Store, blobs: Blobs) -> None:
    async with blobs.receive(pieces(TEXT)) as sealed:
        with pytest.raises(sqlite3.IntegrityError):
            async with store.write() as db:
                await blobs.keep(db, sealed)
                await db.execute("insert into users (name, password_hash, role, created_at) values (null, '', '', 0)")
    with pytest.raises(NotFound):
        await whole(blobs, sealed.sha256)
    assert await store.read("select * from blob_chunks") == []


async def test_a_blob_kept_again_is_there_once_and_heals(store: Store, blobs: Blobs) -> None:
    sha256 = await keep(store, blobs, TEXT)
    created = await store.read("select created_at from blobs")
    await change(store, "update blob_chunks set content = x'00' where position = 1")
    await change(store, "update blobs set size = 5, seal = x'00'")
    with pytest.raises(Unavailable):
        await whole(blobs, sha256)
    assert await keep(store, blobs, TEXT) == sha256
    assert await whole(blobs, sha256) == TEXT
    assert len(await store.read("select * from blob_chunks")) == 2
    assert await store.read("select created_at from blobs") == created


@pytest.mark.parametrize("content", [NOISE, TEXT], ids=["raw", "compressed"])
async def test_a_flipped_bit_in_any_chunk_never_gives_other_bytes(store: Store, blobs: Blobs, content: bytes) -> None:
    sha256 = await keep(store, blobs, content)
    chunks = await kept_as(blobs, content)
    chance, unnoticed = random.Random(2), 0
    for _ in range(60):
        position = chance.randrange(2)
        sound = chunks[position][1]
        await change(store, UPDATE, flipped(sound, chance.randrange(8 * len(sound))), sha256, position)
        try:
            assert await whole(blobs, sha256) == content
            unnoticed += 1
        except Unavailable as error:
            assert sha256 in error.message
            assert error.details == {"blob": sha256}
        await change(store, UPDATE, sound, sha256, position)
    assert unnoticed <= (1 if chunks[0][0] else 0)  # zlib has a few bits that mean nothing
    assert await whole(blobs, sha256) == content


async def test_every_flipped_bit_of_size_and_seal_is_detected(store: Store, blobs: Blobs) -> None:
    sha256 = await keep(store, blobs, TEXT)
    seal = await seal_of(blobs, TEXT)
    for bit in range(256):
        await change(store, "update blobs set seal = ?", flipped(seal, bit))
        with pytest.raises(Unavailable, match="seal does not fit"):
            await whole(blobs, sha256)
    await change(store, "update blobs set seal = ?", seal)
    for bit in range(62):
        await change(store, "update blobs set size = ?", len(TEXT) ^ 1 << bit)
        with pytest.raises(Unavailable, match="seal does not fit"):
            await whole(blobs, sha256)


@pytest.mark.parametrize(
    "change_made",
    [
        "update blob_chunks set compressed = not compressed where position = 1",
        "update blob_chunks set position = 5 where position = 0",
        "delete from blob_chunks where position = 0",
        "delete from blob_chunks where position = 1",
        "delete from blob_chunks",
        "insert into blob_chunks select sha256, 2, compressed, content from blob_chunks where position = 1",
        "insert into blob_chunks select sha256, 2, 0, x'' from blob_chunks where position = 1",
        "update blob_chunks set content = x''",
    ],
)
@pytest.mark.parametrize("content", [NOISE, TEXT], ids=["raw", "compressed"])
async def test_chunks_that_were_moved_lost_or_added_are_detected(
    store: Store, blobs: Blobs, content: bytes, change_made: str
) -> None:
    sha256 = await keep(store, blobs, content)
    await change(store, change_made)
    with pytest.raises(Unavailable, match=f"blob {sha256} is damaged"):
        await whole(blobs, sha256)


async def test_a_blob_put_under_anothers_name_is_refused(store: Store, blobs: Blobs) -> None:
    one, other = await keep(store, blobs, b"harmless"), await keep(store, blobs, b"something else")
    seal = await seal_of(blobs, b"something else")
    await change(store, "update blobs set seal = ?, size = 14 where sha256 = ?", seal, one)
    await change(store, UPDATE, b"something else", one, 0)
    with pytest.raises(Unavailable):
        await whole(blobs, one)
    assert await whole(blobs, other) == b"something else"


async def test_a_seal_of_another_blob_of_the_same_size_does_not_fit(store: Store, blobs: Blobs) -> None:
    await keep(store, blobs, b"harmless")
    forged = hashlib.sha256(b"tampered").hexdigest()
    await change(store, "insert into blobs select ?, size, seal, 0 from blobs", forged)
    await change(store, "insert into blob_chunks values (?, 0, 0, ?)", forged, b"tampered")
    with pytest.raises(Unavailable, match="seal does not fit"):
        await whole(blobs, forged)


@pytest.mark.parametrize(
    "damage",
    [
        "update blobs set seal = cast(x'ff' as text)",
        "update blobs set seal = 5",
        "update blobs set size = 'many'",
        "update blob_chunks set content = cast(x'ff' as text)",
        "update blob_chunks set content = 5",
        "update blob_chunks set compressed = 'no', content = 'text'",
    ],
)
async def test_damage_that_changes_a_type_is_damage_like_any_other(
    open_store: Opener, database: Path, damage: str
) -> None:
    store = await open_store()
    sha256 = await keep(store, Blobs(store, b"key"), TEXT)
    await store.close()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("pragma writable_schema = on")
        connection.execute("update sqlite_schema set sql = replace(sql, 'strict', '')")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(damage)
    store = await open_store()
    assert await Blobs(store, b"key").check() == [sha256]
    await store.close()


async def test_a_blob_sealed_under_another_key_is_refused(store: Store, blobs: Blobs) -> None:
    sha256 = await keep(store, Blobs(store, b"other" * 7), TEXT)
    with pytest.raises(Unavailable, match="another server's key"):
        await whole(blobs, sha256)
    assert await blobs.check() == [sha256]


async def test_a_tampered_chunk_cannot_unpack_to_more_than_a_chunk(store: Store, blobs: Blobs) -> None:
    sha256 = await keep(store, blobs, TEXT)
    bomb = zlib.compress(bytes(64 << 20), 9)
    await change(store, UPDATE, bomb, sha256, 0)
    tracemalloc.start()
    try:
        with pytest.raises(Unavailable):
            await whole(blobs, sha256)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(bomb) + 8 * CHUNK_BYTES


async def test_many_tampered_chunks_are_not_even_unpacked(store: Store, blobs: Blobs) -> None:
    sha256 = await keep(store, blobs, TEXT)
    bomb = zlib.compress(bytes(CHUNK_BYTES), 9)
    async with store.write() as db:
        rows = ((sha256, n, 1, bomb) for n in range(2, 100))
        await db.executemany("insert into blob_chunks values (?, ?, ?, ?)", rows)
    with pytest.raises(Unavailable, match="more chunks than its size needs"):
        await whole(blobs, sha256)


async def test_sweep_deletes_what_neither_a_snapshot_nor_a_service_names(store: Store, blobs: Blobs) -> None:
    snapshot, service, compiled, *rest = [await keep(store, blobs, bytes([n]) * 9) for n in range(5)]
    async with store.write() as db:
        await db.execute("insert into snapshots values ('s', 'ada', 'n', ?, 9, '{}', 0)", (snapshot,))
        for name, *named in (("with", service, compiled), ("without", None, None)):
            await db.execute(
                "insert into services values (null, ?, '1', 'ada', null, ?, '{}', 0, ?, null)", (name, *named)
            )
        assert await blobs.sweep(db) == 2
    assert [await whole(blobs, sha256) for sha256 in (snapshot, service, compiled)] == [bytes(9), b"\1" * 9, b"\2" * 9]
    for sha256 in rest:
        with pytest.raises(NotFound):
            await whole(blobs, sha256)
    assert len(await store.read("select * from blob_chunks")) == 3
    async with store.write() as db:
        await db.execute("delete from snapshots")
        assert await blobs.sweep(db) == 1
        assert await blobs.sweep(db) == 0


async def test_a_blob_somebody_names_cannot_be_deleted(store: Store, blobs: Blobs) -> None:
    sha256 = await keep(store, blobs, TEXT)
    await change(store, "insert into snapshots values ('s', 'ada', 'n', ?, 9, '{}', 0)", sha256)
    with pytest.raises(sqlite3.IntegrityError):
        await change(store, "delete from blobs")
    assert await whole(blobs, sha256) == TEXT


async def test_check_names_the_damaged_blobs_only(store: Store, blobs: Blobs) -> None:
    shas = sorted([await keep(store, blobs, bytes([n]) * 100) for n in range(5)])
    await change(store, UPDATE, b"\0", shas[1], 0)
    await change(store, "update blobs set size = 7 where sha256 = ?", shas[3])
    assert await blobs.check() == [shas[1], shas[3]]


async def test_a_bit_flipped_anywhere_in_the_file_never_gives_other_bytes(open_store: Opener, database: Path) -> None:
    contents = {hashlib.sha256(content).hexdigest(): content for content in (NOISE[:9000], TEXT[:90_000], b"x")}
    store = await open_store()
    for content in contents.values():
        await keep(store, Blobs(store, b"key"), content)
    await store.close()
    sound, chance, refused = database.read_bytes(), random.Random(3), 0
    for _ in range(100):
        database.write_bytes(flipped(sound, chance.randrange(8 * len(sound))))
        try:
            store = await open_store()
        except (MlhostError, sqlite3.Error):
            refused += 1
            continue
        for sha256, content in contents.items():
            try:
                assert await whole(Blobs(store, b"key"), sha256) == content
            except (MlhostError, sqlite3.Error):
                refused += 1
        await store.close()
    assert refused > 5


# --- large blobs, which are written ahead in parts

LARGE = [NOISE] * (PART_CHUNKS * 2)


async def test_others_write_while_a_large_blob_is_written(store: Store, blobs: Blobs) -> None:
    keeping = asyncio.ensure_future(keep_and_name(store, blobs, "s"))
    on_its_way = 0
    while not keeping.done():
        async with store.write() as db:
            [[found]] = await db.execute_fetchall("select count(*) from blobs where seal = x''")
            assert await blobs.sweep(db) == 0  # it is held
        on_its_way += found
        await asyncio.sleep(0.001)
    assert on_its_way > 0
    assert await whole(blobs, await keeping) == b"".join(LARGE)
    assert await store.read("select * from blobs where seal = x''") == []


async def test_a_blob_on_its_way_is_neither_read_nor_called_damaged(store: Store, blobs: Blobs) -> None:
    async with blobs.receive(pieces(*LARGE)) as sealed:
        await blobs.write_ahead(sealed)
        with pytest.raises(Unavailable):
            await whole(blobs, sealed.sha256)
        assert await blobs.check() == []
        async with store.write() as db:
            await blobs.keep(db, sealed)
    assert await whole(blobs, sealed.sha256) == b"".join(LARGE)


async def test_a_large_blob_nobody_names_in_the_end_leaves_nothing(store: Store, blobs: Blobs) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        async with blobs.receive(pieces(*LARGE)) as sealed:
            await blobs.write_ahead(sealed)
            async with store.write() as db:
                await blobs.keep(db, sealed)
                await db.execute("insert into users (name, password_hash, role, created_at) values (null, '', '', 0)")
    assert await store.read("select sha256 from blobs") == []
    assert await store.read("select sha256 from blob_chunks") == []


async def test_whenever_receiving_a_large_blob_is_cancelled_it_leaves_nothing(store: Store, blobs: Blobs) -> None:
    for n in range(12):
        keeping = asyncio.ensure_future(keep(store, blobs, *LARGE))
        await asyncio.sleep(n * n * 0.005)
        if keeping.done():
            break
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping
        async with store.write() as db:
            await blobs.sweep(db)  # one that was kept, in the moment it was cancelled, is not named by anything
        assert await store.read("select sha256 from blobs") == []
        assert await store.read("select sha256 from blob_chunks") == []
    assert await whole(blobs, await keep(store, blobs, *LARGE)) == b"".join(LARGE)


async def test_a_large_blob_kept_again_stays_as_it_is_or_heals(store: Store, blobs: Blobs) -> None:
    sha256 = await keep(store, blobs, *LARGE)
    rows = await store.read("select rowid from blob_chunks order by rowid")
    await keep(store, blobs, *LARGE)
    assert await store.read("select rowid from blob_chunks order by rowid") == rows
    await change(store, UPDATE, b"\0", sha256, 5)
    assert await blobs.check() == [sha256]
    await keep(store, blobs, *LARGE)
    assert await whole(blobs, sha256) == b"".join(LARGE)


async def test_a_large_blob_that_two_bring_at_once_is_whole_whoever_gives_up(store: Store, blobs: Blobs) -> None:
    for n in range(3):
        one = asyncio.ensure_future(keep(store, blobs, *LARGE))
        two = asyncio.ensure_future(keep_and_name(store, blobs, f"s{n}"))
        await asyncio.sleep(n * 0.1)
        if n:
            one.cancel()
        await asyncio.gather(one, return_exceptions=True)
        assert await whole(blobs, await two) == b"".join(LARGE)
        async with store.write() as db:
            await db.execute("delete from snapshots")
            await blobs.sweep(db)


async def keep_and_name(store: Store, blobs: Blobs, name: str) -> str:
    async with blobs.receive(pieces(*LARGE)) as sealed:
        await blobs.write_ahead(sealed)
        async with store.write() as db:
            await blobs.keep(db, sealed)
            await db.execute("insert into snapshots values (?, 'ada', 'n', ?, 9, '{}', 0)", (name, sealed.sha256))
    return sealed.sha256


async def test_a_disk_that_fills_up_on_the_way_leaves_nothing(store: Store, blobs: Blobs) -> None:
    async with store.write() as db:
        pages = next(iter(await db.execute_fetchall("pragma page_count")))[0]
        await db.execute(f"pragma max_page_count = {pages + PART_CHUNKS * CHUNK_BYTES * 3 // 2 // 4096}")
    with pytest.raises(Unavailable, match="disk that holds the database is full"):
        await keep(store, blobs, *LARGE)
    assert await store.read("select sha256 from blobs") == []
    async with store.write() as db:
        await db.execute("pragma max_page_count = 1000000")
    assert await whole(blobs, await keep(store, blobs, *LARGE)) == b"".join(LARGE)
