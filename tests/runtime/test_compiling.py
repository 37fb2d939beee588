"""Models compiled, compared and examined, called as workers call it, in this process."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mlhost.realtime import serialize
from mlhost.runtime import parcels, realtime
from mlhost.runtime.compiled import Compiled, Plan
from mlhost.runtime.compiling import Compilation, compile_model
from mlhost.runtime.examining import examine, fault_of
from mlhost.runtime.samples import near_decisions, rows
from mlhost.runtime.workspace import Workspace

skl2onnx = pytest.importorskip("skl2onnx")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

iris = load_iris(as_frame=True)
X, y = iris.data, iris.target
SPECIES = iris.target_names[y]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    return Workspace({"__name__": "__main__"}, tmp_path / "folder", is_alone=False)


def compiled(workspace: Workspace, content: bytes) -> Compilation:
    parcels.put_chunk(workspace, 1, content)
    realtime.open_model(workspace, 1)
    return compile_model(workspace, 2)


def content_of(workspace: Workspace) -> bytes:
    file = parcels.find(workspace, 2)
    file.seek(0)
    return file.read()


def opened(workspace: Workspace, content: bytes) -> Compiled:
    plan = compiled(workspace, content)["plan"]
    assert plan is not None
    bounded = examine(workspace, 2, plan)["plan"]
    assert bounded is not None
    return Compiled(content_of(workspace), bounded)


# --- what is compiled


@pytest.mark.parametrize(
    ("model", "outputs"),
    [
        (SVC(), ["predict", "decision_function"]),
        (LogisticRegression(max_iter=500), ["predict", "predict_proba"]),
        (RandomForestClassifier(9, random_state=0, n_jobs=2), ["predict", "predict_proba"]),
        (make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=5)), ["predict", "predict_proba"]),
        (RandomForestRegressor(5, random_state=0), ["predict"]),
        (make_pipeline(StandardScaler(), PCA(2)), ["transform"]),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, BaseEstimator) else "",
)
def test_a_compiled_model_answers_as_the_estimator_under_the_same_titles(
    workspace: Workspace, model: Any, outputs: list[str]
) -> None:
    target = y if outputs == ["predict"] else SPECIES
    made = opened(workspace, serialize(model.fit(X, target), outputs=outputs))
    frame = {name: column.tolist() for name, column in X.iloc[::7].items()}
    told = workspace.objects["_model"].answer(realtime.decode_frame(frame))
    answer = made.columns(made.predict(made.read(_body(frame))))
    assert list(answer) == list(told)
    for title, column in told.items():
        if column.dtype.kind == "f":
            assert answer[title] == pytest.approx(column.tolist(), rel=1e-4, abs=1e-5)
        else:
            assert answer[title] == column.tolist()


def test_one_decision_between_two_is_one_column_when_compiled(workspace: Workspace) -> None:
    model = SVC().fit(X, y > 1)
    made = opened(workspace, serialize(model, outputs="decision_function"))
    answer = made.columns(made.predict(X.to_numpy()))
    assert list(answer) == ["Decision"]
    assert answer["Decision"] == pytest.approx(model.decision_function(X), abs=1e-4)


class Unknown(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    n_features_in_ = 4
    classes_ = np.array([0, 1])

    def fit(self) -> "Unknown":
        return self

    def predict(self, rows: Any) -> Any:
        return np.zeros(len(rows), int)

    def __sklearn_is_fitted__(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (serialize(Unknown()), "Unknown"),
        (
            serialize(
                make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good stuff", "bad stuff"], ["up", "down"])
            ),
            "no table of numbers",
        ),
        (serialize(SVC().fit(X, y > 0)), "other types in Prediction"),  # true and false become 1 and 0
        (
            serialize(LogisticRegression(max_iter=500).fit(X, y), outputs=["predict_proba", "decision_function"]),
            "either probabilities or decisions",
        ),
    ],
    ids=["unknown", "texts", "booleans", "both"],
)
def test_what_cannot_be_compiled_stays_an_estimator_and_the_reason_is_told(
    workspace: Workspace, content: bytes, words: str
) -> None:
    told = compiled(workspace, content)
    assert (told["plan"], told["size"]) == (None, 0)
    assert words in told["why"]


@pytest.mark.parametrize(
    ("model", "other", "words"),
    [
        (LogisticRegression(max_iter=500).fit(X, y), LogisticRegression(C=0.1, max_iter=500).fit(X, y), "otherwise in"),
        (LinearRegression().fit(X, y), LinearRegression().fit(X, y * 1.001), "of the largest apart (Prediction)"),
    ],
    ids=["labels", "numbers"],
)
def test_a_model_that_answers_otherwise_when_compiled_is_found_out(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, model: Any, other: Any, words: str
) -> None:
    convert = skl2onnx.to_onnx
    monkeypatch.setattr(skl2onnx, "to_onnx", lambda model, sample, options: convert(other, sample, options=options))
    told = compiled(workspace, serialize(model))
    assert told["plan"] is None
    assert words in told["why"]


def test_without_skl2onnx_the_extra_is_named(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    assert "pip install 'mlhost[realtime]'" in compiled(workspace, serialize(SVC().fit(X, y)))["why"]


# --- the rows they are compared on


def test_rows_come_from_the_training_ranges_where_they_are_known() -> None:
    ranges = [(float(low), float(high)) for low, high in zip(X.min(), X.max(), strict=True)]
    table = rows(LogisticRegression(max_iter=500).fit(X, y), 4, ranges)
    width = np.ptp(X.to_numpy(), axis=0)
    assert (table[:256] >= X.min().to_numpy() - 0.1 * width).all()
    assert (table[:256] <= X.max().to_numpy() + 0.1 * width).all()


def test_rows_lie_on_the_thresholds_of_trees_and_between_the_support_vectors_ends() -> None:
    forest = make_pipeline(RandomForestClassifier(5, random_state=0)).fit(X.to_numpy(), y)
    thresholds = {value for tree in forest[0].estimators_ for value in tree.tree_.threshold[tree.tree_.feature == 2]}
    assert set(rows(forest, 4, None)[256:512, 2]) <= thresholds
    support = SVC().fit(X.to_numpy(), y)
    assert np.ptp(rows(support, 4, None)[:256], axis=0) == pytest.approx(
        1.2 * np.ptp(support.support_vectors_, axis=0), rel=0.1
    )


def test_rows_near_a_decision_differ_by_next_to_nothing_and_are_answered_otherwise() -> None:
    near = near_decisions(np.array([[0.0], [1.0], [2.0], [3.0]]), lambda table: table[:, 0] > 1.3)
    assert near is not None
    assert np.abs(near - 1.3).max() < 1e-3
    assert {bool(row > 1.3) for row in near[:, 0]} == {True, False}
    assert near_decisions(np.zeros((3, 1)), lambda table: table[:, 0] > 1.3) is None


# --- what the server runs


def _body(frame: Any) -> bytes:
    import json

    return json.dumps({"inputData": frame}).encode()


def graph(*nodes: Any, initializers: Any = (), domain: str = "") -> Any:
    tensor = onnx.TensorProto.DOUBLE
    made = onnx.helper.make_graph(
        nodes,
        "graph",
        [onnx.helper.make_tensor_value_info("X", tensor, [None, 4])],
        [onnx.helper.make_tensor_value_info("Y", tensor, None)],
        initializers,
    )
    opsets = [onnx.helper.make_opsetid("", 18), *([onnx.helper.make_opsetid(domain, 1)] if domain else [])]
    return onnx.helper.make_model(made, opset_imports=opsets, ir_version=8)


def external() -> Any:
    tensor = onnx.numpy_helper.from_array(np.ones(4), "ones")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


NODE = onnx.helper.make_node
INNER = graph(NODE("Abs", ["X"], ["Y"])).graph


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (graph(NODE("Add", ["X", "ones"], ["Y"]), initializers=[external()]), "files beside it"),
        (graph(NODE("Constant", [], ["ones"], value=external()), NODE("Abs", ["X"], ["Y"])), "files beside it"),
        (graph(NODE("Gelu", ["X"], ["Y"], domain="com.microsoft"), domain="com.microsoft"), "com.microsoft Gelu"),
        (graph(NODE("Abs", ["X"], ["Y"], domain="mine"), domain="mine"), "mine Abs"),
        (graph(NODE("Loop", ["X"], ["Y"], body=INNER)), "ai.onnx Loop"),
        (graph(NODE("ConstantOfShape", ["X"], ["Y"])), "ConstantOfShape"),
        (graph(NODE("Abs", ["X"], ["Y"], body=INNER)), "graphs inside of graphs"),
        (graph(NODE("Abs", ["X"], ["Y"])), ""),
    ],
)
def test_an_onnx_file_that_could_do_more_than_compute_is_not_run_in_the_server(model: Any, words: str) -> None:
    fault = fault_of(model.SerializeToString())
    assert words in fault
    assert bool(fault) == bool(words)


def test_a_scan_that_conversion_makes_is_named(workspace: Workspace) -> None:
    plan = compiled(workspace, serialize(KNeighborsClassifier().fit(X, y)))["plan"]
    assert plan is not None
    told = examine(workspace, 2, plan)
    assert told["plan"] is None
    assert "Scan" in told["why"]


def test_a_model_that_takes_long_is_given_few_rows_or_none(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = compiled(workspace, serialize(SVC().fit(X, y)))["plan"]
    assert plan is not None
    for seconds_a_row, rows_taken, is_joined in ((1e-6, 256, False), (20e-6, 16, False), (2e-3, None, None)):
        monkeypatch.setattr("mlhost.runtime.examining._seconds", lambda _, table, each=seconds_a_row: each * len(table))
        bounded = examine(workspace, 2, plan)["plan"]
        assert (bounded and bounded["rows"], bounded and bounded["is_joined"]) == (rows_taken, is_joined)
    monkeypatch.setattr("mlhost.runtime.examining._seconds", lambda _, table: 200e-6)
    bounded = examine(workspace, 2, plan)["plan"]
    assert bounded is not None
    assert bounded["is_joined"]


def test_bytes_that_are_no_model_are_not_run(workspace: Workspace) -> None:
    plan = compiled(workspace, serialize(SVC().fit(X, y)))["plan"]
    assert plan is not None
    parcels.drop(workspace, 2)
    parcels.put_chunk(workspace, 2, b"\x08\x09 no model")
    assert examine(workspace, 2, plan)["why"].startswith("it cannot be run: ")


def test_more_features_than_a_call_can_carry_or_other_columns_are_not_run(workspace: Workspace) -> None:
    plan = compiled(workspace, serialize(SVC().fit(X, y)))["plan"]
    assert plan is not None
    for changed, words in (({"count": 1001}, "more than 1000 features"), ({"columns": ["a"]}, "another number of col")):
        told = examine(workspace, 2, plan | changed)  # type: ignore[typeddict-item]
        assert (told["plan"], words in told["why"]) == (None, True)
    assert "cannot be run" in examine(workspace, 2, plan | {"element": "float16"})["why"]  # type: ignore[typeddict-item]


PLAN = Plan(input="X", element="float32", columns=["a", "b c"], count=2, parts=[], rows=2, is_joined=False)


@pytest.mark.parametrize(
    ("body", "rows_read"),
    [
        (b'{"inputData":{"a":[1,2.5],"b c":[3,4]}}', [[1, 3], [2.5, 4]]),
        (b'{"inputData":{"more":["x"],"b c":3,"a":[1]},"other":null}', [[1, 3]]),
        (b'{"inputData":[{"a":1,"b c":2,"d":"x"},{"a":3,"b c":4}]}', [[1, 2], [3, 4]]),
        (b'{"inputData":{"a":[1,2,3],"b c":[3,4,5]}}', None),
        (b'{"inputData":{"a":[1,2],"b c":[3]}}', None),
        (b'{"inputData":{"a":[1]}}', None),
        (b'{"inputData":{"a":[],"b c":[]}}', None),
        (b'{"inputData":{"a":[null],"b c":[1]}}', None),
        (b'{"inputData":{"a":["1"],"b c":[1]}}', None),
        (b'{"inputData":{"a":[true],"b c":[1]}}', None),
        (b'{"inputData":{"a":[NaN],"b c":[1]}}', None),
        (b'{"inputData":{"a":[1e39],"b c":[1]}}', None),
        (b'{"inputData":null}', None),
        (b'{"inputData":[]}', None),
        (b"{}", None),
        (b"", None),
        (b"\xff", None),
        (b'{"inputData":{"a":[1],"b c":[3],"more":"' + b"x" * (1 << 16) + b'"}}', None),
    ],
)
def test_a_compiled_model_takes_what_is_plain_and_leaves_the_rest_to_a_worker(
    monkeypatch: pytest.MonkeyPatch, body: bytes, rows_read: Any
) -> None:
    monkeypatch.setattr("mlhost.runtime.compiled.open_session", lambda content: None)
    table = Compiled(b"", PLAN).read(body)
    assert (table if table is None else table.tolist()) == rows_read


def test_columns_without_names_are_taken_in_their_order_if_there_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlhost.runtime.compiled.open_session", lambda content: None)
    model = Compiled(b"", PLAN | Plan(columns=None))  # type: ignore[typeddict-item]
    table = model.read(b'{"inputData":{"z":[1],"y":[2]}}')
    assert table is not None
    assert table.tolist() == [[1, 2]]
    assert model.read(b'{"inputData":{"z":[1],"y":[2],"x":[3]}}') is None
