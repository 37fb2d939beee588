"""What every server of the comparison is to do: four functions of `flower_data`, the same for all of them."""

from __future__ import annotations

from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

_IRIS = load_iris()
NAMES = [str(name) for name in _IRIS.target_names]
SVC_MODEL = SVC().fit(_IRIS.data, _IRIS.target)
FOREST = RandomForestClassifier(100, random_state=0).fit(_IRIS.data, _IRIS.target)
REGRESSION = LogisticRegression(max_iter=1000).fit(_IRIS.data, _IRIS.target)

ROW = [7.0, 3.2, 4.7, 1.4]
BODIES = {"noop": ROW, "svc": ROW, "forest": ROW, "rows": _IRIS.data[:100].tolist()}


def noop(flower_data: list[float]) -> list[float]:
    return flower_data


def svc(flower_data: list[float]) -> list[str]:
    return [NAMES[index] for index in SVC_MODEL.predict([flower_data])]


def forest(flower_data: list[float]) -> list[str]:
    return [NAMES[index] for index in FOREST.predict([flower_data])]


def rows(flower_data: list[list[float]]) -> list[str]:
    return [NAMES[index] for index in REGRESSION.predict(flower_data)]


FUNCTIONS = {"noop": noop, "svc": svc, "forest": forest, "rows": rows}


def envelope(species: list) -> dict:
    """The answer that all of them give."""
    return {
        "success": True,
        "errorMessage": "",
        "changedFiles": [],
        "outputFiles": {},
        "outputParameters": {"iris_species": species},
        "consoleOutput": "",
    }
