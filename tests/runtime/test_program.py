"""Running code, called as a worker calls it, in this process."""

import linecache
import sys
from pathlib import Path

import numpy as np
import pytest

from mlhost.errors import CodeFailed, Invalid
from mlhost.runtime.program import REMEMBERED_BLOCKS, ProgramSpec, execute, prepare, score
from mlhost.runtime.workspace import Workspace
from tests.parts import answered


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return Workspace({"__name__": "__main__"}, tmp_path)


def spec(code: str, init: str = "", files: tuple[str, ...] = (), **inputs: str) -> ProgramSpec:
    return ProgramSpec(
        code=code, init_code=init, inputs=list(inputs.items()), outputs=[("y", "numeric")], files=list(files)
    )


def test_a_block_reads_its_inputs_and_leaves_its_outputs(workspace: Workspace) -> None:
    outcome = execute(workspace, "b = a + 1\nopen('f', 'w').close()", [("a", b"41")], ["b"])
    assert outcome == {
        "error": "",
        "outputs": [{"name": "b", "value": b"42"}],
        "changed_files": ["f"],
        "objects": ["a", "b"],
        "files": ["f"],
    }


def test_an_output_that_json_cannot_hold_is_named(workspace: Workspace) -> None:
    outcome = execute(workspace, "x = object()\nz = 1", [], ["x", "z"])
    assert "output 'x' cannot be sent as JSON" in outcome["error"]
    assert outcome["outputs"] == [{"name": "z", "value": b"1"}]


