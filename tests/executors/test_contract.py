"""What every placement promises: one suite, run on each of them."""

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mlhost.errors import CodeFailed, Invalid, MlhostError, NotFound, Unavailable, WorkerLost
from mlhost.executors import Executor, Worker
from mlhost.executors.inline import InlineExecutor
from mlhost.executors.interpreter import IS_SUPPORTED, InterpreterExecutor
from mlhost.executors.parcels import chunks, lent, thaw_into
from mlhost.runtime import program
from mlhost.runtime.freeze import dump_object, freeze, load_object
from mlhost.runtime.parcels import CHUNK_BYTES
from mlhost.runtime.program import ProgramSpec
from mlhost.runtime.workspace import delete_object, list_files, list_objects, ping, read_file, write_file
from tests.parts import Cell, answered, open_cell, open_descriptors, pieces, until

pytestmark = pytest.mark.untraced
PLACEMENTS = ["process", "inline", *(["interpreter"] if IS_SUPPORTED else [])]


@pytest.fixture(scope="module")
async def placements(
    executor: Executor, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Executor]]:
    inline = InlineExecutor(tmp_path_factory.mktemp("inline"))
    placements: dict[str, Executor] = {"process": executor, "inline": inline}
    if IS_SUPPORTED:
        placements["interpreter"] = InterpreterExecutor(tmp_path_factory.mktemp("interpreter"))
    yield placements
    for placement in placements.values():
        if placement is not executor:
            await placement.close()


@pytest.fixture(params=PLACEMENTS)
def placed(request: pytest.FixtureRequest, placements: dict[str, Executor]) -> Executor:
    """The executor of one placement after the other."""
    return placements[request.param]


@pytest.fixture
async def worker(placed: Executor) -> AsyncIterator[Worker]:
    worker = await placed.open(deadline_seconds=30)
    yield worker
    await worker.close()


async def value(cell: Cell, expression: str) -> Any:
    outcome = await cell.run(f"_value = {expression}", "_value")
    assert not outcome["error"], outcome["error"]
    return json.loads(outcome["outputs"][0]["value"])


async def wait_until_it_printed(cell: Cell, text: str) -> None:
    await until(lambda: text in cell.worker.console.text)


# --- calls


async def test_an_error_of_the_function_is_the_same_error_here(worker: Worker) -> None:
    with pytest.raises(NotFound, match="no object 'nothing'"):
        await worker.call(delete_object, "nothing")


async def test_what_is_not_an_error_of_ours_is_told_with_its_type_and_trace(worker: Worker) -> None:
    with pytest.raises(MlhostError, match="TypeError: ") as failure:
        await worker.call(write_file, 5, b"")  # type: ignore[arg-type]
    assert "write_file" in failure.value.details["trace"]
    assert await worker.call(ping) == "pong"


async def test_calls_made_at_once_run_in_order(worker: Worker) -> None:
    code = "seen = globals().get('seen', []) + [{0}]"
    await asyncio.gather(*(worker.call(program.execute, code.format(n), [], []) for n in range(20)))
    outcome = await worker.call(program.execute, "", [], ["seen"])
    assert json.loads(outcome["outputs"][0]["value"]) == list(range(20))


async def test_a_large_argument_and_result_travel_whole(worker: Worker) -> None:
    content = random.Random(1).randbytes(20_000_000)
    await worker.call(write_file, "large", content)
    assert await worker.call(read_file, "large") == content


async def test_only_functions_of_the_runtime_can_be_called(worker: Worker) -> None:
    with pytest.raises(MlhostError, match="not a function of the runtime"):
        await worker.call(os.getcwd)  # type: ignore[arg-type]
    assert not worker.busy
    assert await worker.call(ping) == "pong"


async def test_arguments_travel_by_position(worker: Worker) -> None:
    with pytest.raises(TypeError, match="by position"):
        await worker.call(read_file, name="x")


async def test_code_that_exits_ends_its_block_and_not_the_workspace(cell: Cell) -> None:
    outcome = await cell.run("kept = 1\nraise SystemExit(3)")
    assert outcome["error"] == "SystemExit: 3"
    assert await value(cell, "kept") == 1


async def test_code_is_the_main_module_of_its_workspace(cell: Cell) -> None:
    assert await value(cell, "__name__") == "__main__"


async def test_a_round_trip_takes_well_under_a_millisecond_in_the_median(worker: Worker) -> None:
    """No benchmark: only a guard against an accidental sleep or poll in the path."""
    times = []
    for _ in range(200):
        start = time.perf_counter()
        await worker.call(ping)
        times.append(time.perf_counter() - start)
    assert sorted(times)[100] < 0.02


