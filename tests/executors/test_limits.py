"""Programs that try to exceed each limit: every one ends in time, its message names the limit, and others go on."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from mlhost.errors import MlhostError, Unavailable
from mlhost.executors import families
from mlhost.executors.forking import ProcessSettings
from mlhost.executors.inline import InlineExecutor
from mlhost.executors.meter import LOOK_SECONDS, Meter
from mlhost.executors.process import ProcessExecutor, ProcessWorker
from mlhost.runtime.workspace import write_file
from tests.parts import COVERAGE, Cell, open_cell, until

EXECUTE_SECONDS = 1.0
CPU_SECONDS = 1.5
AFTER_SECONDS = 2.0  # the longest a program may go on after its limit
PROCESSES = 32
SETTINGS = ProcessSettings(
    environment=COVERAGE,
    memory_bytes=1 << 30,
    open_files=256,
    file_bytes=10_000_000,
    processes=PROCESSES,
    output_bytes=1_000_000,
)


class Program(NamedTuple):
    """What it runs, the setting it comes up against, and when, in seconds after its start."""

    code: str
    setting: str
    limit_seconds: float = 0.0


# The bombs end after some seconds and so many forks in all, so that a broken guard fails a test and not the machine.
BOMB = """
import os, signal, time
reader, writer = os.pipe()
os.set_blocking(reader, False)
os.write(writer, bytes(500))
end = time.monotonic() + 4
while time.monotonic() < end:
    try:
        os.read(reader, 1)
        if os.fork() == 0:
            {in_each}
    except OSError:
        time.sleep(0.01)
"""
PROGRAMS = {
    "a fork bomb": Program(BOMB.format(in_each="pass"), "limits.processes"),
    "a fork bomb of processes in sessions of their own": Program(
        BOMB.format(in_each="os.setsid(); signal.signal(15, signal.SIG_IGN)"), "limits.processes"
    ),
    "a shower of zombies": Program(BOMB.format(in_each="os._exit(0)"), "limits.processes"),
    "10 GB": Program("hoard = bytearray(10_000_000_000)", "limits.memory_bytes"),
    "endless small objects": Program("hoard = []\nwhile True: hoard.append(bytes(1_000_000))", "limits.memory_bytes"),
    "endless print": Program("while True: print('x' * 1000)", "limits.execute_seconds", EXECUTE_SECONDS),
    "an endless file": Program(
        "with open('endless', 'wb') as file:\n    while True: file.write(bytes(1_000_000))", "limits.file_bytes"
    ),
    "100 000 open files": Program("hoard = [open('/dev/null') for _ in range(100_000)]", "limits.open_files"),
    "catastrophic backtracking": Program(
        "import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')", "limits.execute_seconds", EXECUTE_SECONDS
    ),
    "a loop that ignores the interrupt": Program(
        "import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True: pass", "limits.execute_seconds", EXECUTE_SECONDS
    ),
    "C code that hears no interrupt": Program("sum(range(10 ** 12))", "limits.execute_seconds", EXECUTE_SECONDS),
}


@pytest.fixture(scope="module")
async def executor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessExecutor]:
    executor = ProcessExecutor(tmp_path_factory.mktemp("work"), SETTINGS)
    yield executor
    await executor.close()


@pytest.fixture
async def bystander(executor: ProcessExecutor) -> AsyncIterator[Cell]:
    cell = await open_cell(executor)
    await cell.run("kept = 41")
    yield cell
    await cell.worker.close()


async def open_bad(executor: ProcessExecutor, deadline_seconds: float = EXECUTE_SECONDS) -> Cell:
    worker = await executor.open(deadline_seconds=deadline_seconds, deadline_setting="limits.execute_seconds")
    return Cell(worker)


async def message(cell: Cell, code: str) -> str:
    """What the one who runs the code is told."""
    try:
        outcome = await cell.run(code)
    except MlhostError as error:
        return error.message
    return str(outcome["error"])


def started_by(cell: Cell) -> list[int]:
    """Every process there still is of those that a worker's code started, wherever it is."""
    assert isinstance(cell.worker, ProcessWorker)
    assert cell.worker._meter is not None
    mark, worker = cell.worker._meter._mark, cell.worker._meter._forked.pid
    every = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [pid for pid in every if pid != worker and families.mark_of(pid) == mark]


