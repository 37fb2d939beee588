"""Parameters and programs in subinterpreters of CPython 3.14, where msgspec cannot be loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

SCORE = """
import sys
sys.path[:] = {path!r}
import mlhost.params.types
from mlhost.params import jsontext
from mlhost.runtime import program
from mlhost.runtime.workspace import Workspace
from pathlib import Path

inputs = [("x", "numeric"), ("v", "vector")]
spec = program.ProgramSpec(code="y = x * factor + sum(v)", init_code="factor = {factor}", inputs=inputs,
                           outputs=[("y", "numeric")], files=[])
workspace = Workspace({{"__builtins__": __builtins__}}, Path({folder!r}))
program.prepare(workspace, spec)
answer = jsontext.parse(program.score(workspace, b'{{"x": 2, "v": [1, 2]}}'))
used = jsontext._write.__module__
assert answer["outputParameters"] == {{"y": 2 * {factor} + 3}}, answer
assert used == "mlhost.params.plainjson", used
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="concurrent.interpreters came with CPython 3.14")
def test_two_subinterpreters_each_load_the_runtime_and_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # so that the folder that a call leaves behind as the current one is changed back
    from concurrent import interpreters  # type: ignore[attr-defined,unused-ignore]

    opened: list[Any] = [interpreters.create(), interpreters.create()]
    try:
        for factor, interpreter in enumerate(opened, start=5):
            interpreter.exec(SCORE.format(path=sys.path, folder=str(tmp_path), factor=factor))
    finally:
        for interpreter in opened:
            interpreter.close()