# --- the console


async def test_what_was_printed_is_there_when_the_call_returns(cell: Cell) -> None:
    for n in range(50):
        cell.worker.console.clear()
        await cell.run(f"import sys\nprint('out', {n})\nprint('error', file=sys.stderr)\nprint('no newline', end='')")
        assert cell.worker.console.text == f"out {n}\nerror\nno newline"


async def test_the_console_can_be_read_while_code_runs(cell: Cell) -> None:
    running = asyncio.ensure_future(cell.run("import time\nprint('begun')\ntime.sleep(1)\nprint('done')"))
    await wait_until_it_printed(cell, "begun")
    assert not running.done()
    await running
    assert cell.worker.console.text == "begun\ndone\n"


async def test_a_flood_of_output_is_cut_with_a_notice(cell: Cell) -> None:
    await cell.run("for _ in range(300): print('x' * 100_000)")
    text = cell.worker.console.text
    assert len(text) < 11_000_000
    assert text.endswith("[mlhost: output beyond 10.0 MiB is not kept: limits.output_bytes]\n")


async def test_code_that_closes_its_streams_can_print_again_in_the_next_run(cell: Cell) -> None:
    await cell.run("import sys\nsys.stdout.close()\nsys.stderr.close()")
    await cell.run("print('still here')\n1 / 0")
    assert "still here" in cell.worker.console.text
    assert "ZeroDivisionError" in cell.worker.console.text


async def test_code_that_detaches_its_streams_can_print_again_in_the_next_run(cell: Cell) -> None:
    await cell.run("import sys\nsys.stdout.detach(), sys.stderr.detach()")
    await cell.run("print('still here')\n1 / 0")
    assert "still here" in cell.worker.console.text
    assert "ZeroDivisionError" in cell.worker.console.text


async def test_code_that_deletes_its_streams_can_print_again_in_the_next_run(cell: Cell) -> None:
    await cell.run("import sys\ndel sys.stdout, sys.stderr")
    await cell.run("print('still here')")
    assert "still here" in cell.worker.console.text


async def test_code_can_redirect_what_it_prints(cell: Cell) -> None:
    code = """
import contextlib, io, sys
with contextlib.redirect_stdout(io.StringIO()) as outer:
    print('one')
    with contextlib.redirect_stdout(io.StringIO()) as inner:
        print('two')
    print('three')
print('four')
text = [outer.getvalue(), inner.getvalue()]
"""
    assert not (await cell.run(code))["error"]
    assert await value(cell, "text") == ["one\nthree\n", "two\n"]
    assert cell.worker.console.text == "four\n"


async def test_input_ends_at_once_instead_of_waiting(cell: Cell) -> None:
    assert "EOFError" in (await cell.run("input()"))["error"]


# --- stopping


@pytest.mark.parametrize("code", ["while True: pass", "import time\nwhile True: time.sleep(0.01)"])
async def test_an_interrupt_stops_code_and_keeps_the_workspace(cell: Cell, code: str) -> None:
    await cell.run("kept = 1")
    running = asyncio.ensure_future(cell.run(f"print('begun')\n{code}"))
    await wait_until_it_printed(cell, "begun")
    assert cell.worker.busy
    assert cell.worker.interrupt()
    assert (await running)["error"] == "KeyboardInterrupt"
    assert await value(cell, "kept") == 1


async def test_an_interrupt_that_comes_before_the_code_has_begun_stops_it_all_the_same(cell: Cell) -> None:
    await cell.run("the_worker_is_ready = True")
    for n in range(50):
        running = asyncio.ensure_future(cell.run("while True: pass"))
        await asyncio.sleep(0)
        if n % 2:
            time.sleep(random.Random(n).random() / 3000)
        assert cell.worker.interrupt()
        assert (await running)["error"] == "KeyboardInterrupt"


async def test_an_idle_worker_is_not_interrupted(cell: Cell) -> None:
    assert not cell.worker.interrupt()
    assert not (await cell.run("x = 1"))["error"]


async def test_code_that_handles_the_interrupt_is_not_interrupted_again(cell: Cell) -> None:
    code = """
import time
try:
    print('begun')
    while True: time.sleep(0.001)
except KeyboardInterrupt:
    for _ in range(300_000): pass
    handled = True
"""
    running = asyncio.ensure_future(cell.run(code))
    await wait_until_it_printed(cell, "begun")
    cell.worker.interrupt()
    assert not (await running)["error"]
    assert await value(cell, "handled") is True


