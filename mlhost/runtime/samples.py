"""Rows to compare two models on, drawn from the ranges the model was trained in or from what it remembers of them.

The training data itself is not there. `serialize` notes the ranges of a frame it is given; otherwise the numbers that a
fitted estimator keeps for each feature tell where it decides: thresholds, support vectors, means, coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Table = np.ndarray[Any, Any]

SEED = 0  # the same model is compared on the same rows each time
DRAWN = 256  # rows from the ranges, and as many whose values are ones the model remembers
BEYOND = 0.1  # of a range's width that rows go past its ends
REMEMBERED = 200  # values of a feature that are kept
PAIRS = 64  # of rows with different answers, between which rows near the decision are looked for
HALVINGS = 12  # of the way between them
DEPTH = 6  # of estimators within estimators
# What fitted estimators keep a value of for every feature.
KEPT = (
    "support_vectors_",
    "_fit_X",
    "mean_",
    "var_",
    "theta_",
    "means_",
    "center_",
    "cluster_centers_",
    "centroids_",
    "data_min_",
    "data_max_",
)

Ranges = dict[str, tuple[float, float]]  # of columns


def rows(model: Any, count: int, ranges: list[tuple[float, float]] | None) -> Table:
    """Rows x `count` features; `ranges` are those it was trained in, where they are known."""
    import numpy as np

    chance = np.random.default_rng(SEED)
    kept = _kept(model, count)
    low, high = np.array(ranges or [_range(values) for values in kept], float).T
    margin = BEYOND * (high - low)
    drawn = chance.uniform(low - margin, high + margin, (DRAWN, count))
    exact = drawn.copy()
    for feature, values in enumerate(kept):
        if len(values):
            exact[:, feature] = chance.choice(values, DRAWN)
    return np.concatenate([drawn, exact, [low, high]])


def near_decisions(table: Table, answer: Callable[[Table], Any]) -> Table | None:
    """Rows close to where the answer changes, found by halving the way between two that differ; None if none do."""
    import numpy as np

    answers = np.asarray(answer(table))
    chance = np.random.default_rng(SEED)
    left, right = chance.integers(0, len(table), (2, 4 * PAIRS))
    differ = answers[left] != answers[right]
    left, right = left[differ][:PAIRS], right[differ][:PAIRS]
    if not len(left):
        return None
    one, other, first = table[left], table[right], answers[left]
    for _ in range(HALVINGS):
        middle = (one + other) / 2
        stays = (np.asarray(answer(middle)) == first)[:, None]
        one, other = np.where(stays, middle, one), np.where(stays, other, middle)
    return np.concatenate([one, other])


def _range(values: Table) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if len(values) > 1 else (-3.0, 3.0)


def _kept(model: Any, count: int) -> list[Table]:
    """For each feature the finite values that the model's first step remembers of it."""
    import numpy as np

    found: list[list[Table]] = [[] for _ in range(count)]
    for part in _parts(model):
        for feature, values in _values(part, count):
            found[feature].append(np.asarray(values, float).ravel())
    kept = []
    for values in found:
        flat = np.unique(np.concatenate(values)) if values else np.empty(0)
        flat = flat[np.isfinite(flat)]
        kept.append(flat[:: max(1, len(flat) // REMEMBERED)])
    return kept


def _parts(model: Any, depth: int = DEPTH) -> Iterator[Any]:
    """An estimator and those inside of it that see the same features."""
    yield model
    if not depth:
        return
    steps = getattr(model, "steps", None)
    inside = [steps[0][1]] if steps else [getattr(model, "best_estimator_", None), getattr(model, "estimator_", None)]
    for several in ("estimators_", "calibrated_classifiers_"):
        each = getattr(model, several, None)
        inside += [] if each is None or steps else _flat(each)
    for part in inside:
        if part is not None:
            yield from _parts(part, depth - 1)


def _flat(estimators: Any) -> list[Any]:
    import numpy as np

    return [each for each in np.asarray(estimators, object).ravel() if not isinstance(each, (str, tuple))]


def _values(part: Any, count: int) -> Iterator[tuple[int, Any]]:
    import numpy as np

    tree = getattr(part, "tree_", None)
    if tree is not None:
        for feature in range(count):
            yield feature, tree.threshold[tree.feature == feature]
    for name in KEPT:
        values = getattr(part, name, None)
        if isinstance(values, np.ndarray) and values.ndim and values.shape[-1] == count:
            yield from enumerate(values.reshape(-1, count).T)
    if isinstance(mean := getattr(part, "mean_", None), np.ndarray) and mean.shape == (count,):
        variance = getattr(part, "var_", None)
        spread = 3 * np.sqrt(np.ones(count) if variance is None else variance)
        yield from enumerate(np.stack([mean - spread, mean + spread], axis=1))
    coefficients = getattr(part, "coef_", None)
    if isinstance(coefficients, np.ndarray) and coefficients.shape[-1] == count:
        reach = 3 * (1 + np.abs(getattr(part, "intercept_", 0.0)).max())
        for feature, own in enumerate(np.abs(coefficients.reshape(-1, count)).max(axis=0)):
            yield feature, [-reach / max(own, 1e-3), reach / max(own, 1e-3)]
