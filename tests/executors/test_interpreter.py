"""What only the interpreter placement does: an interpreter of its own in the server's process."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mlhost.errors import Unavailable, WorkerLost
from mlhost.executors import interpreter
from mlhost.executors.interpreter import InterpreterExecutor
from mlhost.executors.refusals import Refusals
from mlhost.executors.threads import ThreadWorker
from mlhost.runtime import imports
from mlhost.runtime.workspace import list_objects, ping, write_file
from tests.parts import Cell, open_cell, until

pytestmark = pytest.mark.untraced
supported = pytest.mark.skipif(not interpreter.IS_SUPPORTED, reason="subinterpreters need CPython 3.14")


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[InterpreterExecutor]:
    executor = InterpreterExecutor(tmp_path, lambda: {"known_to_refuse": "it was tried"})
    yield executor
    await executor.close()


@pytest.fixture
async def worker(executor: InterpreterExecutor) -> ThreadWorker:
    return await executor.open(deadline_seconds=30)


def thread_of(cell: Cell) -> threading.Thread:
    assert isinstance(cell.worker, ThreadWorker)
    assert cell.worker._thread is not None
    return cell.worker._thread


@pytest.mark.skipif(interpreter.IS_SUPPORTED, reason="this CPython has them")
def test_an_older_python_is_told_which_one_it_takes(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"need CPython 3\.14 or later"):
        InterpreterExecutor(tmp_path)


@supported
async def test_the_workspace_is_another_interpreter_in_the_servers_process(cell: Cell) -> None:
    code = "import os, sys\nimport json as its_own\nsys.modules['marked'] = its_own\npid = os.getpid()"
    assert (await cell.run(code, "pid"))["outputs"][0]["value"] == b"%d" % os.getpid()
    assert "marked" not in sys.modules


@supported
async def test_two_workspaces_compute_at_the_same_time(executor: InterpreterExecutor, tmp_path: Path) -> None:
    """One waits for the other without ever letting go of its interpreter: with one lock for both it would for ever."""
    one, two = [await open_cell(executor) for _ in range(2)]
    flag = tmp_path / "flag"
    flag.write_bytes(b"0")
    code = f"""