async def test_a_call_past_its_deadline_is_stopped_and_says_so(placed: Executor) -> None:
    cell = await open_cell(placed, deadline_seconds=0.3)
    await cell.run("kept = 1")
    with pytest.raises(CodeFailed, match=r"Stopped after 0.3 seconds"):
        await cell.run("while True: pass")
    assert await value(cell, "kept") == 1
    await cell.worker.close()


async def test_a_call_without_a_block_is_stopped_too(placed: Executor) -> None:
    cell = await open_cell(placed, deadline_seconds=0.3)
    await cell.run("class Slow:\n    def __reduce__(self):\n        while True: pass\nslow = Slow()")
    with pytest.raises(CodeFailed, match=r"Stopped after 0.3 seconds"):
        await cell.worker.call(dump_object, "slow")
    assert await cell.worker.call(list_objects) == ["Slow", "slow"]
    await cell.worker.close()


async def test_a_cancelled_call_is_stopped_and_its_reply_reaches_nobody_else(cell: Cell) -> None:
    for n in range(10):
        running = asyncio.ensure_future(cell.run("import time\nfor _ in range(1000): time.sleep(0.01)\n'never'"))
        await asyncio.sleep(random.Random(n).random() / 20)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await value(cell, str(n)) == n


async def test_whoever_is_cancelled_the_others_get_their_own_answers(cell: Cell) -> None:
    chance = random.Random(7)

    async def ask(n: int) -> None:
        pause = chance.choice([0, 0.0002, 0.001])
        outcome = await cell.run(f"import time\ntime.sleep({pause})\nanswer = n * n", "answer", n=b"%d" % n)
        assert outcome["error"] == ""
        assert int(outcome["outputs"][0]["value"]) == n * n

    async def callers(first: int) -> int:
        cancelled = 0
        for n in range(first, first + 60):
            asking = asyncio.ensure_future(ask(n))
            if chance.random() < 0.4:
                await asyncio.sleep(chance.random() * 0.004)
                asking.cancel()
            try:
                await asking
            except asyncio.CancelledError:
                cancelled += 1
        return cancelled

    assert sum(await asyncio.gather(*(callers(1000 * number) for number in range(6)))) > 20
    assert not cell.worker.lost


async def test_an_interrupt_between_two_calls_never_breaks_the_worker(placed: Executor) -> None:
    cell = await open_cell(placed)
    for n in range(200):
        running = asyncio.ensure_future(cell.run(f"x = {n}", "x"))
        await asyncio.sleep(0.0005 * (n % 5))
        cell.worker.interrupt()
        await running
        assert await value(cell, str(n)) == n
    await cell.worker.close()


# --- objects and files


async def test_objects_are_listed_and_deleted_by_name(cell: Cell) -> None:
    await cell.run("import math\na = 1\n_private = 2\nb = 3")
    await cell.worker.call(delete_object, "a")
    assert await cell.worker.call(list_objects) == ["b"]


async def test_an_object_goes_out_as_a_pickle_and_comes_back(cell: Cell) -> None:
    await cell.run(
        "class Point:\n    def __init__(self): self.x = 3\n    def get(self): return self.x\npoint = Point()"
    )
    await cell.worker.call(load_object, "again", await cell.worker.call(dump_object, "point"))
    assert await value(cell, "again.get()") == 3


async def test_files_are_listed_read_and_deleted_by_name(worker: Worker) -> None:
    await worker.call(write_file, "a.txt", b"one")
    await worker.call(write_file, "a.txt", b"two")
    assert await worker.call(list_files) == ["a.txt"]
    assert await worker.call(read_file, "a.txt") == b"two"


async def test_code_works_in_the_folder_of_its_workspace_and_its_files_are_its_own(cell: Cell) -> None:
    await cell.worker.call(write_file, "given", b"41")
    outcome = await cell.run(
        "import pathlib\nx = int(pathlib.Path('given').read_text()) + 1\npathlib.Path('made').write_text(str(x))"
    )
    assert outcome["changed_files"] == ["made"]
    assert await cell.worker.call(read_file, "made") == b"42"
    assert await value(cell, "__import__('os').stat('made').st_mode & 0o077") == 0


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
async def test_no_file_name_leaves_the_folder(worker: Worker, name: str) -> None:
    with pytest.raises(Invalid):
        await worker.call(read_file, name)
    with pytest.raises(Invalid):
        await worker.call(write_file, name, b"")