@asynccontextmanager
async def answering(bystander: Cell) -> AsyncIterator[list[float]]:
    """Meanwhile the bystander works and keeps its variable; seconds that its answers took."""
    seconds: list[float] = []

    async def ask() -> None:
        while True:
            begin = time.monotonic()
            assert (await bystander.run("", "kept"))["outputs"][0]["value"] == b"41"
            seconds.append(time.monotonic() - begin)
            await asyncio.sleep(0.005)

    asking = asyncio.ensure_future(ask())
    try:
        yield seconds
    finally:
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert (await bystander.run("", "kept"))["outputs"][0]["value"] == b"41"


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_program_ends_within_two_seconds_of_its_limit_and_harms_nobody(
    executor: ProcessExecutor, bystander: Cell, name: str
) -> None:
    program = PROGRAMS[name]
    cell = await open_bad(executor, program.limit_seconds or 30)
    async with answering(bystander) as seconds:
        begin = time.monotonic()
        told = await message(cell, program.code)
        took = time.monotonic() - begin
    assert program.setting in told
    assert took <= program.limit_seconds + AFTER_SECONDS
    assert max(seconds, default=0.0) < AFTER_SECONDS  # none, if the program ended sooner than a bystander asks
    assert not started_by(cell)
    await cell.worker.close()


async def test_the_session_goes_on_after_an_error_that_names_a_limit(executor: ProcessExecutor) -> None:
    cell = await open_bad(executor, 30)
    for name in ("10 GB", "an endless file", "100 000 open files"):
        assert PROGRAMS[name].setting in await message(cell, PROGRAMS[name].code)
    assert not await message(cell, "import os\nos.remove('endless')\nopen('other', 'w').close()")
    await cell.worker.close()


async def test_an_uploaded_file_beyond_the_limit_is_refused_by_its_name(executor: ProcessExecutor) -> None:
    cell = await open_cell(executor)
    with pytest.raises(Unavailable, match=r"limits\.file_bytes"):
        await cell.worker.call(write_file, "large", bytes(11_000_000))
    await cell.worker.close()


async def test_no_code_can_raise_its_limits_again_not_even_roots(executor: ProcessExecutor) -> None:
    cell = await open_cell(executor)
    raising = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (9999, 9999))"
    assert "not allowed to raise" in await message(cell, raising)
    status = await cell.run("status = open('/proc/self/status').read().split('\\n')", "status")
    assert "NoNewPrivs:\t1" in json.loads(status["outputs"][0]["value"])
    program = f"import subprocess, sys\ncode = subprocess.run([sys.executable, '-c', {raising!r}]).returncode"
    assert (await cell.run(program, "code"))["outputs"][0]["value"] == b"1"
    await cell.worker.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to give up")