def test_the_traceback_begins_in_the_users_code(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(workspace, "1 / 0", [], [])["error"] == "ZeroDivisionError: division by zero"
    told = capsys.readouterr().err
    assert told.splitlines()[1].strip() == 'File "<block 1>", line 1, in <module>'


@pytest.mark.parametrize(
    "harm",
    [
        "globals()[1] = 2",
        "globals()['not a name'] = 2",
        "class Liar:\n    @property\n    def __class__(self): raise ValueError\nliar = Liar()",
        "raise type(' X', (Exception,), {})",
        "def deep(n): return deep(n + 1)\ndeep(0)",
    ],
)
def test_odd_code_has_an_ordinary_outcome_and_the_next_block_runs(workspace: Workspace, harm: str) -> None:
    outcome = execute(workspace, harm, [], [])
    assert bool(outcome["error"]) == ("raise type" in harm or "deep" in harm)
    assert execute(workspace, "x = 1", [], ["x"])["outputs"] == [{"name": "x", "value": b"1"}]


def test_a_deleted_stream_is_opened_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert not execute(workspace, "import sys\ndel sys.stdout", [], [])["error"]
    assert not execute(workspace, "sys.stdout", [], [])["error"]


def test_an_output_file_too_large_to_send_is_refused_by_name(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlhost.runtime.program.MAX_OUTPUT_FILE_BYTES", 10)
    prepare(workspace, spec("from pathlib import Path\nPath('big').write_text('x' * 11)\ny = 1", files=("big",)))
    with pytest.raises(CodeFailed, match="'big' has 11 bytes"):
        score(workspace, b"{}")
    assert not (workspace.folder / "big").exists()


def test_notes_and_causes_stay_on_the_console(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    code = """
try:
    1 / 0
except ZeroDivisionError as e:
    e.add_note('a note')
    raise ValueError('two\\nlines') from e
"""
    assert execute(workspace, code, [], [])["error"] == "ValueError: two\nlines"
    told = capsys.readouterr().err
    assert "a note" in told
    assert "direct cause" in told


def test_the_sources_of_old_blocks_are_forgotten(workspace: Workspace) -> None:
    for _ in range(REMEMBERED_BLOCKS + 10):
        execute(workspace, "", [], [])
    assert len(linecache.cache) <= REMEMBERED_BLOCKS + 1


def test_a_broken_stream_of_the_users_does_not_hide_the_error(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    outcome = execute(workspace, "import sys\nsys.stderr = None\n1 / 0", [], [])
    assert outcome["error"] == "ZeroDivisionError: division by zero"


def test_memory_that_runs_out_names_the_limit(workspace: Workspace) -> None:
    assert "memory" in execute(workspace, "raise MemoryError", [], [])["error"]


def test_a_call_binds_runs_encodes_and_forgets(workspace: Workspace) -> None:
    workspace.objects["factor"] = 2
    prepare(workspace, spec("y = x * factor; factor = 0; left = 1", x="numeric"))
    for x in (1, 2):
        answer = answered(score(workspace, b'{"x": %d}' % x))
        assert answer["outputParameters"] == {"y": 2 * x}
    assert workspace.objects.keys() - {"__builtins__"} == {"__name__", "factor"}


def test_a_call_that_fails_is_forgotten_too(workspace: Workspace) -> None:
    prepare(workspace, spec("left = 1\ny = 1 / x", x="numeric"))
    answer = answered(score(workspace, b'{"x": 0}'))
    assert (answer["success"], answer["outputParameters"]) == (False, {})
    assert "left" not in workspace.objects


def test_init_code_that_reads_an_input_runs_before_every_call(workspace: Workspace) -> None:
    prepare(workspace, spec("y = z", init="z = x + 1", x="numeric"))
    assert b'"y":2' in score(workspace, b'{"x": 1}')
    assert b'"y":3' in score(workspace, b'{"x": 2}')


@pytest.mark.parametrize(
    "init",
    [
        "def double():\n    return 2 * x\nz = double()",
        "class Settings:\n    z = x\nz = Settings.z",
        "def make():\n    class Settings:\n        z = x\n    return Settings.z\nz = make()",
        "z = [(lambda: x + item)() for item in [0]][0]",
        "z = 0\nz += x",
        "z = f'{x}'",
        "z = x\ndel x",
    ],
)
def test_init_code_reads_an_input_however_deep_in_it(workspace: Workspace, init: str) -> None:
    workspace.objects["x"] = 0  # what initCode would see, did it run once
    prepare(workspace, spec("y = z is not None", init=init, x="numeric"))
    assert workspace.program is not None
    assert workspace.program.init_each_call
    assert answered(score(workspace, b'{"x": 1}'))["success"]


@pytest.mark.parametrize(
    "init",
    [
        "import types\nz = types.SimpleNamespace(x=1).x",
        "def double(x):\n    return 2 * x\nz = double(1)",
        "def collect():\n    x = [1]\n    return [x for _ in x]\nz = collect()",
        "z = 'x'",
        "x = z = 1",
    ],
)
def test_init_code_that_only_has_an_attribute_or_a_local_variable_named_like_an_input_runs_once(
    workspace: Workspace, init: str
) -> None:
    prepare(workspace, spec("y = x", init=f"{init}\nruns = [0]", x="numeric"))
    runs = workspace.objects["runs"]
    assert b'"y":2' in score(workspace, b'{"x": 2}')
    assert workspace.objects["runs"] is runs


def test_types_decide_what_code_sees(workspace: Workspace) -> None:
    prepare(workspace, spec("kind = type(v).__name__\ny = v.sum() + len(f.columns)", v="vector", f="data.frame"))
    assert b'"y":7' in score(workspace, b'{"v": [1, 2], "f": {"a": [1], "b": [2], "c": [3], "d": [4]}}')


@pytest.mark.parametrize(
    ("code", "init", "words"),
    [
        ("y = (", "", "code does not compile: '(' was never closed (line 1, column 5)"),
        ("y = 1", "x = = 1", "initCode does not compile: invalid syntax (line 1, column 5)"),
        ("y = '\0'", "", "null bytes"),
        ("y = 1", "1 / 0", "initCode failed: ZeroDivisionError"),
        ("y = " + "(" * 500 + ")" * 500, "", "does not compile"),
    ],
)
def test_a_program_that_cannot_work_is_refused_with_the_reason(
    workspace: Workspace, code: str, init: str, words: str
) -> None:
    with pytest.raises(CodeFailed) as failure:
        prepare(workspace, spec(code, init))
    assert words in failure.value.message


def test_files_of_one_call_do_not_reach_the_next(workspace: Workspace) -> None:
    (workspace.folder / "kept.txt").write_text("original")
    code = """
import os, pathlib
y = len(os.listdir())
pathlib.Path('made').write_text('x')
os.makedirs('deep/er')
pathlib.Path('kept.txt').write_text('')
"""
    prepare(workspace, spec(code, files=("kept.txt", "missing")))
    for _ in range(2):
        answer = answered(score(workspace, b"{}"))
        assert answer["outputParameters"] == {"y": 1}
        assert answer["changedFiles"] == ["deep", "kept.txt", "made"]
        assert answer["outputFiles"] == {"kept.txt": "", "missing": None}
    assert (workspace.folder / "kept.txt").read_text() == "original"


@pytest.mark.parametrize(
    "harm",
    [
        "os.remove('kept.txt')",
        "open('kept.txt', 'a').write('more')",
        "os.remove('kept.txt'); os.mkdir('kept.txt')",
        "shutil.rmtree(os.getcwd())",
        "os.chdir('/')",
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_call_does_to_the_snapshots_files_is_undone(workspace: Workspace, harm: str) -> None:
    (workspace.folder / "kept.txt").write_text("original")
    code = f"import os, shutil\ny = len(open('kept.txt').read())\nif x: {harm}"
    prepare(workspace, spec(code, x="logical"))
    for x in (b"false", b"true", b"true", b"false"):
        answer = answered(score(workspace, b'{"x": %s}' % x))
        assert answer["outputParameters"] == {"y": 8}, answer


def test_a_block_that_removes_its_working_directory_is_an_ordinary_outcome(workspace: Workspace) -> None:
    assert execute(workspace, "import os, shutil\nshutil.rmtree(os.getcwd())", [], [])["error"] == ""
    assert execute(workspace, "x = 1", [], ["x"])["files"] == []


def test_a_file_made_within_the_clocks_tick_is_found_by_the_next_call(workspace: Workspace) -> None:
    prepare(workspace, spec("import os\ny = len(os.listdir())\nif x: open('made', 'w').close()", x="logical"))
    for x in [0, 1] * 20:
        assert answered(score(workspace, b'{"x": %s}' % [b"false", b"true"][x]))["outputParameters"] == {"y": 0}


def test_a_worker_without_a_program_says_so(workspace: Workspace) -> None:
    with pytest.raises(Invalid):
        score(workspace, b"{}")


def test_numpy_results_are_plain_numbers_in_the_answer(workspace: Workspace) -> None:
    workspace.objects["np"] = np
    prepare(workspace, spec("y = np.float32(0.5)"))
    assert answered(score(workspace, b"{}"))["outputParameters"] == {"y": 0.5}
