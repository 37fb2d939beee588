"""What only the inline placement does: it shares the server's interpreter, and cannot stop everything."""

import asyncio
import builtins
import gc
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from unittest import mock

import pytest

from mlhost.errors import Unavailable, WorkerLost
from mlhost.executors import threads
from mlhost.executors.inline import InlineExecutor
from mlhost.executors.threads import ThreadWorker
from mlhost.runtime.workspace import list_files, ping, write_file
from tests.parts import Cell, open_cell, open_descriptors, until

pytestmark = pytest.mark.untraced


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[InlineExecutor]:
    executor = InlineExecutor(tmp_path)
    yield executor
    await executor.close()


@pytest.fixture
async def worker(executor: InlineExecutor) -> ThreadWorker:
    return await executor.open(deadline_seconds=30)


def workspace_threads() -> int:
    return sum(thread.name.startswith("mlhost workspace") for thread in threading.enumerate())


async def test_the_workspace_is_a_thread_of_the_server(cell: Cell) -> None:
    await cell.run("import os, threading\nwhere = [os.getpid(), threading.current_thread().name]")
    outcome = await cell.run("", "where")
    assert outcome["outputs"][0]["value"].startswith(b'[%d,"mlhost workspace ' % os.getpid())


async def test_a_closed_workspace_leaves_nothing_behind_in_what_collections_pass_over(
    executor: InlineExecutor,
) -> None:
    cell = await open_cell(executor)
    code = "import builtins, weakref\nclass Model: pass\nmodel = Model()\ndef predict(): return model\n"
    await cell.run(f"{code}builtins.of_the_test = weakref.ref(model)")
    gc.freeze()
    await cell.worker.close()
    del cell
    model = vars(builtins).pop("of_the_test")

    def is_gone() -> bool:
        gc.collect()
        return model() is None

    await until(is_gone)  # which it is once the workspace's thread has left its last line


# --- code that does not stop


async def test_code_that_cannot_be_stopped_is_reported_as_still_running(executor: InlineExecutor) -> None:
    before = workspace_threads()
    cell = await open_cell(executor, deadline_seconds=0.2)
    start = time.monotonic()
    with pytest.raises(WorkerLost, match=r"did not stop .*interrupted after 0\.2 seconds.* still runs in the server"):
        await cell.run("import time\ntime.sleep(4)\nprint('late')\nanswer = 'late'")
    assert 2 < time.monotonic() - start < 3
    with pytest.raises(WorkerLost, match="still runs in the server"):
        await cell.run("1")
    await cell.worker.close()
    assert time.monotonic() - start < 3
    assert workspace_threads() == before + 1
    await until(lambda: workspace_threads() == before)
    assert cell.worker.console.text == ""


async def test_a_cancelled_call_that_does_not_stop_loses_the_worker(executor: InlineExecutor) -> None:
    cell = await open_cell(executor)
    running = asyncio.ensure_future(cell.run("import time; time.sleep(2.5)"))
    waiting = asyncio.ensure_future(cell.run("1"))
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(WorkerLost, match=r"the caller went away.* its code still runs"):
        await waiting


async def test_closing_by_force_leaves_code_that_does_not_stop_behind(executor: InlineExecutor) -> None:
    before = workspace_threads()
    cell = await open_cell(executor)
    running = asyncio.ensure_future(cell.run("import time; time.sleep(3)"))
    await asyncio.sleep(0.1)
    await cell.worker.close(force=True)
    assert "still runs in the server" in cell.worker.lost
    with pytest.raises(WorkerLost):
        await running
    await until(lambda: workspace_threads() == before)


async def test_an_interrupt_that_comes_when_the_call_is_over_is_forgotten_before_the_next(cell: Cell) -> None:
    assert isinstance(cell.worker, ThreadWorker)
    await cell.run("x = 1")
    cell.worker._signal_stop(cell.worker._begun())
    assert not (await cell.run("x = 2"))["error"]


# --- the server's streams and folder


async def test_what_the_server_prints_passes_through_untouched(cell: Cell, capsys: pytest.CaptureFixture[str]) -> None:
    running = asyncio.ensure_future(
        cell.run("import time\nfor _ in range(20):\n    print('user')\n    time.sleep(0.001)")
    )
    for _ in range(20):
        print("server")
        print("trouble", file=sys.stderr)
        await asyncio.sleep(0.001)
    await running
    assert capsys.readouterr() == ("server\n" * 20, "trouble\n" * 20)
    assert cell.worker.console.text == "user\n" * 20


