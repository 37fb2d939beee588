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
from mlhost.executors.forking import ProcessSettings
from mlhost.executors.inline import InlineExecutor
from mlhost.executors.process import ProcessExecutor
from mlhost.runtime.workspace import write_file
from tests.parts import COVERAGE, Cell, open_cell

EXECUTE_SECONDS = 1.0
AFTER_SECONDS = 2.0  # the longest a program may go on after its limit
SETTINGS = ProcessSettings(
    environment=COVERAGE,
    memory_bytes=1 << 30,
    open_files=256,
    file_bytes=10_000_000,
    output_bytes=1_000_000,
)


class Program(NamedTuple):
    """What it runs, the setting it comes up against, and when, in seconds after its start."""

    code: str
    setting: str
    limit_seconds: float = 0.0


PROGRAMS = {
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
    assert max(seconds) < AFTER_SECONDS
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