# --- snapshots


async def freeze_whole(worker: Worker) -> list[bytes]:
    async with lent(worker.call) as parcel:
        frozen = await worker.call(freeze, parcel)
        return [chunk async for chunk in chunks(worker.call, parcel, frozen["size"])]


async def open_files(cell: Cell) -> int:
    """Unnamed files beside the working directory that the interpreter of the workspace has open."""
    await cell.run("""
import os
_beside, _links = os.path.dirname(os.getcwd()) + "/#", []
for _number in os.listdir("/proc/self/fd"):
    try: _links.append(os.readlink(f"/proc/self/fd/{_number}"))
    except FileNotFoundError: pass  # the one that lists
""")
    return int(await value(cell, "sum(link.startswith(_beside) for link in _links)"))


async def until_settled(cell: Cell) -> None:
    """What a cancelled caller left to be done has been."""
    await asyncio.sleep(0.01)
    await cell.worker.call(ping)


@pytest.mark.parametrize("thawed_in", PLACEMENTS)
async def test_a_workspace_frozen_in_one_placement_thaws_in_any(
    cell: Cell, placements: dict[str, Executor], thawed_in: str
) -> None:
    await cell.run("""
factor = 2
class Model:
    def predict(self, x): return x * factor
model = Model()
twin = [model, model]
with open('notes', 'w') as notes: notes.write('kept')
del notes
""")
    frozen = await freeze_whole(cell.worker)
    other = await open_cell(placements[thawed_in])
    await thaw_into(other.worker.call, pieces(*frozen))
    assert await value(other, "[model.predict(3), twin[0] is twin[1], type(model) is Model]") == [6, True, True]
    assert await other.worker.call(read_file, "notes") == b"kept"
    await other.run("factor = 10\nModel.predict.mark = 'changed'")
    assert await value(other, "model.predict(3)") == 30
    assert await value(cell, "[model.predict(3), hasattr(Model.predict, 'mark')]") == [6, False]
    await other.worker.close()


async def test_modules_and_the_console_are_frozen_by_reference(cell: Cell) -> None:
    await cell.run("import json, sys\nclass Log:\n    out = sys.stdout\nkept = [sys, json, Log]")
    async with lent(cell.worker.call) as parcel:
        frozen = await cell.worker.call(freeze, parcel, True)
    assert list(frozen["manifest"]["objects"]) == ["Log", "kept"]


async def test_what_cannot_be_frozen_is_named_on_the_console(cell: Cell) -> None:
    await cell.run("kept, left = 1, (n for n in [])")
    async with lent(cell.worker.call) as parcel:
        frozen = await cell.worker.call(freeze, parcel)
    assert list(frozen["manifest"]["objects"]) == ["kept"]
    assert "'left' is not in the snapshot" in cell.worker.console.text


async def test_a_large_workspace_travels_in_chunks(cell: Cell, placed: Executor) -> None:
    await cell.run("import random\nlarge = random.Random(1).randbytes(5_000_000)")
    frozen = await freeze_whole(cell.worker)
    assert [len(chunk) for chunk in frozen[:-1]] == [CHUNK_BYTES] * 4
    other = await open_cell(placed)
    await thaw_into(other.worker.call, pieces(*frozen))
    assert await value(other, "large == __import__('random').Random(1).randbytes(5_000_000)") is True
    await other.worker.close()


async def test_two_who_freeze_one_workspace_at_once_get_the_same(cell: Cell) -> None:
    await cell.run("large = bytes(3_000_000)")
    async with lent(cell.worker.call) as parcel:
        await cell.worker.call(freeze, parcel)
        assert await open_files(cell) == 1
        one, two = await asyncio.gather(freeze_whole(cell.worker), freeze_whole(cell.worker))
    assert one == two
    assert await open_files(cell) == 0


async def test_a_frozen_workspace_that_proves_damaged_on_the_way_is_not_opened(cell: Cell) -> None:
    async def damaged() -> AsyncIterator[bytes]:
        for chunk in frozen:
            yield chunk
        raise Unavailable("damaged")

    await cell.run("x, large = 1, bytes(3_000_000)")
    frozen = await freeze_whole(cell.worker)
    await cell.run("x, large = 2, None")
    with pytest.raises(Unavailable, match="damaged"):
        await thaw_into(cell.worker.call, damaged())
    assert await value(cell, "x") == 2
    assert await open_files(cell) == 0


