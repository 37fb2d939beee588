"""Freezing and thawing a workspace, as a worker does it."""

import io
import json
import os
import platform
import resource
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import dill
import numpy
import pytest
import sklearn.base

from mlhost.errors import CodeFailed, Invalid, NotFound, Unavailable
from mlhost.runtime.freeze import Manifest, dump_object, freeze, load_object, thaw
from mlhost.runtime.parcels import CHUNK_BYTES, drop, put_chunk, read_chunk
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


def frozen(workspace: Workspace, strict: bool = False) -> tuple[bytes, Manifest]:
    """The zip and its manifest; no parcel is left."""
    made = freeze(workspace, 7, strict)
    archive = b"".join(read_chunk(workspace, 7, position) for position in range(0, made["size"], CHUNK_BYTES))
    assert len(archive) == made["size"]
    drop(workspace, 7)
    assert not workspace.parcels
    return archive, made["manifest"]


def load(workspace: Workspace, archive: bytes) -> Workspace:
    put_chunk(workspace, 8, archive)
    try:
        thaw(workspace, 8)
    finally:
        drop(workspace, 8)
    return workspace


def thawed(make: Any, code: str, before: str = "") -> Workspace:
    archive, _ = frozen(make(code))
    return load(make(before), archive)


def with_manifest(archive: bytes, **changes: Any) -> bytes:
    """The same zip with another manifest; None removes an entry."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(changed, "w") as new:
        manifest = json.loads(old.read("manifest.json")) | changes
        new.writestr("manifest.json", json.dumps({name: it for name, it in manifest.items() if it is not None}))
        for name in set(old.namelist()) - {"manifest.json"}:
            new.writestr(name, old.read(name))
    return changed.getvalue()


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
    _, manifest = frozen(workspace)
    a = manifest["objects"]["a"]
    assert (a["type"], a["shape"], a["bytes"], a["repr"][:9]) == ("ndarray", "3 x 4", 96, "array([[0")
    assert len(manifest["objects"]["s"]["repr"]) == 80
    assert manifest["objects"]["s"]["bytes"] > 1000
    assert set(manifest["objects"]) == {"a", "s", "FOLDER"}
    assert manifest["files"] == {"f.csv": 3}
    assert manifest["skipped"] == {}
    assert manifest["python"] == platform.python_version()
    assert manifest["packages"] == {"numpy": numpy.__version__}


def test_what_cannot_be_pickled_is_skipped_and_named(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code = """
g = (x for x in [])
class Rude:
    def __reduce__(self): raise ValueError('no')
    def __repr__(self): 1 / 0
