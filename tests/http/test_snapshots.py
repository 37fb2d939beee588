"""Snapshots over HTTP: taken, loaded, refused, downloaded, damaged."""

import asyncio
import io
import json
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest

from mlhost.auth.principal import Principal, Role
from mlhost.host import Host
from mlhost.store.blobs import Blobs
from tests.parts import Api, until

ADMIN = Principal("admin", Role.OWNER)


@pytest.fixture
async def large(admin: Api, session: str) -> AsyncIterator[str]:
    """A snapshot of 3 MB."""
    await admin.execute(session, "import random\nlarge = random.Random(1).randbytes(3_000_000)")
    taken = (await admin("POST", f"{session}/snapshot", 201, {}))["snapshotId"]
    yield taken
    await admin("DELETE", f"/snapshots/{taken}")


async def damage(host: Host, snapshot: str) -> None:
    """Change a byte of the last chunk."""
    blob = (await host.snapshots.get(ADMIN, snapshot)).blob
    async with host.store.write() as db:
        change = "update blob_chunks set compressed = 0, content = zeroblob(length(content))"
        last = "(select max(position) from blob_chunks where sha256 = ?)"
        await db.execute(f"{change} where sha256 = ? and position = {last}", (blob, blob))


async def test_a_snapshot_holds_objects_functions_and_files_and_loads_elsewhere(admin: Api, session: str) -> None:
    await admin.execute(
        session,
        "shared = [1]\npair = (shared, shared)\nfactor = 2\ndef double(x):\n    return x * factor\n"
        "class Point:\n    def __init__(self, x): self.x = x\np = Point(5)\nopen('f.txt', 'w').write('hello')",
    )
    taken = await admin("POST", f"{session}/snapshot", 201, {"name": "first"})
    [listed] = [each for each in await admin("GET", "/snapshots") if each["id"] == taken["snapshotId"]]
    assert (listed["name"], listed["owner"]) == ("first", "admin")
    content = await admin("GET", f"/snapshots/{taken['snapshotId']}")
    assert listed["contentSize"] == len(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert set(archive.namelist()) == {"manifest.json", "workspace.dill", "files/f.txt"}
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["objects"]["shared"] == {"type": "list", "bytes": sys.getsizeof([1]), "repr": "[1]"}

    other = await admin.session(snapshotId=taken["snapshotId"])
    done = await admin.execute(
        other, "r = [pair[0] is pair[1], double(4), p.x, open('f.txt').read()]\nfactor = 10\ns = double(4)", "r", "s"
    )
    assert [each["value"] for each in done["outputParameters"]] == [[True, 8, 5, "hello"], 40]
    await admin("DELETE", other)

    third = await admin.session()
    await admin.execute(third, "own = 1; factor = 0")
    await admin("POST", f"{third}/loadsnapshot/{taken['snapshotId']}")
    done = await admin.execute(third, "r = [own, double(4), open('f.txt').read()]", "r")
    assert done["outputParameters"][0]["value"] == [1, 8, "hello"]
    await admin("DELETE", third)
    await admin("DELETE", f"/snapshots/{taken['snapshotId']}")
    await admin("GET", f"/snapshots/{taken['snapshotId']}", 404)
    await admin("DELETE", f"/snapshots/{taken['snapshotId']}", 404)
    await admin("POST", f"{session}/loadsnapshot/{taken['snapshotId']}", 404)


async def test_what_cannot_be_pickled_is_named_on_the_console_and_left_out(admin: Api, session: str) -> None:
    await admin.execute(session, "import threading\nlock = threading.Lock()\ngen = (x for x in [])\nkept = 1")
    taken = await admin("POST", f"{session}/snapshot", 201, {"name": None})
    console = (await admin("GET", f"{session}/console-output"))["consoleOutput"]
    assert "'lock' is not in the snapshot" in console
    assert "'gen' is not in the snapshot" in console
    other = await admin.session(snapshotId=taken["snapshotId"])
    assert await admin("GET", f"{other}/workspace") == ["kept"]
    await admin("DELETE", other)
    await admin("DELETE", f"/snapshots/{taken['snapshotId']}")


async def test_another_users_snapshot_does_not_exist(admin: Api, carol: Api, session: str) -> None:
    taken = (await admin("POST", f"{session}/snapshot", 201, {}))["snapshotId"]
    await carol("GET", f"/snapshots/{taken}", 404)
    await carol("DELETE", f"/snapshots/{taken}", 404)
    await carol("POST", "/sessions", 404, {"runtimeType": "Python", "snapshotId": taken})
    assert not any(each["id"] == taken for each in await carol("GET", "/snapshots"))
    await admin("DELETE", f"/snapshots/{taken}")


async def test_a_session_that_cannot_be_resumed_leaves_no_session_behind(admin: Api) -> None:
    before = len(await admin("GET", "/sessions"))
    await admin("POST", "/sessions", 404, {"runtimeType": "Python", "snapshotId": "nothing"})
    assert len(await admin("GET", "/sessions")) == before


# --- strict


async def test_under_strict_a_snapshot_that_would_not_hold_everything_is_refused(
    admin: Api, host: Host, session: str
) -> None:
    await admin.execute(session, "import threading\nlock = threading.Lock()\nholds = [n for n in [lock]]\nkept = 1")
    before = await stored(host)
    answer = await admin("POST", f"{session}/snapshot", 400, {"name": "x", "strict": True})
    assert "'lock': it is a lock, which only this process has" in answer["message"]
    assert "'holds': it holds a lock, which only this process has" in answer["message"]
    assert answer["fields"] == "strict"
    assert await stored(host) == before
    assert await admin("GET", f"{session}/workspace") == ["holds", "kept", "lock"]
    await admin.execute(session, "del lock, holds")
    taken = (await admin("POST", f"{session}/snapshot", 201, {"strict": True}))["snapshotId"]
    await admin("DELETE", f"/snapshots/{taken}")


@pytest.mark.parametrize("strict", [None, False])
async def test_without_strict_it_is_taken(admin: Api, session: str, strict: bool | None) -> None:
    await admin.execute(session, "g = (n for n in [])")
    taken = (await admin("POST", f"{session}/snapshot", 201, {"name": None, "strict": strict}))["snapshotId"]
    await admin("DELETE", f"/snapshots/{taken}")


async def stored(host: Host) -> list[int]:
    """How many snapshots, blobs and chunks there are."""
    counts = "select (select count(*) from snapshots), (select count(*) from blobs), (select count(*) from blob_chunks)"
    return list(await host.store.read_one(counts) or ())


# --- damage and other mishaps


async def test_a_download_tells_its_size_beforehand(admin: Api, large: str) -> None:
    content = await admin("GET", f"/snapshots/{large}")
    assert int(admin.headers["Content-Length"]) == len(content) > 3_000_000
    assert admin.headers["Content-Type"] == "application/zip"
    assert admin.headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{large}.zip"


async def test_a_damaged_snapshot_is_told_in_words_whatever_is_asked_of_it(
    admin: Api, host: Host, session: str, large: str
) -> None:
    await damage(host, large)
    await admin.execute(session, "large = 'own'")
    for method, path, body in (
        ("GET", f"/snapshots/{large}", None),
        ("POST", f"{session}/loadsnapshot/{large}", None),
        ("POST", "/sessions", {"runtimeType": "Python", "snapshotId": large}),
        ("POST", "/services/damaged/1", {"runtimeType": "Python", "code": "y = 1", "snapshotId": large}),
    ):
        assert "is damaged" in (await admin(method, path, 503, body))["message"]
    done = await admin.execute(session, "", "large")
    assert done["outputParameters"][0]["value"] == "own"


async def test_a_download_that_proves_damaged_on_the_way_breaks_off(
    admin: Api, host: Host, large: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def sound(self: Blobs, sha256: str) -> None:
        """As if the damage came after the look."""

    monkeypatch.setattr(Blobs, "verify", sound)
    await damage(host, large)
    with pytest.raises(aiohttp.ClientPayloadError):
        await admin("GET", f"/snapshots/{large}")
    await until(lambda: "broke off" in caplog.text)


async def test_a_disk_that_is_full_beside_the_workspace_is_told_in_words_and_the_session_lives(
    admin: Api, host: Host, session: str
) -> None:
    limit = "import resource as r\nr.setrlimit(r.RLIMIT_FSIZE, ({}, r.getrlimit(r.RLIMIT_FSIZE)[1]))"
    await admin.execute(session, "text = 'x' * 5_000_000\n" + limit.format(1 << 20))
    before = await stored(host)
    answer = await admin("POST", f"{session}/snapshot", 503, {})
    assert answer["message"].startswith("There is no room beside the workspace: File too large (this")
    assert "limits.file_bytes" in answer["message"]
    assert await stored(host) == before
    await admin.execute(session, limit.format("r.getrlimit(r.RLIMIT_FSIZE)[1]"))
    taken = (await admin("POST", f"{session}/snapshot", 201, {}))["snapshotId"]
    await admin("DELETE", f"/snapshots/{taken}")


async def test_a_block_sent_while_a_snapshot_is_taken_waits_until_it_is_out(admin: Api, session: str) -> None:
    await admin.execute(session, "large = bytes(30_000_000)")
    taking = asyncio.ensure_future(admin("POST", f"{session}/snapshot", 201, {}))
    await asyncio.sleep(0.01)
    running = asyncio.ensure_future(admin.execute(session, "import time\nlarge = 'changed'\ntime.sleep(1)"))
    taken = (await taking)["snapshotId"]
    assert not running.done()
    await running
    await admin("POST", f"{session}/loadsnapshot/{taken}")
    done = await admin.execute(session, "size = len(large)", "size")
    assert done["outputParameters"][0]["value"] == 30_000_000
    await admin("DELETE", f"/snapshots/{taken}")


async def test_whenever_taking_a_snapshot_is_cancelled_nothing_is_stored_and_the_next_one_works(
    admin: Api, host: Host, session: str
) -> None:
    await admin.execute(session, "large = bytes(20_000_000)")
    before = await stored(host)
    session_id = session.rpartition("/")[2]
    for milliseconds in (0, 1, 5, 10, 20, 40, 60, 80):
        taking = asyncio.ensure_future(host.snapshots.create(ADMIN, session_id, "cancelled"))
        await asyncio.sleep(milliseconds / 1000)
        taking.cancel()
        with suppress(asyncio.CancelledError):
            await taking
        for snapshot in await host.snapshots.list(ADMIN):
            if snapshot.name == "cancelled":  # too late, or during the commit
                await host.snapshots.delete(ADMIN, snapshot.id)
        assert await stored(host) == before
    taken = (await admin("POST", f"{session}/snapshot", 201, {}))["snapshotId"]
    await admin("DELETE", f"/snapshots/{taken}")
