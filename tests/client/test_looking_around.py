"""What the client finds by its id: sessions, snapshots, batches; and what differs between versions."""

import asyncio
import io
import zipfile
from typing import Any

import pytest

from mlhost.client.comparing import Change
from mlhost.errors import NotFound, Unavailable
from tests.client.conftest import done


class Full(io.BytesIO):
    """A file on a full disk."""

    def write(self, _content: Any) -> int:
        raise OSError(28, "No space left on device")


async def opened(ml: Any, **options: Any) -> Any:
    session = ml.session(**options)
    return await session if hasattr(session, "__await__") else session


async def attached(ml: Any, session: str) -> Any:
    there = ml.attach(session)
    return await there if hasattr(there, "__await__") else there


async def test_open_sessions_are_listed_attached_to_and_killed(ml: Any) -> None:
    session = await opened(ml, name="mine")
    assert "mine" in [each.name for each in await done(ml.sessions())]
    await done(session.run("x = 42"))
    same = await attached(ml, session.id)
    assert await done(same.fetch("x")) == 42
    await done(ml.kill_session(session.id))
    assert session.id not in [each.id for each in await done(ml.sessions())]
    for gone in (ml.kill_session, lambda there: attached(ml, there)):
        with pytest.raises(NotFound):
            await done(gone(session.id))


async def test_a_console_is_followed_until_its_session_is_closed(ml: Any) -> None:
    session, heard = await opened(ml), []

    def hear(text: str) -> None:
        heard.append(text)

    await done(session.run("print('first')"))
    if hasattr(session, "__aexit__"):
        following = asyncio.ensure_future(session.follow(hear))
        await asyncio.sleep(0.1)
        await session.run("print('second')")
        await asyncio.sleep(0.3)
        await ml.kill_session(session.id)
        await following
    else:
        following = asyncio.get_running_loop().run_in_executor(None, session.follow, hear)
        await asyncio.sleep(0.1)
        session.run("print('second')")
        await asyncio.sleep(0.3)
        ml.kill_session(session.id)
        await following
    assert heard == ["first\n", "second\n"]


async def test_a_snapshot_is_found_looked_into_and_downloaded(ml: Any) -> None:
    session = await opened(ml)
    await done(session.run("x = [1, 2]; open('note.txt', 'w').write('hello')"))
    snapshot = await done(session.snapshot("looked-into"))
    assert (await done(ml.snapshot("looked-into"))).id == snapshot
    contents = await done(ml.contents(snapshot))
    assert contents.objects["x"]["type"] == "list"
    assert contents.files["note.txt"][0] == 5
    file, heard = io.BytesIO(), []
    await done(ml.download_snapshot(snapshot, file, lambda *told: heard.append(told)))
    assert "manifest.json" in zipfile.ZipFile(file).namelist()
    assert heard[-1] == (len(file.getvalue()),) * 2
    with pytest.raises(Unavailable, match="cannot be written: No space left"):
        await done(ml.download_snapshot(snapshot, Full()))
    await done(session.snapshot("looked-into"))
    with pytest.raises(NotFound, match="2 snapshots are named"):
        await done(ml.snapshot("looked-into"))
    for each in await done(ml.snapshots()):
        await done(ml.delete_snapshot(each.id))
    with pytest.raises(NotFound):
        await done(ml.download_snapshot(snapshot, io.BytesIO()))
    await done(session.close())


async def test_a_batch_is_begun_followed_and_cancelled_by_its_id(ml: Any) -> None:
    session = await opened(ml)
    service = await done(session.publish("halved", "1.0", "y = 1 / x", inputs={"x": float}, outputs={"y": float}))
    batch = await done(service.start([{"x": 2.0}, {"x": 0.0}]))
    ended = await done(batch.wait(progress=False))
    assert (ended.state, ended.done, ended.total, ended.has_ended) == ("Complete", 2, 2, True)
    results = await done(batch.results())
    assert results[0] == {"y": 0.5}
    assert "division" in results[1]["error"]
    assert [each.id for each in await done(service.batches())] == [batch.id]
    assert [each.id for each in await done(ml.batches())] == [batch.id]
    await done(batch.cancel())
    with pytest.raises(NotFound):
        await done(batch.progress())
    await done(session.close())


async def test_versions_are_compared_by_signature_code_and_what_their_snapshots_hold(ml: Any) -> None:
    session = await opened(ml)
    kept = []
    for version, code, kind in (("1", "y = k * x", "numeric"), ("2", "y = k + x", "integer")):
        await done(session.run(f"k = {version}; open('f.txt', 'w').write('a' * k)"))
        snapshot = await done(session.snapshot())
        kept.append(snapshot)
        body = {
            "runtimeType": "Python",
            "code": code,
            "snapshotId": snapshot,
            "inputParameterDefinitions": [{"name": "x", "type": kind}],
        }
        await done(ml.wire.run(ml.wire.transport.ask("POST", f"/services/compared/{version}", body)))
    told = await done(ml.compare("compared", "1", "2"))
    assert Change("input", "x", "numeric", "integer") in told.changes
    assert told.code[-2:] == ["-y = k * x", "+y = k + x"]
    assert [(each.kind, each.name) for each in told.changes] == [("input", "x"), ("object", "k"), ("file", "f.txt")]
    assert (await done(ml.compare("compared", "1", "1"))).is_none
    await done(ml.delete_snapshot(kept[0]))
    told = await done(ml.compare("compared", "1", "2"))
    assert "not compared" in told.unknown
    await done(ml.delete_snapshot(kept[1]))
    await done(session.close())