def test_a_capability_given_up_is_gone_and_no_program_brings_it_back() -> None:
    tell = "print(open('/proc/self/status').read().split('CapEff:')[1].split()[0], flush=True)"
    code = f"""
import subprocess, sys
from mlhost.executors import kernel
{tell}
kernel.give_up(18)
{tell}
subprocess.run([sys.executable, '-c', {tell!r}])
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    before, after, in_program = (int(each, 16) for each in told.split())
    assert before & 1 << 18
    assert after == in_program == before & ~(1 << 18)


async def test_nothing_is_claimed_of_limits_where_a_workspace_lives_in_the_server(tmp_path: Path) -> None:
    executor = InlineExecutor(tmp_path)
    cell = await open_cell(executor)
    assert await message(cell, "raise MemoryError") == "MemoryError (no memory is left)"
    assert await message(cell, "raise OSError(24, 'Too many open files')") == "OSError: [Errno 24] Too many open files"
    await executor.close()


async def test_workers_cannot_starve_the_template_that_watches_them(executor: ProcessExecutor) -> None:
    cell = await open_cell(executor)
    code = "import os\npolicies = [os.sched_getscheduler(os.getppid()) & 0xff, os.sched_getscheduler(0)]"
    template, worker = json.loads((await cell.run(code, "policies"))["outputs"][0]["value"])
    assert worker in (os.SCHED_OTHER, os.SCHED_BATCH)  # which one, it may change itself
    assert template == (os.SCHED_RR if may_use_real_time() else os.SCHED_OTHER)
    await cell.worker.close()


def may_use_real_time() -> bool:
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


# --- the console


async def test_a_flood_of_output_is_cut_and_the_host_stays_quick(executor: ProcessExecutor, bystander: Cell) -> None:
    for printed in ("'x' * 100_000", "'x' * 50"):
        cell = await open_bad(executor)
        async with answering(bystander) as seconds:
            used = time.process_time()
            await message(cell, f"while True: print({printed})")
            used = time.process_time() - used
        text = cell.worker.console.text
        assert text.endswith("output beyond 1000000 bytes is not kept: limits.output_bytes]\n")
        assert len(text) < 1_001_000
        assert statistics.median(seconds) < 0.05
        assert used < EXECUTE_SECONDS * 0.25
        await cell.worker.close()


async def test_code_that_closes_its_output_does_not_keep_the_host_busy(executor: ProcessExecutor) -> None:
    cell = await open_cell(executor)
    used = time.process_time()
    await cell.run("import os, time\nos.close(1); os.close(2)\ntime.sleep(0.5)")
    assert time.process_time() - used < 0.25
    await cell.worker.close()


# --- processor time


@pytest.fixture(scope="module")
async def frugal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessExecutor]:
    settings = ProcessSettings(environment=COVERAGE, cpu_seconds=CPU_SECONDS)
    executor = ProcessExecutor(tmp_path_factory.mktemp("work"), settings)
    yield executor
    await executor.close()


async def tell_when_used_up(cell: Cell, used_up: list[float]) -> None:
    """Note when the call that begins now has used all that it may: a processor shared with others takes longer."""
    assert isinstance(cell.worker, ProcessWorker)
    assert cell.worker._meter is not None
    await asyncio.sleep(LOOK_SECONDS)
    own = Meter(CPU_SECONDS, cell.worker._meter._forked, cell.worker._meter._mark)
    while own.left() > 0:
        await asyncio.sleep(0.02)
    used_up.append(time.monotonic())


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True: pass",
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'while True: pass'])",
        "import os\nif os.fork() == 0:\n    if os.fork() == 0:\n        os.setsid()\n        while True: pass\n"
        "    os._exit(0)\nos.wait()\nimport time\ntime.sleep(20)",
    ],
    ids=["a loop", "a loop that ignores the interrupt", "a child", "an orphan in a session of its own"],
)
async def test_a_call_that_uses_too_much_processor_time_is_stopped(frugal: ProcessExecutor, code: str) -> None:
    cell = await open_bad(frugal, 30)
    used_up: list[float] = []
    watching = asyncio.ensure_future(tell_when_used_up(cell, used_up))
    assert "limits.cpu_seconds" in await message(cell, code)
    assert not used_up or time.monotonic() - used_up[0] <= AFTER_SECONDS
    watching.cancel()
    await cell.worker.close()
    assert not started_by(cell)


async def test_processor_time_is_counted_anew_for_each_call_and_waiting_uses_none(frugal: ProcessExecutor) -> None:
    cell = await open_bad(frugal, 30)
    half = f"import time\nend = time.process_time() + {CPU_SECONDS / 2}\nwhile time.process_time() < end: pass"
    for _ in range(3):
        assert not await message(cell, half)
    assert not await message(cell, f"import time\ntime.sleep({CPU_SECONDS + 0.5})")
    await cell.worker.close()


# --- orphans


DOUBLE_FORK = """
import os, signal, time
def leave(seconds, status=0, then=os.getpid):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.write(writer, str(os.getpid()).encode())
            then()
            time.sleep(seconds)
        os._exit(status)
    os.close(writer)
    pid = int(os.read(reader, 20))
    os.close(reader)
    os.wait()
    return pid
