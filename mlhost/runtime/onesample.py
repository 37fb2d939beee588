"""One sample given as a vector: `model.predict([5.1, 3.5, 1.4, 0.2])`, which scikit-learn took until 0.18.

`install` wraps the prediction methods of scikit-learn's classes, those loaded already and those to come. The original
is called first. Only when it refuses a 1-D input of numbers, exactly as many as the fitted estimator has features
(and more than one), is it called again with that input as the single row it must be: `predict(x)` is then
`predict([x])`, with 0.18's DeprecationWarning. What is answered without the hook is answered the same with it, and
`fit` is never touched.

Limits: only methods scikit-learn itself defines are wrapped, so that a package or user code which overrides one keeps
its own behaviour, and what it calls by `super()` is wrapped. A bound method taken before `install` stays as it was.
Nothing here imports scikit-learn, and a wrapped class stays wrapped as long as the interpreter lives. Subinterpreters
have no need of it: scikit-learn does not load there.
"""

from __future__ import annotations

import functools
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from numbers import Real
from types import FunctionType, ModuleType
from typing import Any

PACKAGE = "sklearn"
METHODS = (  # whose first argument is samples; the lazy `staged_` ones and what takes a result back are not among them
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score_samples",
    "transform",
    "apply",
    "decision_path",
    "kneighbors",
    "kneighbors_graph",
    "radius_neighbors",
    "radius_neighbors_graph",
)
# How scikit-learn begins to say that an array, or a Series, should have had two dimensions.
REFUSALS = ("Expected 2D array, got 1D array instead", "Expected a 2-dimensional container but got")
WARNING = (
    "Passing 1d arrays as data is deprecated in 0.17 and will raise ValueError in 0.19. Reshape your data either using"
    " X.reshape(-1, 1) if your data has a single feature or X.reshape(1, -1) if it contains a single sample. (It was"
    " taken as a single sample: runtime.accept_1d_samples of mlhost.)"
)
MARK = "_mlhost_takes_one_sample"

Method = Callable[..., Any]


class _Here(threading.local):
    """Of this thread."""

    is_inside = False  # a wrapped method that may still want to be called again; those it calls leave that to it


_here = _Here()


def install() -> None:
    """Wrap what is loaded of scikit-learn now, and the rest as it is imported; once is enough."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for name, module in list(sys.modules.items()):
        if _is_ours(name) and isinstance(module, ModuleType):
            _wrap_classes(module)


# --- one call ------------------------------------------------------------------------------------------------------


def _accepting(original: Method) -> Method:
    """The method, which answers a vector that is one sample too."""

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else kwargs.get("X")
        # An array or frame of rows, nearly always; or a call made by one that may be repeated as a whole: an inner
        # answer for one row would be taken for one of as many as the outer's input is long.
        if getattr(given, "ndim", 1) != 1 or _here.is_inside:
            return original(self, *args, **kwargs)
        _here.is_inside = True
        try:
            return original(self, *args, **kwargs)
        except ValueError as refusal:
            row = _as_row(self, given) if str(refusal).startswith(REFUSALS) else None
            if row is None:
                raise
        finally:
            _here.is_inside = False
        warnings.warn(WARNING, DeprecationWarning, stacklevel=2)
        return original(self, row, *args[1:], **kwargs) if args else original(self, **{**kwargs, "X": row})

    setattr(method, MARK, True)
    return method


def _as_row(estimator: Any, given: Any) -> Any:
    """The input as one row of features if it is one sample of a fitted estimator, else None."""
    numpy, pandas = sys.modules["numpy"], sys.modules.get("pandas")
    is_series = pandas is not None and isinstance(given, pandas.Series)
    if not is_series and not isinstance(given, (list, tuple, numpy.ndarray)):
        return None
    count = _feature_count(estimator)
    if count < 2 or len(given) != count:
        return None
    values = numpy.asarray(given)
    if values.ndim != 1 or not _are_numbers(values):
        return None
    return given.to_frame().T if is_series else values.reshape(1, -1)  # a Series names its features


def _feature_count(estimator: Any) -> int:
    try:
        return int(estimator.n_features_in_)
    except Exception:  # not fitted, or it takes no features; of a subclass, it may be the user's own code
        return 0


def _are_numbers(values: Any) -> bool:
    if values.dtype.kind == "O":  # a row of a frame that has other columns too
        return all(isinstance(value, Real) for value in values)
    return values.dtype.kind in "biuf"


# --- all classes ---------------------------------------------------------------------------------------------------


class _Finder(MetaPathFinder):
    """Asked first for each module: has those of scikit-learn wrapped when they have run."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """What the finders behind it find."""
        if not _is_ours(name):
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is not self and find is not None and (spec := find(name, path, target)) is not None:
                _wrap_when_run(spec)
                return spec  # type: ignore[no-any-return]
        return None


def _wrap_when_run(spec: ModuleSpec) -> None:
    run = getattr(spec.loader, "exec_module", None)
    if run is None:
        return

    def exec_module(module: ModuleType) -> None:
        run(module)
        _wrap_classes(module)

    # Each module has a loader of its own; a built-in one, which takes no attribute, has no classes of Python either.
    try:
        spec.loader.exec_module = exec_module  # type: ignore[method-assign, union-attr]
    except AttributeError:
        return


def _wrap_classes(module: ModuleType) -> None:
    for member in list(vars(module).values()):
        if isinstance(member, type) and member.__module__ == module.__name__:
            _wrap_methods(member)


def _wrap_methods(kind: type) -> None:
    """Wrap those the class itself defines; also behind `available_if`, which a metaestimator delegates with."""
    for name in METHODS:
        method = vars(kind).get(name)
        if isinstance(method, FunctionType) and not hasattr(method, MARK):
            setattr(kind, name, _accepting(method))
        elif isinstance(inner := getattr(method, "fn", None), FunctionType) and not hasattr(inner, MARK):
            setattr(method, "fn", _accepting(inner))  # noqa: B010 - a descriptor of scikit-learn's, unknown to mypy


def _is_ours(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")
