"""One sample as a vector, in workers whose template installed the hook; scikit-learn is this environment's own."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mlhost.executors.forking import ProcessSettings
from mlhost.executors.inline import InlineExecutor
from mlhost.executors.process import ProcessExecutor
from tests.parts import COVERAGE, Cell, open_cell

SAMPLE = "[7, 3.2, 4.7, 1.4]"
WARNING = "DeprecationWarning: Passing 1d arrays as data is deprecated in 0.17"
# Each on the iris data; what follows the colon are the methods that take samples.
ESTIMATORS = {
    "svm.SVC": ("SVC()", "predict decision_function"),
    "linear_model.LogisticRegression": ("LogisticRegression(max_iter=500)", "predict predict_proba predict_log_proba"),
    "linear_model.LinearRegression": ("LinearRegression()", "predict"),
    "neighbors.KNeighborsClassifier": ("KNeighborsClassifier()", "predict predict_proba kneighbors"),
    "neighbors.KNeighborsRegressor": ("KNeighborsRegressor()", "predict"),
    "ensemble.RandomForestClassifier": ("RandomForestClassifier(9, random_state=0)", "predict predict_proba apply"),
    "ensemble.GradientBoostingClassifier": ("GradientBoostingClassifier(n_estimators=9)", "predict predict_proba"),
    "ensemble.IsolationForest": ("IsolationForest(n_estimators=9, random_state=0)", "predict score_samples"),
    "preprocessing.StandardScaler": ("StandardScaler()", "transform"),
    "cluster.KMeans": ("KMeans(3, n_init=1, random_state=0)", "predict transform"),
    "decomposition.PCA": ("PCA(2)", "transform score_samples"),
}
MODULES = ["", "from sklearn.datasets import load_iris", "import numpy as np, pandas as pd, warnings"]
PIPELINE = """
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.neighbors import KNeighborsClassifier
from sklearn.model_selection import GridSearchCV
"""


async def value(cell: Cell, code: str, expression: str) -> Any:
    outcome = await cell.run("\n".join([*MODULES, code, f"_value = {expression}"]), "_value")
    assert not outcome["error"], outcome["error"]
    return json.loads(outcome["outputs"][0]["value"])


async def error(cell: Cell, code: str) -> str:
    return str((await cell.run("\n".join([*MODULES, code])))["error"])


def fitted(path: str, call: str) -> str:
    module, name = path.rsplit(".", 1)
    return f"from sklearn.{module} import {name}\nX, y = load_iris(return_X_y=True)\nmodel = {call}.fit(X, y)"


# --- what is one sample


@pytest.mark.parametrize("path", ESTIMATORS)
async def test_a_vector_of_one_sample_is_answered_as_its_row_is(cell: Cell, path: str) -> None:
    call, methods = ESTIMATORS[path]
    code = fitted(path, call) + (
        "\nnp.random.seed(1)"
        f"\nsample = {SAMPLE}"
        "\nforms = [sample, tuple(sample), np.array(sample), np.array(sample, 'O')]"
        "\nforms += [pd.Series(sample), pd.Series(sample, dtype='O')]"
        "\ndef same(a, b): return all(map(same, a, b)) if isinstance(a, tuple) else np.allclose(a, b)"
    )
    same = "[bool(same(getattr(model, m)(x), getattr(model, m)([sample]))) for m in methods for x in forms]"
    same_forms = await value(cell, f"{code}\nmethods = {methods.split()}", same)
    assert same_forms == [True] * len(same_forms)
    assert len(same_forms) == 6 * len(methods.split())


@pytest.mark.parametrize(
    "call",
    [
        "make_pipeline(StandardScaler(), KNeighborsClassifier())",
        "GridSearchCV(KNeighborsClassifier(), {'n_neighbors': [3, 5]}, cv=2)",
        "GridSearchCV(make_pipeline(StandardScaler(), KNeighborsClassifier()),"
        " {'kneighborsclassifier__n_neighbors': [3]}, cv=2)",
    ],
)
async def test_methods_that_a_metaestimator_delegates_take_one_too(cell: Cell, call: str) -> None:
    code = f"{PIPELINE}\nX, y = load_iris(return_X_y=True)\nmodel = {call}.fit(X, y)\nsample = {SAMPLE}"
    labels = await value(cell, code, "[model.predict(sample).tolist(), model.predict_proba(sample).shape]")
    assert labels == [[1], [1, 3]]


async def test_a_series_keeps_the_names_of_its_features(cell: Cell) -> None:
    code = "from sklearn.svm import SVC\niris = load_iris(as_frame=True)\nmodel = SVC().fit(iris.data, iris.target)"
    assert await value(cell, code, "model.predict(iris.data.iloc[60]).tolist()") == [1]
    wrong = await error(cell, "model.predict(iris.data.iloc[60][::-1])")
    assert wrong.startswith("ValueError: The feature names should match")


async def test_set_output_names_the_columns_of_the_row(cell: Cell) -> None:
    code = fitted("preprocessing.StandardScaler", "StandardScaler().set_output(transform='pandas')")
    assert await value(cell, code, f"[*model.transform({SAMPLE}).shape]") == [1, 4]


async def test_the_deprecation_warning_of_old_is_on_the_console(cell: Cell) -> None:
    await value(cell, fitted("svm.SVC", "SVC()"), f"model.predict({SAMPLE}).tolist()")
    assert cell.worker.console.text.count(WARNING) == 1
    assert "runtime.accept_1d_samples" in cell.worker.console.text


# --- whose methods


async def test_clones_copies_and_pickled_estimators_take_one(cell: Cell) -> None:
    code = fitted("svm.SVC", "SVC()") + "\nimport pickle, copy\nfrom sklearn.base import clone"
    models = "[pickle.loads(pickle.dumps(model)), copy.deepcopy(model), clone(model).fit(X, y)]"
    assert await value(cell, code, f"[m.predict({SAMPLE}).tolist() for m in {models}]") == [[1]] * 3
    assert await value(cell, "predict = pickle.loads(pickle.dumps(SVC.predict))", f"predict(model, {SAMPLE})") == [1]


async def test_a_users_subclass_takes_one_through_what_it_inherits(cell: Cell) -> None:
    code = """