r = Rude()
kept = 1
"""
    archive, manifest = frozen(make(code))
    assert set(manifest["skipped"]) == {"g", "r"}
    told = capsys.readouterr().err
    assert "'g' is not in the snapshot" in told
    assert "'r' is not in the snapshot: ValueError: no" in told
    assert value(load(make(), archive), "kept") == 1


def test_a_file_whose_name_is_not_text_is_named_and_left_out(make: Any) -> None:
    workspace = make("a = 1")
    (workspace.folder / os.fsdecode(b"odd\xff")).write_text("x")
    assert frozen(workspace)[1]["files"] == {}
    with pytest.raises(Invalid, match="odd"):
        frozen(workspace, strict=True)


def test_folders_links_and_odd_file_names_are_named_and_left_out(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = make("a = 1")
    (workspace.folder / "folder").mkdir()
    (workspace.folder / "odd\nname").write_text("x")
    (workspace.folder / "link").symlink_to("/etc/passwd")
    (workspace.folder / "kept.txt").write_text("x")
    assert set(frozen(workspace)[1]["files"]) == {"kept.txt"}
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
    described = frozen(make(code))[1]["objects"]["o"]
    assert described.pop("bytes") > 0
    assert described == {"type": "Odd", "repr": "<repr failed: SystemExit>", "shape": "<shape failed: SystemExit>"}


def test_a_pickle_that_leaves_is_a_pickle_that_does_not_load(make: Any) -> None:
    with pytest.raises(Invalid, match="SystemExit"):
        load_object(make(), "x", b"csys\nexit\n(I7\ntR.")


def test_an_object_with_a_failing_repr_is_frozen_all_the_same(make: Any) -> None:
    workspace = make("class Odd:\n    def __repr__(self): 1 / 0\no = Odd()")
    assert frozen(workspace)[1]["objects"]["o"]["repr"].startswith("<Odd instance at")


def test_a_snapshot_of_another_python_is_refused_before_it_is_opened(make: Any) -> None:
    archive, _ = frozen(make("a = 1"))
    changed = io.BytesIO(with_manifest(archive, python="2.7.18"))
    archive = changed.getvalue().replace(b"workspace.dill", b"missing.dill..")
    with pytest.raises(CodeFailed, match=r"Python 2\.7\.18; this worker runs 3\."):
        load(make(), archive)


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


# --- what cannot be pickled

HELD = """
import io, threading, socket, subprocess
async def coroutine(): pass
async def asynchronous(): yield
generator = (n for n in [])
lock = threading.Lock()
rlock = threading.RLock()
thread = threading.Thread()
connection = socket.socket()
reading = open('given')
writing = open('made', 'wb')
raw = open('given', 'rb', buffering=0)
with open('given') as closed: pass
holder = {'deep': [reading]}
event = threading.Event()
agenerator = asynchronous()
kept = io.StringIO('in memory')
"""
WORDS = {
    "generator": "it is a generator, which cannot be saved in the middle of its work",
    "agenerator": "it is an asynchronous generator, which cannot be saved in the middle of its work",
    "lock": "it is a lock, which only this process has",
    "rlock": "it is a lock, which only this process has",
    "thread": "it is a thread, which only this process has",
    "connection": "it is a network connection, which only this process has",
    "reading": "it is an open file ('given')",
    "writing": "it is an open file ('made')",
    "raw": "it is an open file ('given')",
    "closed": "it is a closed file ('given')",
    "holder": "it holds an open file ('given')",
    "event": "it holds a lock, which only this process has",
}


@pytest.fixture
def holding(make: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A workspace that holds one of each of what cannot be saved."""
    workspace = make()
    (workspace.folder / "given").write_text("text")
    monkeypatch.chdir(workspace.folder)
    assert not execute(workspace, HELD, [], [])["error"]
    yield workspace
    execute(workspace, "for it in (connection, reading, writing, raw): it.close()", [], [])


