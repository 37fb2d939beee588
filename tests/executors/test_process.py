"""What only the process placement does: C-level output, calls into C that stop, deaths told in words, the template."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import pytest

from mlhost.errors import MlhostError, Unavailable, WorkerLost
from mlhost.executors import families
from mlhost.executors.forking import ProcessSettings, Template
from mlhost.executors.process import ProcessExecutor
from mlhost.runtime.freeze import load_object
from mlhost.runtime.program import ProgramSpec, prepare, score
from mlhost.runtime.workspace import list_objects, ping, write_file
from tests.parts import COVERAGE, Cell, answered, open_cell, until

# --- calls


async def test_a_call_runs_the_function_in_another_process(cell: Cell) -> None:
    outcome = await cell.run("import os\npid = os.getpid()", "pid")
    assert int(outcome["outputs"][0]["value"]) != os.getpid()


async def test_each_worker_has_its_own_random_numbers(executor: ProcessExecutor) -> None:
    code = "import random, numpy\nx = [random.random(), numpy.random.random()]"
    drawn = set()
    for _ in range(3):
        cell = await open_cell(executor)
        drawn.add((await cell.run(code, "x"))["outputs"][0]["value"])
        await cell.worker.close()
    assert len(drawn) == 3


@pytest.mark.skipif(not families.IS_TOLD, reason="the system does not tell")
async def test_a_worker_weighs_what_its_process_has_in_memory(cell: Cell) -> None:
    before = cell.worker.resident_bytes()
    await cell.run("held = bytearray(50 << 20)")
    assert 50 << 20 <= cell.worker.resident_bytes() - before < 60 << 20
    await cell.worker.close()
    assert cell.worker.resident_bytes() == 0


# --- the console


async def test_python_c_and_child_processes_print_to_the_same_console_in_order(cell: Cell) -> None:
    await cell.run(
        "import ctypes, os, sys\n"
        "print('python')\nctypes.CDLL(None).puts(b'c'); ctypes.CDLL(None).fflush(None)\n"
        "os.system('echo shell')\nprint('error', file=sys.stderr)"
    )
    assert cell.worker.console.text == "python\nc\nshell\nerror\n"


# --- starting


async def test_a_worker_that_cannot_be_forked_is_refused_at_once_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fork(*_: object) -> None:
        raise Unavailable("No worker can be started: there are too many processes")

    executor = ProcessExecutor(tmp_path, ProcessSettings())
    with monkeypatch.context() as patch:
        patch.setattr(Template, "fork", fork)
        async with asyncio.timeout(1):
            with pytest.raises(Unavailable, match="too many processes"):
                await executor.open(deadline_seconds=5)
    assert not list(tmp_path.iterdir())
    assert await (await executor.open(deadline_seconds=5)).call(ping) == "pong"
    await executor.close()


async def test_a_start_that_is_cancelled_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path, ProcessSettings())
    await (await executor.open(deadline_seconds=5)).close()
    assert executor._template is not None
    template = executor._template._process.pid
    for milliseconds in range(15):
        starting = asyncio.ensure_future(executor.open(deadline_seconds=5))
        await asyncio.sleep(milliseconds / 1000)
        starting.cancel()
        async with asyncio.timeout(1):
            with contextlib.suppress(asyncio.CancelledError):
                await (await starting).close()
    await until(lambda: not families.children(template))
    assert not list(tmp_path.iterdir())
    await executor.close()


# --- its share of the processors


@pytest.mark.parametrize("threads", [1, 2])
async def test_a_service_computes_with_as_many_threads_as_are_a_workers_share(tmp_path: Path, threads: int) -> None:
    code = """
