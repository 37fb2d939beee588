"""Freezing and thawing a workspace, as a worker does it."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import dill
import pytest

from mlhost.errors import CodeFailed, Invalid, NotFound
from mlhost.runtime.freeze import dump_object, freeze, load_object, thaw
from mlhost.runtime.program import execute
from mlhost.runtime.workspace import Workspace


@pytest.fixture
def make(tmp_path: Path) -> Any:
    count = iter(range(100))

    def make(code: str = "") -> Workspace:
        folder = tmp_path / str(next(count))
        folder.mkdir()
        workspace = Workspace({"__name__": "__main__", "FOLDER": str(folder)}, folder)
        assert not execute(workspace, code, [], [])["error"]
        return workspace

    return make


def value(workspace: Workspace, expression: str) -> Any:
    outcome = execute(workspace, f"_v = {expression}", [], ["_v"])
    assert not outcome["error"]
    return json.loads(outcome["outputs"][0]["value"])


def thawed(make: Any, code: str, before: str = "") -> Workspace:
    archive = freeze(make(code))["archive"]
    workspace: Workspace = make(before)
    thaw(workspace, archive)
    return workspace


@pytest.mark.parametrize(
    ("code", "expression", "expected"),
    [
        ("a = [1]; b = {'a': a}", "b['a'] is a", True),
        ("a = []; a.append(a)", "a[0] is a", True),
        ("f = lambda x: x + 1", "f(1)", 2),
        ("def outer(n):\n    def inner(x): return x * n\n    return inner\ntriple = outer(3)", "triple(2)", 6),
        ("class C:\n    def __init__(self): self.x = 1\n    def get(self): return self.x\nc = C()", "c.get()", 1),
        ("class C: pass\nc = C()", "type(c) is C", True),
        ("import math\ndef area(r): return math.pi * r", "int(area(1))", 3),
        ("def f(n): return 1 if n == 0 else n * f(n - 1)", "f(5)", 120),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\np = P(3)", "p == P(3)", True),
        ("import enum\nclass E(enum.Enum):\n    A = 1\ne = E.A", "e is E.A", True),
    ],
)
def test_what_code_defines_survives(make: Any, code: str, expression: str, expected: object) -> None:
    assert value(thawed(make, code), expression) == expected


def test_functions_see_the_variables_of_the_workspace_they_were_thawed_in(make: Any) -> None:
    workspace = thawed(make, "factor = 2\ndef times(x): return x * factor", before="own = 1; factor = 0")
    assert value(workspace, "times(4)") == 8
    assert not execute(workspace, "factor = 10", [], [])["error"]
    assert value(workspace, "times(4)") == 40
    assert value(workspace, "own") == 1


def test_the_manifest_tells_what_is_inside(make: Any) -> None:
    workspace = make("import numpy\na = numpy.zeros((3, 4))\ns = 'x' * 1000\n_private = 1")
    (workspace.folder / "f.csv").write_bytes(b"1,2")
    manifest = freeze(workspace)["manifest"]
    assert manifest["objects"]["a"]["shape"] == "3 x 4"
    assert len(manifest["objects"]["s"]["repr"]) == 80
    assert set(manifest["objects"]) == {"a", "s", "FOLDER"}
    assert manifest["files"] == {"f.csv": 3}
    assert manifest["skipped"] == {}


def test_what_cannot_be_pickled_is_skipped_and_named(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code = """
g = (x for x in [])
class Rude:
    def __reduce__(self): raise ValueError('no')
    def __repr__(self): 1 / 0
r = Rude()
kept = 1
"""
    frozen = freeze(make(code))
    assert set(frozen["manifest"]["skipped"]) == {"g", "r"}
    told = capsys.readouterr().err
    assert "'g' is not in the snapshot" in told
    assert "'r' is not in the snapshot: ValueError: no" in told
    other = make()
    thaw(other, frozen["archive"])
    assert value(other, "kept") == 1


def test_folders_links_and_odd_file_names_are_named_and_left_out(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = make("a = 1")
    (workspace.folder / "folder").mkdir()
    (workspace.folder / "odd\nname").write_text("x")
    (workspace.folder / "link").symlink_to("/etc/passwd")
    (workspace.folder / "kept.txt").write_text("x")
    assert set(freeze(workspace)["manifest"]["files"]) == {"kept.txt"}
    told = capsys.readouterr().err
    for name in ("folder", "odd\\nname", "link"):
        assert f"Warning: '{name}' is not in the snapshot" in told


def test_whatever_an_object_does_when_described_the_snapshot_is_taken(make: Any) -> None:
    code = """
class Odd:
    @property
    def shape(self): raise SystemExit
    def __repr__(self): raise SystemExit
o = Odd()
"""
    described = freeze(make(code))["manifest"]["objects"]["o"]
    assert described == {"type": "Odd", "repr": "<repr failed: SystemExit>", "shape": "<shape failed: SystemExit>"}


def test_a_pickle_that_leaves_is_a_pickle_that_does_not_load(make: Any) -> None:
    with pytest.raises(Invalid, match="SystemExit"):
        load_object(make(), "x", b"csys\nexit\n(I7\ntR.")


def test_an_object_with_a_failing_repr_is_frozen_all_the_same(make: Any) -> None:
    workspace = make("class Odd:\n    def __repr__(self): 1 / 0\no = Odd()")
    assert freeze(workspace)["manifest"]["objects"]["o"]["repr"].startswith("<Odd instance at")


def test_a_snapshot_of_another_python_is_refused_before_it_is_opened(make: Any) -> None:
    frozen = freeze(make("a = 1"))
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(frozen["archive"])) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "manifest.json":
                content = json.dumps(json.loads(content) | {"python": "2.7.18"}).encode()
            new.writestr(name, b"cos\n_exit\n(I7\ntR." if name == "workspace.dill" else content)
    with pytest.raises(CodeFailed, match=r"Python 2\.7\.18; this worker runs 3\."):
        thaw(make(), changed.getvalue())


def test_a_snapshot_that_does_not_load_says_why(make: Any) -> None:
    code = "class Fussy:\n    def __reduce__(self): return (int, ('not a number',))\nf = Fussy()"
    with pytest.raises(CodeFailed, match="does not load: ValueError"):
        thawed(make, code)


def test_single_objects_travel_as_dill(make: Any) -> None:
    workspace = make("k = {'a': 1}\ng = (x for x in [])")
    assert dill.loads(dump_object(workspace, "k")) == {"a": 1}
    load_object(workspace, "k2", dill.dumps([1, 2]))
    assert value(workspace, "k2") == [1, 2]
    with pytest.raises(NotFound):
        dump_object(workspace, "nothing")
    with pytest.raises(CodeFailed, match="'g' cannot be pickled"):
        dump_object(workspace, "g")
    with pytest.raises(Invalid, match="not a pickle"):
        load_object(workspace, "k3", b"garbage")