def test_generators_files_locks_and_connections_are_named_with_a_plain_reason(
    make: Any, holding: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, manifest = frozen(holding)
    assert manifest["skipped"] == WORDS
    told = capsys.readouterr().err
    for name, words in WORDS.items():
        assert f"Warning: {name!r} is not in the snapshot: {words}\n" in told
    assert value(load(make(), archive), "kept.getvalue()") == "in memory"


def test_under_strict_the_snapshot_is_refused_naming_everything_it_would_not_hold(
    holding: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    (holding.folder / "folder").mkdir()
    with pytest.raises(Invalid) as refusal:
        frozen(holding, strict=True)
    for name, words in WORDS.items():
        assert f"{name!r}: {words}" in refusal.value.message
    assert "'folder': it is not a regular file" in refusal.value.message
    assert not holding.parcels
    assert not capsys.readouterr().err


def test_under_strict_what_only_pickling_finds_is_refused_too(make: Any) -> None:
    with pytest.raises(Invalid, match="'d': it holds a generator"):
        frozen(make("d = [(n for n in [])]; fine = 1"), strict=True)


def test_under_strict_a_whole_workspace_is_frozen(make: Any) -> None:
    archive, _ = frozen(make("a = [1, 2]; f = lambda: a"), strict=True)
    assert value(load(make(), archive), "f()") == [1, 2]


def test_a_function_is_kept_when_a_variable_it_mentions_is_not(make: Any) -> None:
    archive, manifest = frozen(make("g = (n for n in [])\ndef first(): return next(g)\nd = [g]"))
    assert set(manifest["skipped"]) == {"g", "d"}
    workspace = load(make("g = iter([5])"), archive)
    assert value(workspace, "first()") == 5


def test_a_class_that_sees_to_its_pickling_itself_is_not_refused(make: Any) -> None:
    code = """
import threading
class Job(threading.Thread):
    def __init__(self, n):
        super().__init__()
        self.n = n
    def __reduce__(self): return Job, (self.n,)
job, plain = Job(5), threading.Thread()
"""
    archive, manifest = frozen(make(code))
    assert set(manifest["skipped"]) == {"plain"}
    assert value(load(make(), archive), "job.n") == 5


def test_the_console_may_be_an_attribute_of_an_object(make: Any) -> None:
    workspace = thawed(make, "import sys\nclass Log:\n    out = sys.stdout\nlog = Log()")
    assert value(workspace, "log.out is __import__('sys').stdout") is True


@pytest.mark.parametrize("limit", [1000, 1_000_000])
def test_what_is_nested_too_deeply_is_named_and_skipped(make: Any, limit: int) -> None:
    code = """
kept, deep = 1, []
for _ in range(100_000): deep = [deep]
class Node:
    def __init__(self, next): self.next = next
chain = None
for _ in range(100_000): chain = Node(chain)
"""
    workspace = make(code)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        archive, manifest = frozen(workspace)
    finally:
        sys.setrecursionlimit(before)
    assert manifest["skipped"] == dict.fromkeys(["deep", "chain"], "it is nested too deeply to be pickled")
    assert value(load(make(), archive), "kept") == 1


def test_an_object_that_leaves_or_says_nothing_when_it_is_pickled_is_named(make: Any) -> None:
    code = """
class Mute(Exception):
    def __str__(self): 1 / 0
class Leaves:
    def __reduce__(self): raise SystemExit(3)
class Fails:
    def __reduce__(self): raise Mute
leaves, fails, kept = Leaves(), Fails(), 1
"""
    _, manifest = frozen(make(code))
    assert manifest["skipped"] == {"leaves": "SystemExit: 3", "fails": "Mute: ?"}


# --- what comes back


def test_loading_merges_and_overwrites(make: Any) -> None:
    taken = make("a = 'new'; b = 'new'")
    (taken.folder / "f").write_text("new")
    archive, _ = frozen(taken)
    workspace = make("a = 'old'; own = 'old'")
    for name in ("f", "own"):
        (workspace.folder / name).write_text("old")
    load(workspace, archive)
    assert value(workspace, "[a, b, own]") == ["new", "new", "old"]
    assert [(workspace.folder / name).read_text() for name in ("f", "own")] == ["new", "old"]


def test_objects_find_the_modules_that_travel_with_them_as_files(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make()
    (workspace.folder / "travelling.py").write_text("class T:\n    x = 5\n")
    monkeypatch.syspath_prepend(workspace.folder)
    assert not execute(workspace, "from travelling import T\nt = T()", [], [])["error"]
    archive, manifest = frozen(workspace, strict=True)  # the folder __pycache__ does not count
    assert manifest["packages"] == {"travelling": ""}
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "travelling")
    other = make()
    with pytest.raises(CodeFailed, match="No module named 'travelling'; travelling is not installed here"):
        load(other, archive)
    monkeypatch.syspath_prepend(other.folder)
    assert value(load(other, archive), "t.x") == 5


def test_an_older_snapshot_without_packages_loads(make: Any) -> None:
    archive, _ = frozen(make("a = 1"))
    objects = {"a": {"type": "int", "repr": "1"}}
    assert value(load(make(), with_manifest(archive, packages=None, objects=objects)), "a") == 1


def test_when_loading_fails_the_versions_that_differ_are_told(make: Any) -> None:
    archive, _ = frozen(make("class Fussy:\n    def __reduce__(self): return (int, ('x',))\nf = Fussy()"))
    then = {"numpy": "1.0.0", "sklearn": sklearn.__version__, "no_such_package": "2", "cloudpickle": ""}
    with pytest.raises(CodeFailed) as failure:
        load(make(), with_manifest(archive, packages=then))
    assert failure.value.message == (
        "The snapshot does not load: ValueError: invalid literal for int() with base 10: 'x'"
        f"; taken with numpy 1.0.0, here {numpy.__version__}; no_such_package is not installed here"
    )


def test_when_loading_works_other_versions_are_not_mentioned(
    make: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as then:
        then.setattr(sklearn.base, "__version__", "0.1")
        archive, manifest = frozen(make("from sklearn.svm import SVC\nmodel = SVC()"))
    assert set(manifest["packages"]) == {"sklearn"}
    assert value(load(make(), with_manifest(archive, packages={"sklearn": "0.1"})), "model.C") == 1
    assert not capsys.readouterr().err


def test_bytes_that_are_no_snapshot_are_refused(make: Any) -> None:
    for archive in (b"", b"garbage", with_manifest(frozen(make())[0], files=None)):
        with pytest.raises(CodeFailed, match="not a snapshot"):
            load(make(), archive)


def test_after_a_failed_load_no_object_has_changed(make: Any) -> None:
    archive, _ = frozen(make("a = 2\nclass Fussy:\n    def __reduce__(self): return (int, ('x',))\nf = Fussy()"))
    workspace = make("a = 1")
    with pytest.raises(CodeFailed):
        load(workspace, archive)
    assert value(workspace, "a") == 1


# --- descriptions


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("x = {n: n for n in range(10)}", "{0: 0, 1: 1, 2: 2, 3: 3, ...}"),
        ("x = {1}", "{1}"),
        ("x = frozenset([2])", "frozenset({2})"),
        ("x = b'a' * 10**7", "b'" + 78 * "a"),
        ("class B(bytes): pass\nx = {'b': B(b'a' * 10**7)}", "{'b': B(b'" + 70 * "a"),
        ("x = b'short'", "b'short'"),
        ("from collections import Counter\nx = Counter(range(5000))", "Counter({0: 1, 1: 1, 2: 1, 3: 1, ...})"),
        ("x = [[[[[[1]]]]]]", "[[[[...]]]]"),
        ("import numpy\nx = numpy.arange(999)", "array([  0,   1,   2, ..., 996, 997, 998])"),
        ("x = set()", "set()"),
        ("x = {frozenset()}", "{frozenset()}"),
        ("x = set(range(9))", "{0, 1, 2, 3, 4, 5, ...}"),
        ("class Many(list): pass\nx = Many(range(10**6))", "Many([0, 1, 2, 3, 4, 5, ...])"),
        ("x = 'a' * 10**7", "'" + 37 * "a" + "..." + 38 * "a" + "'"),
        ("x = []; x.append(x)", "[[[[...]]]]"),
    ],
)
def test_a_repr_is_short_and_quick(make: Any, code: str, shown: str) -> None:
    assert frozen(make(code))[1]["objects"]["x"]["repr"] == shown


def test_describing_many_slow_objects_is_given_up_after_a_second(make: Any) -> None:
    code = """
import time
class Slow:
    def __repr__(self): time.sleep(0.3); return 'slow'
x = [Slow()]
globals().update({f'slow{n}': Slow() for n in range(20)})
"""
    objects = frozen(make(code))[1]["objects"]
    assert 1 <= sum("repr" in described for described in objects.values()) < 10
    assert len(objects) == 23


def test_what_an_object_says_of_itself_is_not_trusted(make: Any) -> None:
    code = """
class Text(str):
    def __getitem__(self, key): 1 / 0
class Number(int):
    def __ge__(self, other): 1 / 0
    def __index__(self): 1 / 0
class Liar:
    nbytes = Number(2 ** 70)
    def __repr__(self): return Text('a lie')
liar = Liar()
"""
    described = frozen(make(code))[1]["objects"]["liar"]
    assert described == {"type": "Liar", "repr": "a lie"}


# --- room


def test_a_large_array_is_neither_copied_when_it_is_frozen_nor_when_it_is_thawed(make: Any) -> None:
    workspace, other = make("import numpy\na = numpy.arange(4_000_000.0)"), make()
    size = 32_000_000
    tracemalloc.start()
    try:
        freeze(workspace, 1)
        _, peak = tracemalloc.get_traced_memory()
        assert peak < size / 4
        other.parcels[1] = workspace.parcels.pop(1)
        tracemalloc.reset_peak()
        thaw(other, 1)
        _, peak = tracemalloc.get_traced_memory()
        assert peak < size * 1.25
    finally:
        tracemalloc.stop()
        drop(other, 1)
    assert value(other, "a.sum()") == value(workspace, "a.sum()")


def test_a_disk_that_is_full_is_told_in_words_and_leaves_nothing_behind(make: Any) -> None:
    workspace = make("text, x = 'x' * 5_000_000, (n for n in [])")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(Unavailable, match="There is no room beside the workspace: File too large"):
            frozen(workspace)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not workspace.parcels
    assert os.listdir(workspace.folder) == []
    assert frozen(workspace)[1]["objects"]["text"]["bytes"] > 5_000_000
