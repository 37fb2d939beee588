from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import mlhost
from mlhost.store import Store
from mlhost.store.blobs import Blobs
from mlhost.store.folder import DataFolder

WRITER = Path(__file__).with_name("write_until_killed.py")
ROUNDS = 25


def write_until_killed(folder: Path, writer: str, seconds: float) -> dict[str, str]:
    """Name and blob of each service acknowledged before SIGKILL, `seconds` after the first."""
    environment = os.environ | {"PYTHONPATH": str(Path(mlhost.__file__).parents[1])}
    command = [sys.executable, str(WRITER), str(folder), writer]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        first = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        lines = [first, *process.stdout]
    return dict(line.split() for line in lines if line.endswith("\n"))


async def test_no_acknowledged_service_is_lost_when_the_server_is_killed(
    open_store: Callable[[], Awaitable[Store]], tmp_path: Path
) -> None:
    chance = random.Random(5)
    for n in range(ROUNDS):
        acknowledged = write_until_killed(tmp_path, str(n), chance.random() / 10)
        assert acknowledged
        with DataFolder.open(tmp_path) as folder:
            store = await open_store()
            blobs = Blobs(store, folder.key("blobs"))
            kept = {row["name"]: row["blob"] for row in await store.read("select name, blob from services")}
            for name, blob in acknowledged.items():
                if int(name.rpartition("-")[2]) % 5:  # the writer deletes every fifth
                    assert kept[name] == blob
            assert await store.check() == []
            assert await blobs.check() == []
            # One without a seal was on its way; the next start sweeps it.
            orphans = "select count(*) from blobs where sha256 not in (select blob from services) and seal != x''"
            assert (await store.read(orphans))[0][0] == 0
            async with store.write() as db:
                await db.execute("delete from services")
                await blobs.sweep(db)
            await store.close()
