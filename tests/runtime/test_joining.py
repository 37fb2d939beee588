"""Calls of an estimator answered of one run: each as if it were alone, or not at all."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from mlhost.realtime import serialize
from mlhost.runtime import parcels, realtime
from mlhost.runtime.joining import answer_together, pays_together
from mlhost.runtime.program import ProgramSpec, prepare, score
from mlhost.runtime.workspace import Workspace

X, y = load_iris(return_X_y=True, as_frame=True)
ROW = X.iloc[[60]].to_dict(orient="list")
FIRST = next(iter(ROW))
SPEC = ProgramSpec(
    code=realtime.CODE,
    init_code="",
    inputs=[(realtime.INPUT, realtime.FRAME)],
    outputs=[(realtime.OUTPUT, realtime.FRAME)],
    files=[],
)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    return Workspace({"__name__": "__main__"}, tmp_path / "folder", is_alone=False)


class Slow(BaseEstimator):  # type: ignore[misc]
    """Takes as long for many rows as for one."""

    def fit(self, rows: Any) -> "Slow":
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, rows: Any) -> Any:
        time.sleep(0.01)
        return np.asarray(rows).sum(axis=1)


class Leaning(Slow):
    def predict(self, rows: Any) -> Any:
        return super().predict(rows) - np.asarray(rows).mean()


class Chance(Slow):
    def predict(self, rows: Any) -> Any:
        return super().predict(rows) + np.random.default_rng().random()


class OneRowOnly(Slow):
    def predict(self, rows: Any) -> Any:
        if len(rows) > 1:
            raise ValueError("one at a time")
        return super().predict(rows)


class EachInTurn(Slow):
    def predict(self, rows: Any) -> Any:
        return np.concatenate([super(EachInTurn, self).predict(np.asarray(rows)[[n]]) for n in range(len(rows))])


class Moody(Slow):
    def predict(self, rows: Any) -> Any:
        if (np.asarray(rows) == 13).any():
            raise RuntimeError("unlucky")
        if (np.asarray(rows) == 7).any():
            Path("seven").touch()
        return super().predict(rows)


def opened(workspace: Workspace, model: Any) -> None:
    parcels.put_chunk(workspace, 1, serialize(model, columns=X))
    realtime.open_model(workspace, 1)
    prepare(workspace, SPEC)


def body(rows: Any) -> bytes:
    return json.dumps({"inputData": rows}).encode()


@pytest.mark.parametrize("kind", [Leaning, Chance, OneRowOnly, EachInTurn])
def test_a_model_whose_rows_depend_on_each_other_or_take_their_time_each_does_not_join(
    workspace: Workspace, kind: type[Slow]
) -> None:
    opened(workspace, kind().fit(X))
    assert not pays_together(workspace)


@pytest.mark.parametrize("model", [Slow().fit(X), RandomForestClassifier(50, random_state=0).fit(X, y)])
def test_a_model_that_takes_as_long_for_many_rows_joins(workspace: Workspace, model: Any) -> None:
    opened(workspace, model)
    assert pays_together(workspace)


def test_what_is_answered_together_is_what_each_call_is_answered_alone(workspace: Workspace) -> None:
    opened(workspace, RandomForestClassifier(20, random_state=0).fit(X, y))
    bodies = [body(X.iloc[n : n + 1 + n % 3].to_dict(orient="list")) for n in range(0, 150, 10)]
    bodies.append(body(X.iloc[[1, 100]].to_dict(orient="records")))
    assert answer_together(workspace, bodies) == [score(workspace, each) for each in bodies]


def test_a_call_that_is_unlike_the_others_is_left_to_be_asked_alone(workspace: Workspace) -> None:
    opened(workspace, Slow().fit(X))
    others = [
        b"{",
        body(None),
        body("text"),
        body(ROW | {FIRST: [5]}),  # a whole number makes another column
        body(ROW | {FIRST: [None]}),
        body(ROW | {"more": [1.0]}),
        body({name: ROW[name] for name in ROW if name != FIRST}),
    ]
    first, *odd, last = answer_together(workspace, [body(ROW), *others, body(ROW)])
    assert first == last == score(workspace, body(ROW))
    assert odd[:-1] == [None] * (len(others) - 1)


def test_where_one_fails_or_leaves_a_file_all_are_asked_alone(workspace: Workspace) -> None:
    opened(workspace, Moody().fit(X))
    for odd in (13.0, 7.0):
        assert answer_together(workspace, [body(ROW), body(ROW | {FIRST: [odd]})]) == [None, None]
        assert not list(workspace.folder.iterdir())
    assert answer_together(workspace, [body(ROW)]) == [score(workspace, body(ROW))]
