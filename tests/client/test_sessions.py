"""Sessions of the client, blocking and awaited: code, objects, files, snapshots, and what is not opened here."""

import asyncio
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from mlhost.errors import CodeFailed, Forbidden, Gone, Invalid, NotFound
from mlhost.testing import Server
from tests.client.conftest import done


@pytest.fixture
async def session(ml: Any) -> Any:
    session = await done(ml.session("of a test"))
    yield session
    await done(session.close())


async def test_code_runs_and_tells_what_it_printed_made_and_changed(session: Any) -> None:
    ran = await done(session.run("y = x + 1\nprint(y)\nopen('f', 'w').close()", inputs={"x": 1}, outputs=["y"]))
    assert (str(ran), ran.outputs, ran.changed_files) == ("2\n", {"y": 2}, ["f"])
    assert await done(session.console()) == "2\n"


async def test_code_that_raises_is_an_error_with_its_traceback(session: Any) -> None:
    with pytest.raises(CodeFailed, match="ZeroDivisionError: division by zero") as failed:
        await done(session.run("print('before')\n1/0"))
    assert failed.value.details["console"].startswith("before\nTraceback")


DATA: list[Any] = [None, True, 3, 2.5, "text", [1, "a", None], {"k": [1, 2]}]
ARRAYS: list[Any] = [np.arange(3.0), np.array([True, False]), np.arange(6).reshape(2, 3)]


@pytest.mark.parametrize("value", DATA, ids=repr)
async def test_plain_data_goes_in_and_comes_back(session: Any, value: Any) -> None:
    await done(session.put("x", value))
    back = await done(session.fetch("x"))
    assert (type(back), back) == (type(value), value)


@pytest.mark.parametrize("value", ARRAYS, ids=lambda array: str(array.dtype))
async def test_arrays_go_in_and_come_back(session: Any, value: Any) -> None:
    await done(session.put("x", value))
    back = await done(session.fetch("x"))
    assert back.dtype == value.dtype
    assert np.array_equal(back, value)


async def test_data_frames_go_in_and_come_back(session: Any) -> None:
    frame = pd.DataFrame({"n": [1, 2], "x": [0.5, np.nan], "t": ["a", "b"]})
    await done(session.put("df", frame))
    assert (await done(session.run("total = df.n.sum()", outputs=["total"]))).outputs == {"total": 3}
    pd.testing.assert_frame_equal(await done(session.fetch("df")), frame)


async def test_functions_of_this_program_go_in(session: Any) -> None:
    offset = 40
    await done(session.put("f", lambda x: x + offset))
    assert (await done(session.run("y = f(2)", outputs=["y"]))).outputs == {"y": 42}


async def test_a_fitted_model_comes_back_only_from_a_server_that_is_trusted(session: Any) -> None:
    await done(session.put("clf", LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])))
    with pytest.raises(Forbidden, match=r"'clf' has no form in JSON: .* fetch\('clf', trust=True\)"):
        await done(session.fetch("clf"))
    assert (await done(session.fetch("clf", trust=True))).predict([[2.0]]) == pytest.approx([4.0])


async def test_what_comes_from_a_server_runs_no_code_here(session: Any, tmp_path: Path) -> None:
    bomb = f"class Bomb:\n    def __reduce__(self): return (open, ({str(tmp_path / 'ran')!r}, 'w'))\nx = [1, Bomb()]"
    await done(session.run(bomb))
    with pytest.raises(Forbidden):
        await done(session.fetch("x"))
    assert not (tmp_path / "ran").exists()
    (await done(session.fetch("x", trust=True)))[1].close()
    assert (tmp_path / "ran").exists()  # it was one


async def test_what_cannot_be_pickled_is_named_before_anything_is_sent(session: Any) -> None:
    with pytest.raises(Invalid, match="cannot be pickled: TypeError"):
        await done(session.put("g", (i for i in [])))


async def test_objects_are_listed_and_deleted(session: Any) -> None:
    await done(session.run("a = b = 1"))
    assert await done(session.names()) == ["a", "b"]
    await done(session.delete("a"))
    with pytest.raises(NotFound, match="no object 'a'"):
        await done(session.fetch("a"))


async def test_files_go_in_and_come_back(session: Any) -> None:
    content = bytes(range(256)) + b"\r\n--x--"
    await done(session.upload('a "b" ü.bin', content))
    assert await done(session.files()) == ['a "b" ü.bin']
    assert await done(session.download('a "b" ü.bin')) == content


async def test_a_snapshot_is_loaded_and_opened_on(ml: Any, session: Any) -> None:
    await done(session.run("kept = 7"))
    snapshot = await done(session.snapshot("mine"))
    assert [(each.id, each.name) for each in await done(ml.snapshots())] == [(snapshot, "mine")]
    other = await done(ml.session(snapshot=snapshot))
    await done(other.delete("kept"))
    await done(other.load(snapshot))
    assert await done(other.fetch("kept")) == 7
    await done(other.close())
    await done(ml.delete_snapshot(snapshot))
    assert await done(ml.snapshots()) == []


async def test_files_that_the_code_writes_come_along_with_answers(session: Any) -> None:
    code = "open('a.txt', 'w').write('x' * n)"
    service = await done(session.publish("files", "1.0", code, inputs={"n": int}, outputs={}, files=["a.txt", "b.txt"]))
    assert (await done(service.ask(3))).files == {"a.txt": b"xxx", "b.txt": None}


async def test_the_workspace_is_published_with_code(ml: Any, session: Any) -> None:
    await done(session.put("weights", np.array([1.0, 2.0])))
    types = {"inputs": {"v": np.ndarray}, "outputs": {"s": "numeric", "n": int}}
    service = await done(session.publish("weighed", "1.0", "s = weights @ v; n = len(v)", **types))
    await done(session.close())
    assert await done(service(v=[3, 4])) == {"s": 11.0, "n": 2}
    assert service.inputs == {"v": "vector"}
    assert await done(ml.snapshots()) == []


async def test_a_closed_session_is_gone(session: Any) -> None:
    await done(session.close())
    await done(session.close())
    with pytest.raises(Gone, match="not open"):
        await done(session.run("1"))


def test_a_session_is_used_like_a_dict_and_closed_by_its_with(mlhost_server: Server) -> None:
    with mlhost_server.connect() as ml, ml.session() as session:
        session["x"] = [1, 2]
        assert ("x" in session, "y" in session, list(session), session["x"]) == (True, False, ["x"], [1, 2])
        del session["x"]
        assert list(session) == []
    assert session.id == ""


async def test_an_awaited_session_is_closed_by_its_with(mlhost_server: Server) -> None:
    async with mlhost_server.connect_async() as ml, ml.session() as session:
        assert (await session.run("print(1)")).console == "1\n"
    assert session.id == ""


def test_a_client_may_trust_its_server_with_all_objects(mlhost_server: Server) -> None:
    with mlhost_server.connect(trust=True) as ml, ml.session() as session:
        session["x"] = {1, 2}
        assert session["x"] == {1, 2}


ENDLESS = "import time\nwhile True: time.sleep(0.01)"


def test_ctrl_c_interrupts_the_code_that_runs_and_keeps_the_session(isolated: Server) -> None:
    with isolated.connect() as ml, ml.session() as session:
        timer = threading.Timer(0.3, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            session.run(ENDLESS)
        assert session.run("print(1)").console == "1\n"


async def test_cancelling_a_task_interrupts_the_code_that_runs_and_keeps_the_session(isolated: Server) -> None:
    async with isolated.connect_async() as ml, ml.session() as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await session.run(ENDLESS)
        assert (await session.run("print(1)")).console == "1\n"