import mmap, sys
sys.setswitchinterval(1000)
with open({str(flag)!r}, 'r+b') as file: flag = mmap.mmap(file.fileno(), 1)
"""
    for cell in (one, two):
        assert not (await cell.run(code))["error"]
    waiting = asyncio.ensure_future(one.run("while flag[0] == 48: pass"))
    await asyncio.sleep(0.05)
    assert not (await two.run("flag[0] = 49"))["error"]
    assert not (await waiting)["error"]


@supported
async def test_a_package_that_refuses_is_named_with_the_way_out(cell: Cell) -> None:
    outcome = await cell.run("import known_to_refuse")
    assert "known_to_refuse cannot be imported in a subinterpreter: it was tried" in outcome["error"]
    assert 'publish with "placement": "process"' in outcome["error"]


@supported
@pytest.mark.parametrize("code", ["import msgspec", "import msgspec.json"])
async def test_a_package_nobody_knew_of_is_named_too(cell: Cell, code: str) -> None:
    outcome = await cell.run(code)
    assert outcome["error"].startswith(("ImportError: msgspec cannot", "ImportError: _core cannot"))
    assert "does not support loading in subinterpreters" in outcome["error"]


@supported
async def test_code_can_do_without_a_package_that_refuses(cell: Cell) -> None:
    outcome = await cell.run("try:\n    import known_to_refuse\nexcept ImportError:\n    had = False", "had")
    assert outcome["outputs"][0]["value"] == b"false"


@supported
async def test_modules_put_into_the_working_directory_are_the_workspaces_own(executor: InterpreterExecutor) -> None:
    for value in (b"1", b"2"):
        cell = await open_cell(executor)
        await cell.worker.call(write_file, "own_module.py", b"value = " + value)
        assert (await cell.run("import own_module\nx = own_module.value", "x"))["outputs"][0]["value"] == value
        assert await cell.worker.call(list_objects) == ["x"]


@supported
async def test_the_servers_memory_is_not_taken_for_the_workers(worker: ThreadWorker) -> None:
    assert worker.resident_bytes() == 0


# --- code that does not stop


@supported
async def test_code_that_cannot_be_stopped_is_reported_as_still_running(
    executor: InterpreterExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    cell = await open_cell(executor, deadline_seconds=0.2)
    with pytest.raises(WorkerLost, match=r"did not stop .*after 0\.2 seconds.* still runs in the server"):
        await cell.run("import time\ntime.sleep(4)")
    with pytest.raises(WorkerLost, match="still runs in the server"):
        await cell.run("1")
    await cell.worker.close()
    assert thread_of(cell).is_alive()
    await until(lambda: not thread_of(cell).is_alive())  # the interpreter is given back when its code ends
    assert {record.levelname for record in caplog.records} == {"WARNING"}


@supported
async def test_a_thread_that_code_left_running_keeps_only_its_own_interpreter(executor: InterpreterExecutor) -> None:
    cell = await open_cell(executor)
    await cell.run("import threading, time\nthreading.Thread(target=time.sleep, args=(4,)).start()")
    await cell.worker.close()
    assert "still runs in the server" in cell.worker.lost
    assert await (await executor.open(deadline_seconds=5)).call(ping) == "pong"
    await until(lambda: not thread_of(cell).is_alive())


@supported
async def test_what_a_leftover_thread_prints_goes_to_its_own_console(executor: InterpreterExecutor) -> None:
    cell = await open_cell(executor)
    await cell.run("import threading, time\nthreading.Timer(0.3, print, ['later']).start()\nprint('now')")
    await until(lambda: "later" in cell.worker.console.text)
    assert cell.worker.console.text == "now\nlater\n"
    await cell.worker.close()


# --- finding out what refuses


@supported
async def test_the_probe_tells_what_refuses_and_what_does_not() -> None:
    refusals = Refusals()
    found = await refusals.among(["numpy", "pandas", "json", "no_such_package"])
    assert found.keys() == {"numpy", "pandas"}
    assert "does not support loading in subinterpreters" in found["pandas"]
    assert refusals.known() == found
    assert await refusals.among(["json"]) == {}


@supported
async def test_a_module_is_tried_for_itself_for_its_package_may_load_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gentle").mkdir()
    (tmp_path / "gentle" / "__init__.py").write_text("name = 1")
    (tmp_path / "gentle" / "name.py").write_text("import numpy")  # which `from gentle import name` does not import
    (tmp_path / "gentle" / "rough.py").write_text("import numpy")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    modules = ["gentle", "gentle.name", "gentle.nothing", "gentle.rough"]
    assert (await Refusals().among(modules)).keys() == {"gentle.rough"}


@supported
async def test_a_package_that_crashes_or_hangs_the_probe_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    (tmp_path / "failing.py").write_text("1 / 0")
    (tmp_path / "partly").mkdir()
    (tmp_path / "partly" / "__init__.py").touch()
    (tmp_path / "partly" / "crashing.py").write_text("import crashing")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    found = await Refusals().among(["crashing", "failing", "partly", "partly.crashing"])
    assert found == dict.fromkeys(["crashing", "partly.crashing"], "importing it crashes there")


def test_the_modules_code_needs_are_read_off_its_import_statements(tmp_path: Path) -> None:
    from mlhost.runtime.workspace import Workspace

    (tmp_path / "own.py").write_text("import lxml.etree\nfrom own import again")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner.py").write_text("import xgboost")
    code = """
import json, os.path, catboost.core as c
from lightgbm import LGBMClassifier
def later():
    try: import shap
    except ImportError: pass
import own, folder.inner
from . import sibling
"""
    wanted = ["catboost.core", "lightgbm", "lightgbm.LGBMClassifier", "lxml.etree", "shap", "xgboost"]
    needs = imports.needed(Workspace({}, tmp_path), code)
    assert needs == {"modules": wanted, "own": ["folder", "own"]}
    assert imports.needed(Workspace({}, tmp_path), "this is not Python") == {"modules": [], "own": []}
