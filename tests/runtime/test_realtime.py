"""Models opened and asked, called as a worker calls it, in this process."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from mlhost.errors import CodeFailed, Invalid
from mlhost.realtime import serialize
from mlhost.runtime import parcels, realtime
from mlhost.runtime.program import ProgramSpec, prepare, score
from mlhost.runtime.workspace import Workspace
from tests.parts import answered

iris = load_iris(as_frame=True)
X, y = iris.data, iris.target
ROW = {name: [value] for name, value in X.iloc[60].items()}
PETS = pd.DataFrame({"kind": ["cat", "dog", "cat", "dog"], "age": [1, 2, 3, 4]})
PETS_MODEL = make_pipeline(
    make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough"), LogisticRegression()
).fit(PETS, ["no", "yes", "no", "yes"])


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    return Workspace({"__name__": "__main__"}, tmp_path / "folder")


def opened(workspace: Workspace, content: bytes) -> None:
    parcels.put_chunk(workspace, 1, content)
    realtime.open_model(workspace, 1)
    frame = [("inputData", "data.frame")], [("outputData", "data.frame")]
    prepare(workspace, ProgramSpec(code=realtime.CODE, init_code="", inputs=frame[0], outputs=frame[1], files=[]))


def asked(workspace: Workspace, data: Any) -> Any:
    answer = answered(score(workspace, json.dumps({"inputData": data}).encode()))
    return answer["outputParameters"]["outputData"] if answer["success"] else answer["errorMessage"]


def ask(workspace: Workspace, content: bytes, data: Any) -> Any:
    opened(workspace, content)
    return asked(workspace, data)


# --- what is answered


@pytest.mark.parametrize(
    "model",
    [
        SVC(),
        RandomForestClassifier(9, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression()),
        GridSearchCV(SVC(), {"C": [1, 2]}, cv=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_classifier_fitted_with_names_takes_its_columns_and_ignores_others(workspace: Workspace, model: Any) -> None:
    data = {"species": ["?"], **dict(reversed(ROW.items()))}
    assert ask(workspace, serialize(model.fit(X, y)), data) == {"Prediction": [1]}


def test_probabilities_and_decisions_come_a_column_a_class(workspace: Workspace) -> None:
    model = LogisticRegression(max_iter=500).fit(X, iris.target_names[y])
    content = serialize(model, outputs=["predict", "predict_proba", "decision_function"])
    answer = ask(workspace, content, X.head(3).to_dict(orient="list"))
    assert list(answer)[:3] == ["Prediction", "Probability.setosa", "Probability.versicolor"]
    assert list(answer)[4] == "Decision.setosa"
    assert answer["Prediction"] == ["setosa"] * 3
    assert answer["Probability.setosa"] == pytest.approx(model.predict_proba(X.head(3))[:, 0])


def test_a_decision_between_two_is_one_column(workspace: Workspace) -> None:
    answer = ask(workspace, serialize(IsolationForest(n_estimators=5).fit(X), outputs="decision_function"), ROW)
    assert list(answer) == ["Decision"]


def test_features_of_a_transformer_have_its_own_names(workspace: Workspace) -> None:
    answer = ask(workspace, serialize(make_pipeline(StandardScaler(), PCA(2)).fit(X)), ROW)
    assert list(answer) == ["Transformed.pca0", "Transformed.pca1"]


def test_several_targets_have_numbers(workspace: Workspace) -> None:
    both = np.c_[y, y > 0].astype(int)
    assert list(ask(workspace, serialize(LinearRegression().fit(X, both)), ROW)) == ["Prediction.0", "Prediction.1"]
    content = serialize(RandomForestClassifier(5).fit(X, both), outputs=["predict_proba"])
    parcels.drop(workspace, 1)
    assert list(ask(workspace, content, ROW))[2:] == ["Probability.0.2", "Probability.1.0", "Probability.1.1"]


def test_columns_of_a_model_without_names_go_by_what_serialize_was_told_or_by_order(workspace: Workspace) -> None:
    model = LinearRegression().fit([[1, 0], [0, 1], [1, 1]], [1, 10, 11])
    data = {"b": [1], "a": [0], "c": [9]}
    assert ask(workspace, serialize(model, columns=["a", "b"]), data)["Prediction"] == pytest.approx([10])
    parcels.drop(workspace, 1)
    opened(workspace, serialize(model))
    assert asked(workspace, {"b": [1], "a": [0]})["Prediction"] == pytest.approx([1])
    assert "has 3 columns, and the model takes 2" in asked(workspace, data)


def test_callers_may_know_the_columns_by_other_names_than_the_model(workspace: Workspace) -> None:
    content = serialize(SVC().fit(X, y), columns=["a", "b", "c", "d"])
    data = dict(zip("abcd", ROW.values(), strict=True))
    assert ask(workspace, content, data) == {"Prediction": [1]}


def test_a_model_of_texts_takes_the_one_column(workspace: Workspace) -> None:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good stuff", "bad stuff"], ["up", "down"])
    assert ask(workspace, serialize(model), {"review": ["so good", "bad", "good"]}) == {
        "Prediction": ["up", "down", "up"]
    }


def test_what_a_model_cannot_take_is_an_answer_that_says_so(workspace: Workspace) -> None:
    opened(workspace, serialize(SVC().fit(X, y)))
    assert asked(workspace, {name: [1.0] for name in list(ROW)[1:]}) == (
        "ValueError: inputData has no column 'sepal length (cm)'"
    )
    assert asked(workspace, None) == "ValueError: inputData is null"
    assert "could not convert string to float" in asked(workspace, {name: ["x"] for name in ROW})
    assert asked(workspace, ROW) == {"Prediction": [1]}


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_checks_that_plain_rows_are_spared_are_made_where_they_would_find_something(workspace: Workspace) -> None:
    opened(workspace, serialize(SVC().fit(X, y)))
    last = list(ROW)[-1]
    assert "contains NaN" in asked(workspace, ROW | {last: [None]})
    assert "contains NaN" in asked(workspace, ROW | {last: [float("nan")]})
    parcels.drop(workspace, 1)
    opened(workspace, serialize(RandomForestClassifier(3).fit(X, y)))
    assert "too large for dtype('float32')" in asked(workspace, ROW | {last: [1e300]})
    assert asked(workspace, ROW) == {"Prediction": [1]}


def test_an_opened_estimator_starts_no_threads(workspace: Workspace) -> None:
    opened(workspace, serialize(make_pipeline(StandardScaler(), RandomForestClassifier(3, n_jobs=2)).fit(X, y)))
    assert workspace.objects["_model"].fitted[-1].n_jobs == 1


# --- what is refused when it is opened


def test_categories_need_an_example(workspace: Workspace) -> None:
    with pytest.raises(CodeFailed, match=r"does not predict: .*serialize\(model, columns=frame.head\(1\)\)"):
        opened(workspace, serialize(PETS_MODEL))
    parcels.drop(workspace, 1)
    opened(workspace, serialize(PETS_MODEL, columns=PETS))
    assert asked(workspace, {"age": [1, 4], "kind": ["cat", "dog"]}) == {"Prediction": ["no", "yes"]}


class Odd(BaseEstimator):  # type: ignore[misc]
    def __init__(self, what: str = "") -> None:
        self.what = what

    def fit(self) -> "Odd":
        self.fitted_ = True
        return self

    def predict(self, rows: Any) -> Any:
        if self.what == "raises":
            raise RuntimeError("always")
        return np.zeros((len(rows), 2, 2)) if self.what == "deep" else [object() for _ in rows]


@pytest.mark.parametrize(
    ("what", "words"), [("raises", "RuntimeError: always"), ("deep", "3 dimensions"), ("objects", "cannot be written")]
)
def test_a_model_that_never_predicts_is_refused_with_the_reason(workspace: Workspace, what: str, words: str) -> None:
    with pytest.raises(CodeFailed, match=f"does not predict: .*{words}"):
        opened(workspace, serialize(Odd(what).fit()))


def test_bytes_that_are_no_model_are_refused_naming_the_helper(workspace: Workspace) -> None:
    with pytest.raises(Invalid, match=r"mlhost\.realtime\.serialize"):
        opened(workspace, b"blob of revoscalepy")


def test_a_pickle_that_is_damaged_or_of_another_version_is_refused_in_words(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = serialize(SVC().fit(X, y))
    with pytest.raises(CodeFailed, match="The model does not load: "):
        opened(workspace, content[:-100])
    parcels.drop(workspace, 1)
    other = content.replace(b'"sklearn": "', b'"sklearn": "0', 1)
    length = int.from_bytes(other[11:15], "big") + 1
    with pytest.raises(CodeFailed, match="taken with sklearn 0"):
        opened(workspace, (other[:11] + length.to_bytes(4, "big") + other[15:])[:-100])
    parcels.drop(workspace, 1)
    monkeypatch.setattr("mlhost.runtime.realtime.platform.python_version", lambda: "3.99.0")
    with pytest.raises(CodeFailed, match=r"under Python 3\..*workers run 3\.99\.0"):
        opened(workspace, content)


# --- ONNX


def test_without_onnxruntime_an_onnx_model_is_refused_naming_the_extra(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CodeFailed, match=r"pip install 'mlhost\[realtime\]'"):
        opened(workspace, serialize(b"\x08\x09"))


def test_what_is_not_onnx_after_all_is_refused(workspace: Workspace) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(CodeFailed, match="does not load: "):
        opened(workspace, serialize(b"\x08\x09 no model"))


@pytest.mark.parametrize("zipmap", [True, False])
def test_an_onnx_classifier_answers_with_its_own_outputs(workspace: Workspace, zipmap: bool) -> None:
    pytest.importorskip("onnxruntime")
    skl2onnx = pytest.importorskip("skl2onnx")
    table = X.to_numpy("float32")
    model = LogisticRegression(max_iter=500).fit(table, y)
    onnx = skl2onnx.to_onnx(model, table[:1], options={"zipmap": zipmap})
    answer = ask(workspace, serialize(onnx, columns=X), {**ROW, "more": [0]})
    label, *probabilities = answer
    assert answer[label] == [1]
    assert [answer[name][0] for name in probabilities] == pytest.approx(model.predict_proba(table[60:61])[0], rel=1e-3)
    assert probabilities[0].endswith(".0")
    parcels.drop(workspace, 1)
    assert ask(workspace, serialize(onnx, outputs=[label]), ROW) == {label: [1]}


def test_an_onnx_model_may_have_an_input_a_column(workspace: Workspace) -> None:
    pytest.importorskip("onnxruntime")
    skl2onnx = pytest.importorskip("skl2onnx")
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    types = [("kind", StringTensorType([None, 1])), ("age", FloatTensorType([None, 1]))]
    content = serialize(skl2onnx.to_onnx(PETS_MODEL, initial_types=types), columns=PETS, outputs=["output_label"])
    assert ask(workspace, content, {"more": [0, 0], "age": [1, 4], "kind": ["cat", "dog"]}) == {
        "output_label": ["no", "yes"]
    }
