"""A worker process: calls, interrupts, deadlines, deaths told in words."""

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from mlhost.errors import CodeFailed, Invalid, MlhostError, NotFound, Unavailable, WorkerLost
from mlhost.executors.forking import ProcessSettings
from mlhost.executors.process import ProcessExecutor, ProcessWorker
from mlhost.runtime import program
from mlhost.runtime.freeze import load_object
from mlhost.runtime.workspace import delete_object, list_files, list_objects, ping, read_file, write_file
from tests.parts import COVERAGE, Cell, until


async def open_worker(executor: ProcessExecutor, deadline_seconds: float = 30) -> Cell:
    return Cell(await executor.open(deadline_seconds=deadline_seconds))


# --- calls


async def test_a_call_runs_the_function_in_another_process(cell: Cell) -> None:
    outcome = await cell.run("import os\npid = os.getpid()", "pid")
    assert int(outcome["outputs"][0]["value"]) != os.getpid()


async def test_an_error_of_the_function_is_the_same_error_here(worker: ProcessWorker) -> None:
    with pytest.raises(NotFound, match="no object 'nothing'"):
        await worker.call(delete_object, "nothing")


async def test_calls_made_at_once_run_in_order(worker: ProcessWorker) -> None:
    code = "seen = globals().get('seen', []) + [{0}]"
    await asyncio.gather(*(worker.call(program.execute, code.format(n), [], []) for n in range(20)))
    outcome = await worker.call(program.execute, "", [], ["seen"])
    assert outcome["outputs"][0]["value"] == str(list(range(20))).replace(" ", "").encode()


async def test_a_large_argument_and_result_travel_whole(worker: ProcessWorker) -> None:
    content = random.Random(1).randbytes(20_000_000)
    await worker.call(write_file, "large", content)
    assert await worker.call(read_file, "large") == content


async def test_only_functions_of_the_runtime_can_be_called(worker: ProcessWorker) -> None:
    with pytest.raises(MlhostError, match="not a function of the runtime"):
        await worker.call(os.getcwd)  # type: ignore[arg-type]


async def test_each_worker_has_its_own_random_numbers(executor: ProcessExecutor) -> None:
    code = "import random, numpy\nx = [random.random(), numpy.random.random()]"
    drawn = set()
    for _ in range(3):
        cell = await open_worker(executor)
        drawn.add((await cell.run(code, "x"))["outputs"][0]["value"])
        await cell.worker.close()
    assert len(drawn) == 3


# --- the console


async def test_python_c_and_child_processes_print_to_the_same_console_in_order(cell: Cell) -> None:
    await cell.run(
        "import ctypes, os, sys\n"
        "print('python')\nctypes.CDLL(None).puts(b'c'); ctypes.CDLL(None).fflush(None)\n"
        "os.system('echo shell')\nprint('error', file=sys.stderr)"
    )
    assert cell.worker.console.text == "python\nc\nshell\nerror\n"


async def test_the_console_can_be_read_while_code_runs(cell: Cell) -> None:
    running = asyncio.ensure_future(cell.run("import time\nprint('begun')\ntime.sleep(1)\nprint('done')"))
    await until(lambda: "begun" in cell.worker.console.text)
    assert not running.done()
    await running
    assert cell.worker.console.text == "begun\ndone\n"


async def test_a_flood_of_output_is_cut_with_a_notice(cell: Cell) -> None:
    await cell.run("for _ in range(300): print('x' * 100_000)")
    text = cell.worker.console.text
    assert len(text) < 11_000_000
    assert text.endswith("[mlhost: output beyond 10 MB is not kept]\n")


async def test_code_that_closes_its_streams_can_print_again_in_the_next_run(cell: Cell) -> None:
    await cell.run("import sys\nsys.stdout.close()")
    await cell.run("print('still here')")
    assert "still here" in cell.worker.console.text


async def test_input_ends_at_once_instead_of_waiting(cell: Cell) -> None:
    assert "EOFError" in (await cell.run("input()"))["error"]


# --- stopping


@pytest.mark.parametrize(
    "code", ["while True: pass", "import time; time.sleep(1000)", "import os; os.system('sleep 1000')"]
)
async def test_an_interrupt_stops_code_and_keeps_the_workspace(cell: Cell, code: str) -> None:
    await cell.run("kept = 1")
    running = asyncio.ensure_future(cell.run(code))
    await asyncio.sleep(0.3)
    assert cell.worker.interrupt()
    assert "KeyboardInterrupt" in (await running)["error"] or "os.system" in code
    assert (await cell.run("", "kept"))["outputs"][0]["value"] == b"1"