async def test_the_servers_streams_can_still_be_replaced(cell: Cell) -> None:
    before = sys.stdout
    with mock.patch("sys.stdout") as replaced:
        print("caught")
        await cell.run("print('user')")
    assert replaced.write.call_args_list[0] == mock.call("caught")
    assert sys.stdout is before
    assert cell.worker.console.text == "user\n"


async def test_a_stream_kept_beyond_the_end_of_its_workspace_writes_nowhere(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtins, "kept", None, raising=False)
    await cell.run("import builtins, sys\nbuiltins.kept = sys.stdout")
    await cell.worker.close()
    with pytest.raises(ValueError, match="closed file"):
        builtins.kept.write("x\n")  # type: ignore[attr-defined]


async def test_the_servers_folder_stays_what_it_is(cell: Cell, tmp_path: Path) -> None:
    here = Path.cwd()
    await cell.run("import os\nos.makedirs('deep')\nos.chdir('deep')")
    assert Path.cwd() == here
    await cell.worker.call(write_file, "file", b"x")
    assert await cell.worker.call(list_files) == ["file"]


async def test_where_threads_cannot_have_folders_of_their_own_the_servers_stays(
    executor: InlineExecutor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threads, "_unshare", mock.Mock(side_effect=PermissionError("not here")))
    cell = await open_cell(executor)
    await cell.run("import os\nhere = os.getcwd()")
    assert (await cell.run("", "here"))["outputs"][0]["value"] == b'"%s"' % os.fsencode(Path.cwd())
    assert "not here" in caplog.text
    await cell.worker.call(write_file, "file", b"x")
    assert await cell.worker.call(list_files) == ["file"]


# --- opening and closing


async def test_threads_end_with_their_workspaces(executor: InlineExecutor) -> None:
    before = workspace_threads()
    workers = [await executor.open(deadline_seconds=1) for _ in range(20)]
    assert workspace_threads() == before + 20
    await asyncio.gather(*(worker.close() for worker in workers))
    await until(lambda: workspace_threads() == before)


async def test_closing_the_executor_closes_its_workers_and_it_opens_no_more(
    executor: InlineExecutor, tmp_path: Path
) -> None:
    worker = await executor.open(deadline_seconds=1)
    await executor.close()
    assert not list(tmp_path.iterdir())
    with pytest.raises(WorkerLost, match="closed"):
        await worker.call(ping)
    with pytest.raises(Unavailable, match="stopping"):
        await executor.open(deadline_seconds=1)


async def test_when_no_thread_can_be_had_the_reason_is_told_and_nothing_is_left(
    executor: InlineExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptors = open_descriptors()
    monkeypatch.setattr(threading.Thread, "start", mock.Mock(side_effect=RuntimeError("can't start new thread")))
    with pytest.raises(Unavailable, match="can't start new thread"):
        await executor.open(deadline_seconds=1)
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())
    assert open_descriptors() == descriptors


async def test_a_workspace_that_cannot_be_moved_into_is_not_opened(
    executor: InlineExecutor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threads, "_move_into", mock.Mock(side_effect=FileNotFoundError("gone")))
    with pytest.raises(Unavailable, match="FileNotFoundError: gone"):
        await executor.open(deadline_seconds=1)
    assert "the thread of a workspace failed" in caplog.text


async def test_a_fork_of_the_users_that_comes_back_does_not_answer(cell: Cell) -> None:
    code = """
import os, warnings
with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # 3.12 and later: there are other threads
    child = os.fork()
status = os.waitpid(child, 0)[1] if child else None
"""
    assert not (await cell.run(code))["error"]
    assert (await cell.run("", "status"))["outputs"][0]["value"] == b"0"


async def test_modules_imported_later_are_as_they_would_be_anywhere(executor: InlineExecutor, tmp_path: Path) -> None:
    cell = await open_cell(executor)
    (tmp_path / "later.py").write_text("stdout = 'its own'")
    code = f"""
import importlib.util, pickle, sys, types
spec = importlib.util.spec_from_file_location('later', {str(tmp_path / "later.py")!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
seen = [type(module) is types.ModuleType, module.stdout, pickle.loads(pickle.dumps(sys)) is sys]
"""
    assert json.loads((await cell.run(code, "seen"))["outputs"][0]["value"]) == [True, "its own", True]
    await cell.worker.close()
