from __future__ import annotations

import hashlib
import random
import sqlite3
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlhost.errors import MlhostError, NotFound, Unavailable
from mlhost.store import Store
from mlhost.store.blobs import CHUNK_BYTES, Blobs

Opener = Callable[[], Awaitable[Store]]
NOISE = random.Random(1).randbytes(CHUNK_BYTES + 100)  # does not compress: two chunks as they are
TEXT = b"to be or not to be, " * 60_000  # compresses: two short chunks
UPDATE = "update blob_chunks set content = ? where sha256 = ? and position = ?"


async def keep(store: Store, blobs: Blobs, content: bytes) -> str:
    sealed = await blobs.seal(content)
    async with store.write() as db:
        await blobs.keep(db, sealed)
    return sealed.sha256


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
        assert await blobs.read(sha256) == content
    assert await blobs.check() == []
    assert await store.check() == []


sizes = st.builds(lambda chunks, edge: max(0, chunks * CHUNK_BYTES + edge), st.integers(0, 3), st.integers(-2, 2))


@given(size=sizes | st.integers(0, 3000), compressible=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_size_comes_back(store: Store, blobs: Blobs, size: int, compressible: bool, seed: int) -> None:
    content = bytes([seed]) * size if compressible else random.Random(seed).randbytes(size)
    sealed = await blobs.seal(content)
    assert len(sealed.chunks) == -(-size // CHUNK_BYTES)
    assert all(len(chunk.content) <= CHUNK_BYTES for chunk in sealed.chunks)
    async with store.write() as db:
        await blobs.keep(db, sealed)
    assert await blobs.read(sealed.sha256) == content


async def test_only_what_gets_shorter_is_kept_compressed(store: Store, blobs: Blobs) -> None:
    assert [chunk.compressed for chunk in (await blobs.seal(NOISE)).chunks] == [False, False]
    text = await blobs.seal(TEXT)
    assert [chunk.compressed for chunk in text.chunks] == [True, True]
    assert sum(len(chunk.content) for chunk in text.chunks) < len(TEXT) / 50


async def test_a_blob_that_is_not_there_is_not_found(blobs: Blobs) -> None:
    with pytest.raises(NotFound):
        await blobs.read("0" * 64)


async def test_a_blob_and_the_row_that_names_it_come_and_fail_together(store: Store, blobs: Blobs) -> None:
    sealed = await blobs.seal(TEXT)
    with pytest.raises(sqlite3.IntegrityError):
        async with store.write() as db:
            await blobs.keep(db, sealed)
            await db.execute("insert into users values (null, '', '', 0)")
    with pytest.raises(NotFound):
        await blobs.read(sealed.sha256)
    assert await store.read("select * from blob_chunks") == []


async def test_a_blob_kept_again_is_there_once_and_heals(store: Store, blobs: Blobs) -> None:
    sha256 = await keep(store, blobs, TEXT)
    created = await store.read("select created_at from blobs")
    await change(store, "update blob_chunks set content = x'00' where position = 1")
    await change(store, "update blobs set size = 5, seal = x'00'")
    with pytest.raises(Unavailable):
        await blobs.read(sha256)
    assert await keep(store, blobs, TEXT) == sha256
    assert await blobs.read(sha256) == TEXT
    assert len(await store.read("select * from blob_chunks")) == 2
    assert await store.read("select created_at from blobs") == created


@pytest.mark.parametrize("content", [NOISE, TEXT], ids=["raw", "compressed"])
async def test_a_flipped_bit_in_any_chunk_never_gives_other_bytes(store: Store, blobs: Blobs, content: bytes) -> None:
    sha256 = await keep(store, blobs, content)
    sealed = await blobs.seal(content)
    chance, unnoticed = random.Random(2), 0
    for _ in range(60):
        position = chance.randrange(2)
        sound = sealed.chunks[position].content
        await change(store, UPDATE, flipped(sound, chance.randrange(8 * len(sound))), sha256, position)
        try:
            assert await blobs.read(sha256) == content
            unnoticed += 1
        except Unavailable as error:
            assert sha256 in error.message
            assert error.details == {"blob": sha256}
        await change(store, UPDATE, sound, sha256, position)
    assert unnoticed <= (1 if sealed.chunks[0].compressed else 0)  # zlib has a few bits that mean nothing
    assert await blobs.read(sha256) == content


async def test_every_flipped_bit_of_size_and_seal_is_detected(store: Store, blobs: Blobs) -> None:
    sha256 = await keep(store, blobs, TEXT)
    seal = (await blobs.seal(TEXT)).seal
    for bit in range(256):
        await change(store, "update blobs set seal = ?", flipped(seal, bit))
        with pytest.raises(Unavailable, match="seal does not fit"):
            await blobs.read(sha256)
    await change(store, "update blobs set seal = ?", seal)
    for bit in range(62):
        await change(store, "update blobs set size = ?", len(TEXT) ^ 1 << bit)
        with pytest.raises(Unavailable, match="seal does not fit"):
            await blobs.read(sha256)


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
        await blobs.read(sha256)


async def test_a_blob_put_under_anothers_name_is_refused(store: Store, blobs: Blobs) -> None:
    one, other = await keep(store, blobs, b"harmless"), await keep(store, blobs, b"something else")
    seal = (await blobs.seal(b"something else")).seal
    await change(store, "update blobs set seal = ?, size = 14 where sha256 = ?", seal, one)
    await change(store, UPDATE, b"something else", one, 0)
    with pytest.raises(Unavailable):
        await blobs.read(one)
    assert await blobs.read(other) == b"something else"


async def test_a_seal_of_another_blob_of_the_same_size_does_not_fit(store: Store, blobs: Blobs) -> None:
    await keep(store, blobs, b"harmless")
    forged = hashlib.sha256(b"tampered").hexdigest()
    await change(store, "insert into blobs select ?, size, seal, 0 from blobs", forged)
    await change(store, "insert into blob_chunks values (?, 0, 0, ?)", forged, b"tampered")
    with pytest.raises(Unavailable, match="seal does not fit"):
        await blobs.read(forged)


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
        await blobs.read(sha256)
    assert await blobs.check() == [sha256]


async def test_a_tampered_chunk_cannot_unpack_to_more_than_a_chunk(store: Store, blobs: Blobs) -> None:
    sha256 = await keep(store, blobs, TEXT)
    bomb = zlib.compress(bytes(64 << 20), 9)
    await change(store, UPDATE, bomb, sha256, 0)
    tracemalloc.start()
    try:
        with pytest.raises(Unavailable):
            await blobs.read(sha256)
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
        await blobs.read(sha256)


async def test_sweep_deletes_what_neither_a_snapshot_nor_a_service_names(store: Store, blobs: Blobs) -> None:
    snapshot, service, *rest = [await keep(store, blobs, bytes([n]) * 9) for n in range(4)]
    async with store.write() as db:
        await db.execute("insert into snapshots values ('s', 'ada', 'n', ?, 9, '{}', 0)", (snapshot,))
        for name, blob in (("with", service), ("without", None)):
            await db.execute("insert into services values (null, ?, '1', 'ada', null, ?, '{}', 0)", (name, blob))
        assert await blobs.sweep(db) == 2
    assert [await blobs.read(sha256) for sha256 in (snapshot, service)] == [bytes(9), b"\1" * 9]
    for sha256 in rest:
        with pytest.raises(NotFound):
            await blobs.read(sha256)
    assert len(await store.read("select * from blob_chunks")) == 2
    async with store.write() as db:
        await db.execute("delete from snapshots")
        assert await blobs.sweep(db) == 1
        assert await blobs.sweep(db) == 0


async def test_a_blob_somebody_names_cannot_be_deleted(store: Store, blobs: Blobs) -> None:
    sha256 = await keep(store, blobs, TEXT)
    await change(store, "insert into snapshots values ('s', 'ada', 'n', ?, 9, '{}', 0)", sha256)
    with pytest.raises(sqlite3.IntegrityError):
        await change(store, "delete from blobs")
    assert await blobs.read(sha256) == TEXT


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
                assert await Blobs(store, b"key").read(sha256) == content
            except (MlhostError, sqlite3.Error):
                refused += 1
        await store.close()
    assert refused > 5