async def test_an_idle_worker_is_not_interrupted(cell: Cell) -> None:
    assert not cell.worker.interrupt()
    assert not (await cell.run("x = 1"))["error"]


async def test_code_that_ignores_the_interrupt_is_killed_two_seconds_later(executor: ProcessExecutor) -> None:
    cell = await open_worker(executor)
    running = asyncio.ensure_future(cell.run("import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True: pass"))
    await asyncio.sleep(0.3)
    cell.worker.interrupt()
    with pytest.raises(WorkerLost, match="did not stop when it was interrupted"):
        await running
    await cell.worker.close()


async def test_a_call_past_its_deadline_is_stopped_and_says_so(executor: ProcessExecutor) -> None:
    cell = await open_worker(executor, deadline_seconds=0.3)
    await cell.run("kept = 1")
    with pytest.raises(CodeFailed, match=r"Stopped after 0.3 seconds"):
        await cell.run("while True: pass")
    assert (await cell.run("", "kept"))["outputs"][0]["value"] == b"1"
    await cell.worker.close()


async def test_a_cancelled_call_is_stopped_and_its_reply_reaches_nobody_else(cell: Cell) -> None:
    for n in range(10):
        running = asyncio.ensure_future(cell.run("import time\nfor _ in range(1000): time.sleep(0.01)\n'never'"))
        await asyncio.sleep(random.Random(n).random() / 20)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        outcome = await cell.run(f"answer = {n}", "answer")
        assert outcome["outputs"] == [{"name": "answer", "value": str(n).encode()}]


async def test_an_interrupt_between_two_calls_never_breaks_the_worker(executor: ProcessExecutor) -> None:
    cell = await open_worker(executor)
    for n in range(200):
        running = asyncio.ensure_future(cell.run(f"x = {n}", "x"))
        await asyncio.sleep(0.0005 * (n % 5))
        cell.worker.interrupt()
        await running
        assert (await cell.run(f"y = {n}", "y"))["outputs"][0]["value"] == str(n).encode()
    await cell.worker.close()


# --- dying


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os._exit(3)", "ended the process with exit status 3"),
        ("import ctypes; ctypes.string_at(0)", "segmentation fault"),
        ("import os; os.abort()", "it aborted"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed from outside"),
        ("import os; os.close(3); import time; time.sleep(5)", "killed"),
    ],
)
async def test_a_death_is_told_in_words(executor: ProcessExecutor, code: str, words: str) -> None:
    cell = await open_worker(executor)
    with pytest.raises(WorkerLost, match=words):
        await cell.run(code)
    with pytest.raises(WorkerLost, match=words):
        await cell.run("1")
    await cell.worker.close()


async def test_calls_waiting_behind_a_death_are_told_of_it(executor: ProcessExecutor) -> None:
    cell = await open_worker(executor)
    calls = [cell.run("import time, os; time.sleep(0.2); os._exit(1)"), cell.run("1"), cell.run("2")]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [WorkerLost] * 3
    await cell.worker.close()


async def test_memory_beyond_the_limit_is_an_error_that_names_it(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path, ProcessSettings(memory_bytes=1 << 30, environment=COVERAGE))
    cell = await open_worker(executor)
    outcome = await cell.run("hoard = []\nwhile True: hoard.append(bytearray(10_000_000))")
    assert "MemoryError" in outcome["error"]
    assert "1.0 GiB" in outcome["error"]
    assert not (await cell.run("del hoard"))["error"]
    await executor.close()


async def test_what_the_code_started_dies_with_the_worker(executor: ProcessExecutor) -> None:
    cell = await open_worker(executor)
    outcome = await cell.run("import subprocess\nchild = subprocess.Popen(['sleep', '1000']).pid", "child")
    child = int(outcome["outputs"][0]["value"])
    await cell.worker.close()
    await until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text())


async def test_closing_removes_the_working_directory(executor: ProcessExecutor) -> None:
    cell = await open_worker(executor)
    outcome = await cell.run("import os\nopen('made', 'w').close()\nfolder = os.getcwd()", "folder")
    folder = Path(outcome["outputs"][0]["value"].decode().strip('"'))
    assert (folder / "made").exists()
    await cell.worker.close()
    assert not folder.exists()