"""


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def pid_of(cell: Cell, expression: str) -> int:
    return int((await cell.run(f"_pid = {expression}", "_pid"))["outputs"][0]["value"])


async def test_a_double_fork_lives_as_long_as_its_session_and_no_longer(executor: ProcessExecutor) -> None:
    cell = await open_cell(executor)
    await cell.run(DOUBLE_FORK)
    pid = await pid_of(cell, "leave(1000)")
    await cell.run("time.sleep(0.5)")
    assert started_by(cell) == [pid]
    begin = time.monotonic()
    await cell.worker.close()
    assert time.monotonic() - begin < AFTER_SECONDS
    assert not exists(pid)


async def test_a_double_fork_does_not_outlive_a_worker_that_crashes(executor: ProcessExecutor) -> None:
    cell = await open_cell(executor)
    await cell.run(DOUBLE_FORK)
    pid = await pid_of(cell, "leave(1000)")
    assert "exit status 3" in await message(cell, "os._exit(3)")
    assert not exists(pid)
    await cell.worker.close()


@pytest.mark.parametrize("are_listed", [True, False], ids=["as listed by the kernel", "by looking at all processes"])
def test_descendants_are_found(monkeypatch: pytest.MonkeyPatch, are_listed: bool) -> None:
    monkeypatch.setattr(families, "LISTS_CHILDREN", are_listed)
    with subprocess.Popen(["sh", "-c", "sleep 9 & echo; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout
        shell.stdout.readline()
        [sleep] = families.descendants(shell.pid)
        assert {shell.pid, sleep} <= set(families.descendants(os.getpid()))
        assert families.parent(sleep) == shell.pid
        families.kill_below(shell.pid)


async def test_orphans_are_not_another_sessions(executor: ProcessExecutor) -> None:
    cells = [await open_cell(executor) for _ in range(3)]
    pids = []
    for cell in cells:
        await cell.run(DOUBLE_FORK)
        pids.append(await pid_of(cell, "leave(1000)"))
    await cells[1].worker.close()
    assert [exists(pid) for pid in pids] == [True, False, True]
    await cells[0].worker.close(force=True)
    assert [exists(pid) for pid in pids] == [False, False, True]
    await cells[2].worker.close()
    assert not exists(pids[2])


PUT_OFF = """
import resource
def put_off_after(seconds):
    time.sleep(seconds)
    resource.setrlimit(10, (5, 5))
"""


@pytest.mark.parametrize("seconds", [0, 0.5])  # at once; and while nothing on the machine starts or ends
async def test_an_orphan_that_puts_off_its_mark_is_ended(executor: ProcessExecutor, seconds: float) -> None:
    cell = await open_cell(executor)
    await cell.run(DOUBLE_FORK + PUT_OFF)
    pid = await pid_of(cell, f"leave(1000, then=lambda: put_off_after({seconds}))")
    await until(lambda: not exists(pid))
    assert not await message(cell, "x = 1")
    await cell.worker.close()


async def test_ended_orphans_take_no_places_and_children_keep_their_exit_status(executor: ProcessExecutor) -> None:
    cell = await open_cell(executor)
    await cell.run(DOUBLE_FORK)
    code = """
import multiprocessing, subprocess, sys
seen = []
for n in range(40):
    leave(0, status=9)
    child = subprocess.Popen(['sh', '-c', f'sleep 0.01 & exit {n}'])
    time.sleep(0.005)
    seen.append(child.wait() == n)
fork = multiprocessing.get_context('fork').Process(target=sys.exit, args=(7,))
fork.start()
fork.join()
seen.append(fork.exitcode == 7)
"""
    assert not await message(cell, code)
    assert json.loads((await cell.run("", "seen"))["outputs"][0]["value"]) == [True] * 41
    await until(lambda: not started_by(cell))
    await cell.worker.close()


async def test_as_many_processes_as_are_allowed_may_run(executor: ProcessExecutor) -> None:
    cell = await open_cell(executor)
    code = f"import subprocess, time\nchildren = [subprocess.Popen(['sleep', '9']) for _ in range({PROCESSES})]"
    assert not await message(cell, f"{code}\ntime.sleep(0.5)")
    assert "limits.processes" in await message(cell, "children.append(subprocess.Popen(['sleep', '9']))\ntime.sleep(5)")
    await cell.worker.close()


# --- interrupts


async def test_an_interrupt_right_after_the_fork_is_heard_the_first_time(executor: ProcessExecutor) -> None:
    for _ in range(20):
        cell = await open_cell(executor)
        running = asyncio.ensure_future(cell.run("while True: pass"))
        await asyncio.sleep(0)
        begin = time.monotonic()
        assert cell.worker.interrupt()
        assert (await running)["error"] == "KeyboardInterrupt"
        assert time.monotonic() - begin < 0.5
        await cell.worker.close()