@pytest.mark.parametrize("moment", [0.0, 0.001, 0.01, 0.05, 0.2])
async def test_whenever_a_snapshot_is_cancelled_nothing_of_it_stays_and_the_next_one_works(
    cell: Cell, moment: float
) -> None:
    await cell.run("""
import time
class Slow:
    def __reduce__(self):
        time.sleep(0.1)
        return Slow, ()
large, slow = bytes(20_000_000), Slow()
""")
    freezing = asyncio.ensure_future(freeze_whole(cell.worker))
    await asyncio.sleep(moment)
    freezing.cancel()
    with suppress(asyncio.CancelledError):
        await freezing
    await until_settled(cell)
    assert await open_files(cell) == 0
    assert await freeze_whole(cell.worker)
    assert await open_files(cell) == 0


async def test_snapshots_cancelled_in_quick_succession_leave_no_file_open(cell: Cell) -> None:
    await cell.run("large = bytes(3_000_000)")
    chance = random.Random(4)
    for _ in range(60):
        freezing = asyncio.ensure_future(freeze_whole(cell.worker))
        await asyncio.sleep(chance.random() / 200)
        freezing.cancel()
        with suppress(asyncio.CancelledError):
            await freezing
    await until_settled(cell)
    assert await open_files(cell) == 0
    assert await freeze_whole(cell.worker)


async def test_an_object_that_never_tells_what_it_is_ends_its_snapshot_and_not_the_workspace(placed: Executor) -> None:
    cell = await open_cell(placed, deadline_seconds=0.5)
    await cell.run("class Endless:\n    def __repr__(self):\n        while True: pass")
    await cell.run("large, endless = bytes(3_000_000), Endless()")
    with pytest.raises(CodeFailed, match=r"Stopped after 0.5 seconds"):
        await freeze_whole(cell.worker)
    assert await cell.worker.call(list_objects) == ["Endless", "endless", "large"]
    assert await open_files(cell) == 0
    await cell.worker.close()


# --- programs


@pytest.mark.parametrize(
    "replaced", ["io.StringIO()", "io.TextIOWrapper(sys.stdout.buffer)", "None"], ids=["text", "wrapper", "none"]
)
async def test_a_stream_that_one_call_replaces_does_not_take_the_output_of_the_next(
    worker: Worker, replaced: str
) -> None:
    code = f"import io, sys\nprint(n)\nif n == 1: sys.stdout = sys.stderr = {replaced}\n1 / n"
    spec = ProgramSpec(code=code, init_code="", inputs=[("n", "integer")], outputs=[], files=[])
    await worker.call(program.prepare, spec)
    for n in (1, 0, 1, 2):
        await worker.call(program.score, b'{"n": %d}' % n)
        printed = worker.console.take()
        assert printed.startswith(f"{n}\n")
        assert ("ZeroDivisionError" in printed) == (n == 0)


@pytest.mark.parametrize("undone", ["close()", "detach()"])
async def test_a_stream_that_one_call_undoes_is_there_for_the_next(worker: Worker, undone: str) -> None:
    code = f"import sys\nprint(n)\nif n == 1: sys.stdout.{undone}, sys.stderr.{undone}"
    spec = ProgramSpec(code=code, init_code="", inputs=[("n", "integer")], outputs=[], files=[])
    await worker.call(program.prepare, spec)
    for n in (1, 0, 1, 2):
        assert b'"success":true' in await worker.call(program.score, b'{"n": %d}' % n)
        assert worker.console.take() == f"{n}\n"


async def test_a_program_is_prepared_once_and_its_calls_leave_nothing_behind(worker: Worker) -> None:
    spec = ProgramSpec(
        code="import os\nn += 1\nfiles = os.listdir()\nopen('left', 'w').close()\nleft = 1\ny = x * n",
        init_code="n = 1",
        inputs=[("x", "numeric")],
        outputs=[("y", "numeric"), ("files", "vector")],
        files=[],
    )
    await worker.call(program.prepare, spec)
    for x in range(5):
        answer = answered(await worker.call(program.score, b'{"x": %d}' % x))
        assert answer["outputParameters"] == {"y": 2 * x, "files": []}
        assert answer["changedFiles"] == ["left"]
    assert not answered(await worker.call(program.score, b'{"x": 1}'))["errorMessage"]
    assert await worker.call(list_objects) == ["n"]


async def test_a_program_that_does_not_compile_is_refused(worker: Worker) -> None:
    spec = ProgramSpec(code="y = (", init_code="", inputs=[], outputs=[], files=[])
    with pytest.raises(CodeFailed, match=r"^code does not compile: .*line 1"):
        await worker.call(program.prepare, spec)