async def test_closing_a_busy_worker_stops_its_code_first(executor: ProcessExecutor) -> None:
    cell = await open_worker(executor)
    running = asyncio.ensure_future(cell.run("while True: pass"))
    await asyncio.sleep(0.2)
    await cell.worker.close()
    assert "KeyboardInterrupt" in (await running)["error"]


async def test_a_fork_of_the_users_that_comes_back_does_not_answer_twice(cell: Cell) -> None:
    for n in range(5):
        outcome = await cell.run(f"import os\nos.fork()\nanswer = {n}", "answer")
        assert outcome["outputs"][0]["value"] == str(n).encode()


async def test_garbage_written_to_the_channel_harms_only_the_writer(executor: ProcessExecutor) -> None:
    bad, good = await open_worker(executor), await open_worker(executor)
    with pytest.raises((WorkerLost, MlhostError)):
        await bad.run("import os, time\nos.write(3, b'\\xff' * 100_000)\ntime.sleep(10)")
    assert not (await good.run("x = 1"))["error"]
    await asyncio.gather(bad.worker.close(force=True), good.worker.close())


async def test_a_pickle_that_kills_its_worker_is_an_error_for_its_owner(executor: ProcessExecutor) -> None:
    bomb = b"cos\n_exit\n(I7\ntR."
    bad, good = await open_worker(executor), await open_worker(executor)
    with pytest.raises(WorkerLost, match="exit status 7"):
        await bad.worker.call(load_object, "bomb", bomb)
    assert await good.worker.call(ping) == "pong"
    await asyncio.gather(bad.worker.close(), good.worker.close())


# --- the template


async def test_when_the_template_dies_its_workers_say_so_and_the_next_open_starts_another(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path, ProcessSettings(environment=COVERAGE))
    cell = await open_worker(executor)
    assert executor._template is not None
    executor._template._process.kill()
    with pytest.raises(WorkerLost, match="forked from died"):
        await cell.run("import time; time.sleep(10)")
    again = await open_worker(executor)
    assert not (await again.run("x = 1"))["error"]
    await cell.worker.close()
    await executor.close()


async def test_a_module_that_cannot_be_preloaded_is_skipped(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path, ProcessSettings(preload=("no_such_module", "json"), environment=COVERAGE))
    cell = await open_worker(executor)
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


async def test_open_and_close_leave_no_descriptors_behind(executor: ProcessExecutor) -> None:
    async def cycle() -> None:
        cell = await open_worker(executor)
        await cell.run("x = 1")
        await cell.worker.close()

    await cycle()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        await cycle()
    assert len(os.listdir("/proc/self/fd")) == before


# --- files


async def test_files_are_listed_read_and_deleted_by_name(worker: ProcessWorker) -> None:
    await worker.call(write_file, "a.txt", b"one")
    await worker.call(write_file, "a.txt", b"two")
    assert await worker.call(list_files) == ["a.txt"]
    assert await worker.call(read_file, "a.txt") == b"two"


async def test_links_pipes_and_folders_are_not_files(cell: Cell) -> None:
    await cell.run(
        "import os\nos.symlink('/etc/passwd', 'link'); os.mkfifo('pipe'); os.mkdir('folder'); open('file', 'w').close()"
    )
    assert await cell.worker.call(list_files) == ["file"]
    for name in ("link", "pipe", "folder"):
        with pytest.raises(NotFound):
            await cell.worker.call(read_file, name)
    await cell.worker.call(write_file, "link", b"replaced")
    assert await cell.worker.call(read_file, "link") == b"replaced"
    assert Path("/etc/passwd").read_bytes() != b"replaced"


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "", "a\0b", "a\\b"])
async def test_no_file_name_leaves_the_folder(worker: ProcessWorker, name: str) -> None:
    with pytest.raises(Invalid):
        await worker.call(read_file, name)
    with pytest.raises(Invalid):
        await worker.call(write_file, name, b"")


async def test_modules_put_into_the_working_directory_can_be_imported(cell: Cell) -> None:
    await cell.worker.call(write_file, "own_module.py", b"value = 42")
    assert (await cell.run("import own_module\nx = own_module.value", "x"))["outputs"][0]["value"] == b"42"
    assert "own_module" not in await cell.worker.call(list_objects)


async def test_a_round_trip_takes_well_under_a_millisecond_in_the_median(worker: ProcessWorker) -> None:
    """No benchmark: only a guard against an accidental sleep or poll in the path."""
    times = []
    for _ in range(200):
        start = time.perf_counter()
        await worker.call(ping)
        times.append(time.perf_counter() - start)
    assert sorted(times)[100] < 0.02