import joblib, numpy, sklearn.svm, threadpoolctl
numpy.ones((200, 200)) @ numpy.ones((200, 200))
blas = sorted({pool["num_threads"] for pool in threadpoolctl.threadpool_info()})
jobs = joblib.effective_n_jobs(-1)
"""
    outputs = [("blas", "vector"), ("jobs", "integer")]
    executor = ProcessExecutor(tmp_path, ProcessSettings(threads=threads))
    worker = await executor.open(deadline_seconds=30)
    await worker.call(prepare, ProgramSpec(code=code, init_code="", inputs=[], outputs=outputs, files=[]))
    answer = answered(await worker.call(score, b"{}"))
    assert answer["outputParameters"] == {"blas": [threads], "jobs": threads}
    await executor.close()


async def test_one_row_of_a_forest_that_was_fitted_with_all_processors_starts_no_thread(tmp_path: Path) -> None:
    init = """
import threading
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
forest = RandomForestClassifier(20, n_jobs=-1).fit(*load_iris(return_X_y=True))
started = []
threading.Thread.start = (lambda start: lambda self: (started.append(self), start(self))[1])(threading.Thread.start)
"""
    code = "y = forest.predict([[5.1, 3.5, 1.4, 0.2]])[0]\nn = len(started)"
    outputs = [("y", "integer"), ("n", "integer")]
    executor = ProcessExecutor(tmp_path, ProcessSettings())
    worker = await executor.open(deadline_seconds=30)
    await worker.call(prepare, ProgramSpec(code=code, init_code=init, inputs=[], outputs=outputs, files=[]))
    answer = answered(await worker.call(score, b"{}"))
    assert answer["outputParameters"] == {"y": 0, "n": 0}
    await executor.close()


# --- stopping


@pytest.mark.parametrize("code", ["import time; time.sleep(1000)", "import os; os.system('sleep 1000')"])
async def test_an_interrupt_stops_a_call_into_c_and_keeps_the_workspace(cell: Cell, code: str) -> None:
    await cell.run("kept = 1")
    running = asyncio.ensure_future(cell.run(code))
    await asyncio.sleep(0.3)
    assert cell.worker.interrupt()
    assert "KeyboardInterrupt" in (await running)["error"] or "os.system" in code
    assert (await cell.run("", "kept"))["outputs"][0]["value"] == b"1"


async def test_code_that_ignores_the_interrupt_is_killed_two_seconds_later(executor: ProcessExecutor) -> None:
    cell = await open_cell(executor)
    running = asyncio.ensure_future(cell.run("import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True: pass"))
    await asyncio.sleep(0.3)
    cell.worker.interrupt()
    with pytest.raises(WorkerLost, match="did not stop when it was interrupted"):
        await running
    await cell.worker.close()


# --- dying


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os._exit(3)", "ended the process with exit status 3"),
        ("import ctypes; ctypes.string_at(0)", "segmentation fault"),
        ("import os; os.abort()", "it aborted"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed from outside"),
        ("import os; os.close(3); import time; time.sleep(5)", "closed or disturbed descriptor 3"),
    ],
)
async def test_a_death_is_told_in_words(executor: ProcessExecutor, code: str, words: str) -> None:
    cell = await open_cell(executor)
    with pytest.raises(WorkerLost, match=words):
        await cell.run(code)
    with pytest.raises(WorkerLost, match=words):
        await cell.run("1")
    await cell.worker.close()


async def test_calls_waiting_behind_a_death_are_told_of_it(executor: ProcessExecutor) -> None:
    cell = await open_cell(executor)
    calls = [cell.run("import time, os; time.sleep(0.2); os._exit(1)"), cell.run("1"), cell.run("2")]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [WorkerLost] * 3
    await cell.worker.close()


async def test_memory_beyond_the_limit_is_an_error_that_names_it(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path, ProcessSettings(memory_bytes=1 << 30, environment=COVERAGE))
    cell = await open_cell(executor)
    outcome = await cell.run("hoard = []\nwhile True: hoard.append(bytearray(10_000_000))")
    assert "MemoryError" in outcome["error"]
    assert "1.0 GiB" in outcome["error"]
    assert not (await cell.run("del hoard"))["error"]
    await executor.close()


async def test_what_the_code_started_dies_with_the_worker(executor: ProcessExecutor) -> None:
    cell = await open_cell(executor)
    outcome = await cell.run("import subprocess\nchild = subprocess.Popen(['sleep', '1000']).pid", "child")
    child = int(outcome["outputs"][0]["value"])
    await cell.worker.close()
    await until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text())


async def test_a_fork_of_the_users_that_comes_back_does_not_answer_twice(cell: Cell) -> None:
    for n in range(5):
        outcome = await cell.run(f"import os\nos.fork()\nanswer = {n}", "answer")
        assert outcome["outputs"][0]["value"] == str(n).encode()


async def test_garbage_written_to_the_channel_harms_only_the_writer(executor: ProcessExecutor) -> None:
    bad, good = await open_cell(executor), await open_cell(executor)
    with pytest.raises((WorkerLost, MlhostError)):
        await bad.run("import os, time\nos.write(3, b'\\xff' * 100_000)\ntime.sleep(10)")
    assert not (await good.run("x = 1"))["error"]
    await asyncio.gather(bad.worker.close(force=True), good.worker.close())


async def test_a_pickle_that_kills_its_worker_is_an_error_for_its_owner(executor: ProcessExecutor) -> None:
    bomb = b"cos\n_exit\n(I7\ntR."
    bad, good = await open_cell(executor), await open_cell(executor)
    with pytest.raises(WorkerLost, match="exit status 7"):
        await bad.worker.call(load_object, "bomb", bomb)
    assert await good.worker.call(ping) == "pong"
    await asyncio.gather(bad.worker.close(), good.worker.close())


# --- the template


async def test_when_the_template_dies_its_workers_say_so_and_the_next_open_starts_another(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path, ProcessSettings(environment=COVERAGE))
    cell = await open_cell(executor)
    assert executor._template is not None
    executor._template._process.kill()
    with pytest.raises(WorkerLost, match="forked from died"):
        await cell.run("import time; time.sleep(10)")
    again = await open_cell(executor)
    assert not (await again.run("x = 1"))["error"]
    await cell.worker.close()
    await executor.close()


async def test_a_module_that_cannot_be_preloaded_is_skipped(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path, ProcessSettings(preload=("no_such_module", "json"), environment=COVERAGE))
    cell = await open_cell(executor)
    assert not (await cell.run("import json"))["error"]
    await executor.close()


async def test_a_closed_executor_opens_nothing(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path, ProcessSettings(environment=COVERAGE))
    await executor.close()
    with pytest.raises(Unavailable, match="stopping"):
        await executor.open(deadline_seconds=1)


async def test_workers_see_only_the_allowed_environment(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "MLHOST_ADMIN_PASSWORD" not in os.environ
    monkeypatch.setenv("MLHOST_ADMIN_PASSWORD", "secret")
    outcome = await cell.run("import os\nseen = sorted(os.environ)", "seen")
    assert b"MLHOST" not in outcome["outputs"][0]["value"]
    assert b"MPLBACKEND" in outcome["outputs"][0]["value"]


@pytest.mark.skipif(sys.platform != "linux", reason="the scheduler is asked as Linux has it")
async def test_a_worker_leaves_the_processor_to_the_server_when_it_is_sent_a_call(cell: Cell) -> None:
    code = "import os, subprocess, sys\nask = 'import os; print(os.sched_getscheduler(0) == os.SCHED_BATCH)'\n"
    code += "exec(ask)\nprint(subprocess.check_output([sys.executable, '-c', ask], text=True), end='')"
    await cell.run(code)
    assert cell.worker.console.text == "True\nTrue\n"


# --- modules


async def test_modules_put_into_the_working_directory_can_be_imported(cell: Cell) -> None:
    await cell.worker.call(write_file, "own_module.py", b"value = 42")
    assert (await cell.run("import own_module\nx = own_module.value", "x"))["outputs"][0]["value"] == b"42"
    assert "own_module" not in await cell.worker.call(list_objects)
