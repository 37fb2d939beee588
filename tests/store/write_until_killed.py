"""Publishes until it is killed: a row and its blob in one write, then a line on the pipe as receipt."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

from mlhost.store import Store
from mlhost.store.blobs import CHUNK_BYTES, PART_CHUNKS, Blobs
from mlhost.store.folder import DataFolder

INSERT = "insert into services values (null, ?, '1', 'ada', null, ?, '{}', 0, null, null)"


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def publish(store: Store, blobs: Blobs, name: str, content: bytes) -> None:
    async with blobs.receive(pieces(content)) as sealed:
        await blobs.write_ahead(sealed)
        async with store.write() as db:
            await blobs.keep(db, sealed)
            await db.execute(INSERT, (name, sealed.sha256))
    print(name, sealed.sha256, flush=True)


async def publish_for_ever(store: Store, blobs: Blobs, writer: str) -> None:
    chance = random.Random(writer)
    for n in count():
        size = chance.choice([0, 100, 50_000, CHUNK_BYTES + 1, PART_CHUNKS * CHUNK_BYTES + 1])
        await publish(store, blobs, f"{writer}-{n}", chance.randbytes(size))
        if n % 5 == 4:
            async with store.write() as db:
                await db.execute("delete from services where name = ?", (f"{writer}-{n - 4}",))
                await blobs.sweep(db)


async def main(path: str, writer: str) -> None:
    with DataFolder.open(Path(path)) as folder:
        store = await Store.open(folder.database)
        blobs = Blobs(store, folder.key("blobs"))
        await asyncio.gather(*(publish_for_ever(store, blobs, f"{writer}-{n}") for n in range(3)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