from sklearn.svm import SVC
class Plain(SVC): pass
class Own(SVC):
    def predict(self, X):
        self.seen = X
        return super().predict(X)
X, y = load_iris(return_X_y=True)
models = [Plain().fit(X, y), Own().fit(X, y)]
"""
    assert await value(cell, code, f"[m.predict({SAMPLE}).tolist() for m in models]") == [[1], [1]]
    assert await value(cell, "", "models[1].seen") == [7, 3.2, 4.7, 1.4]


async def test_classes_that_are_imported_later_take_one(cell: Cell) -> None:
    loaded = await value(cell, "import sys", "'sklearn.gaussian_process' in sys.modules")
    assert not loaded
    code = fitted("gaussian_process.GaussianProcessClassifier", "GaussianProcessClassifier()")
    assert await value(cell, code, f"model.predict({SAMPLE}).tolist()") == [1]


async def test_an_estimator_of_another_package_is_left_alone(cell: Cell) -> None:
    code = """
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_array
class Foreign(ClassifierMixin, BaseEstimator):
    n_features_in_ = 4
    def predict(self, X): return check_array(X)[:, 0]
"""
    assert "Expected 2D array" in await error(cell, f"{code}\nForeign().predict({SAMPLE})")


async def test_signatures_documentation_and_availability_are_scikit_learns_own(cell: Cell) -> None:
    code = "from sklearn.svm import SVC\nimport inspect"
    told = "[str(inspect.signature(SVC.predict)), SVC.predict.__doc__.split()[0], hasattr(SVC(probability=False),"
    assert await value(cell, code, f"{told} 'predict_proba'), SVC.predict.__qualname__]") == [
        "(self, X)",
        "Perform",
        False,
        "BaseSVC.predict",
    ]


# --- what is not one sample


@pytest.mark.parametrize(
    ("code", "expression", "expected"),
    [
        (
            "from sklearn.preprocessing import LabelEncoder\nmodel = LabelEncoder().fit([3, 1, 2, 3])",
            "model.transform([1, 2, 3, 1]).tolist()",
            [0, 1, 2, 0],
        ),
        (
            "from sklearn.feature_extraction.text import CountVectorizer\n"
            "model = CountVectorizer().fit(['a word', 'b'])",
            "model.transform(['word', 'word word', '', 'x']).toarray().tolist()",
            [[1], [2], [0], [0]],
        ),
        (
            "from sklearn.isotonic import IsotonicRegression\nmodel = IsotonicRegression().fit([1, 2, 3], [1, 2, 3])",
            "model.predict([1, 3]).tolist()",
            [1, 3],
        ),
        (
            "from sklearn.preprocessing import FunctionTransformer\n"
            "model = FunctionTransformer(np.negative).fit(np.ones((3, 4)))",
            "model.transform(np.arange(4)).tolist()",
            [0, -1, -2, -3],
        ),
    ],
)
async def test_an_input_that_is_rightly_a_vector_is_not_touched(
    cell: Cell, code: str, expression: str, expected: Any
) -> None:
    assert await value(cell, code, expression) == expected
    assert WARNING not in cell.worker.console.text


@pytest.mark.parametrize(
    "call",
    [
        "model.predict([1, 2, 3])",  # too few
        "model.predict([1, 2, 3, 4, 5])",
        "model.predict(['1', '2', '3', '4'])",
        "model.predict([1, 2, None, 4])",
        "model.predict(5)",
        "model.predict(range(4))",
        "SVC().fit([1, 2, 3, 4], [0, 1, 0, 1])",
        "model.fit([1, 2, 3, 4], [0, 1, 0, 1])",
        "SVC().fit([[1], [2]], [0, 1]).predict([1])",
        "SVC().predict([1, 2, 3, 4])",
        "model.score([1, 2, 3, 4], [1])",
    ],
)
async def test_what_is_not_one_sample_is_refused_as_before(cell: Cell, call: str) -> None:
    told = await error(cell, f"{fitted('svm.SVC', 'SVC()')}\n{call}")
    if call == "model.score([1, 2, 3, 4], [1])":  # which predicts, and then compares one with one
        assert told == ""
    else:
        assert told.startswith(("ValueError: ", "sklearn.exceptions.NotFittedError: "))
        assert WARNING not in cell.worker.console.text


async def test_rows_and_what_scikit_learn_calls_inside_are_as_ever(cell: Cell) -> None:
    code = fitted("neighbors.KNeighborsClassifier", "KNeighborsClassifier()")
    assert await value(cell, code, "float(model.score(X, y)) > 0.9")
    assert await value(cell, "", "[len(model.predict(X.tolist())), len(model.kneighbors()[0])]") == [150, 150]
    assert await value(cell, "", f"model.predict(X=np.array({SAMPLE})).tolist()") == [1]


async def test_a_refusal_leaves_no_trace_for_the_next_call(cell: Cell) -> None:
    code = fitted("neighbors.KNeighborsClassifier", "KNeighborsClassifier()")
    assert "Expected 2D array" in await error(cell, f"{code}\nmodel.predict([1, 2, 3])")
    assert await value(cell, "", f"model.predict({SAMPLE}).tolist()") == [1]


# --- where


@pytest.fixture
async def without(tmp_path: Path) -> AsyncIterator[Cell]:
    """A worker of a server whose administrator switched it off."""
    executor = ProcessExecutor(tmp_path, ProcessSettings(environment=COVERAGE))
    yield await open_cell(executor)
    await executor.close()


async def test_it_can_be_switched_off(without: Cell) -> None:
    assert "Expected 2D array" in await error(without, f"{fitted('svm.SVC', 'SVC()')}\nmodel.predict({SAMPLE})")
    assert await value(without, "import sys", "len([f for f in sys.meta_path if 'onesample' in repr(f)])") == 0


@pytest.mark.untraced
async def test_workspaces_in_the_servers_own_interpreter_take_one_too(tmp_path: Path) -> None:
    executor = InlineExecutor(tmp_path, accept_1d_samples=True)
    cell = await open_cell(executor)
    with pytest.warns(DeprecationWarning, match="Passing 1d arrays"):  # it would be on the console but for pytest
        assert await value(cell, fitted("svm.SVC", "SVC()"), f"model.predict({SAMPLE}).tolist()") == [1]
    await executor.close()


async def test_a_template_that_does_not_preload_scikit_learn_hooks_it_when_it_is_imported(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path, ProcessSettings(environment=COVERAGE, accept_1d_samples=True))
    cell = await open_cell(executor)
    assert not await value(cell, "import sys\nloaded = 'sklearn.svm' in sys.modules", "loaded")
    assert await value(cell, fitted("svm.SVC", "SVC()"), f"model.predict({SAMPLE}).tolist()") == [1]
    await executor.close()