# --- two workspaces


async def test_two_workspaces_see_nothing_of_each_other(placed: Executor) -> None:
    cells = [await open_cell(placed) for _ in range(3)]
    code = """
import os, sys, time
own, folder = {0}, os.getcwd()
for _ in range(20):
    print('out {0}')
    print('error {0}', file=sys.stderr)
    with open('file', 'a') as file: file.write('{0}')
    time.sleep(0.001)
assert own == {0} and os.getcwd() == folder
"""
    outcomes = await asyncio.gather(*(cell.run(code.format(n)) for n, cell in enumerate(cells)))
    assert [outcome["error"] for outcome in outcomes] == [""] * 3
    assert len({await value(cell, "folder") for cell in cells}) == 3
    for n, cell in enumerate(cells):
        assert cell.worker.console.text == f"out {n}\nerror {n}\n" * 20
        assert await cell.worker.call(read_file, "file") == b"%d" % n * 20
        assert await value(cell, "own") == n
    await asyncio.gather(*(cell.worker.close() for cell in cells))


async def test_a_stream_that_code_replaces_is_its_own(placed: Executor) -> None:
    one, two = await open_cell(placed), await open_cell(placed)
    await one.run("import io, sys\nsys.stdout = io.StringIO()\nprint('hidden')")
    await two.run("print('shown')")
    await one.run("print('hidden')")
    assert (one.worker.console.text, two.worker.console.text) == ("", "shown\n")
    await one.run("sys.stdout = sys.__stdout__ = None\nprint('nowhere')\ndel sys")
    assert not one.worker.console.text
    await asyncio.gather(one.worker.close(), two.worker.close())


async def test_a_traceback_shows_the_lines_of_its_own_workspace(placed: Executor) -> None:
    one, two = await open_cell(placed), await open_cell(placed)
    await one.run("def fail():\n    raise ValueError('the first')  # line of one")
    await two.run("def fail():\n    raise ValueError('the second')  # line of two")
    await asyncio.gather(one.run("fail()"), two.run("fail()"))
    assert "# line of one" in one.worker.console.text
    assert "# line of two" in two.worker.console.text
    await asyncio.gather(one.worker.close(), two.worker.close())


# --- closing


async def test_closing_removes_the_working_directory(placed: Executor) -> None:
    cell = await open_cell(placed)
    await cell.run("import os\nopen('made', 'w').close()")
    folder = Path(await value(cell, "os.getcwd()"))
    assert (folder / "made").exists()
    await cell.worker.close()
    assert not folder.exists()
    with pytest.raises(WorkerLost):
        await cell.run("1")


async def test_closing_a_busy_worker_stops_its_code_first(placed: Executor) -> None:
    cell = await open_cell(placed)
    running = asyncio.ensure_future(cell.run("while True: pass"))
    await asyncio.sleep(0.2)
    await cell.worker.close()
    assert "KeyboardInterrupt" in (await running)["error"]


async def test_calls_that_wait_when_their_worker_is_closed_are_told_so(placed: Executor) -> None:
    cell = await open_cell(placed)
    calls = [asyncio.ensure_future(cell.run("while True: pass")) for _ in range(3)]
    await asyncio.sleep(0.2)
    await cell.worker.close()
    assert (await calls[0])["error"] == "KeyboardInterrupt"
    for call in calls[1:]:
        with pytest.raises(WorkerLost, match="it was closed"):
            await call


async def test_closing_by_force_does_not_wait_for_the_calls(placed: Executor) -> None:
    cell = await open_cell(placed)
    calls = [asyncio.ensure_future(cell.run("while True: pass")) for _ in range(3)]
    await asyncio.sleep(0.2)
    start = time.monotonic()
    await cell.worker.close(force=True)
    assert time.monotonic() - start < 1.5
    for call in calls:
        with pytest.raises(WorkerLost, match="it was closed by force"):
            await call


async def test_closing_twice_is_no_mistake(placed: Executor) -> None:
    cell = await open_cell(placed)
    await cell.worker.close()
    await cell.worker.close(force=True)


async def test_open_and_close_leave_no_descriptors_behind(placed: Executor) -> None:
    async def cycle() -> None:
        cell = await open_cell(placed)
        await cell.run("x = 1")
        await cell.worker.close()

    await cycle()
    before = open_descriptors()
    for _ in range(20):
        await cycle()
    assert open_descriptors() == before
