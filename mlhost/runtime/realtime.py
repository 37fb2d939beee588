"""The inside of a realtime service: a model instead of code, data frames in and out (contract section 5).

The model becomes an object of the workspace and is called by a program of one line, so that whatever holds for a
service's code holds for a model: its console, its deadline, what is told when it fails.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from mlhost.errors import CodeFailed
from mlhost.params.frames import decode_frame, encode_frame
from mlhost.params.jsontext import render
from mlhost.realtime import ESTIMATOR, TITLES, Header, read_header
from mlhost.runtime import parcels, pickles
from mlhost.runtime.interrupt import interruptible
from mlhost.runtime.workspace import Workspace

SINGLE = 3.4028234e38  # the largest number in single precision, rounded down
INPUT, OUTPUT, FRAME = "inputData", "outputData", "data.frame"
CODE = f"{OUTPUT} = _model.answer({INPUT})"
MISSING = (
    "An ONNX model is run with onnxruntime, which is not installed where the server's workers run:"
    " pip install 'mlhost[realtime]'."
)
# numpy's names of ONNX's element types; what is not here is left as the frame has it.
ELEMENTS = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}

Columns = dict[str, Any]  # name -> values, as many as there are rows
Ranges = list[tuple[float, float]]  # from the least to the largest of each feature


class Model(Protocol):
    """A model that is open."""

    @property
    def columns(self) -> list[str]:
        """Names for the columns of a row that is to be tried."""

    def answer(self, frame: Any) -> Columns:
        """Rows -> one answer a row; ValueError says which columns are missing."""


def open_model(workspace: Workspace, parcel: int) -> None:
    """Open the model in the parcel of that number and have it predict one row.

    Invalid if the parcel is not by `mlhost.realtime.serialize`; CodeFailed if the model does not load or predict.
    """
    file = parcels.find(workspace, parcel)
    file.seek(0)
    header = read_header(file)
    try:
        model = Estimator(workspace, header, file) if header.kind == ESTIMATOR else Onnx(header, file.read())
        _try_out(model, header.example)
    except (CodeFailed, KeyboardInterrupt):
        raise
    except BaseException as fault:  # opening a pickle runs user code, which may call sys.exit
        told = "; ".join([pickles.told(fault), *pickles.differences(header.packages)])
        raise CodeFailed(f"The model does not load: {told}") from fault
    workspace.objects["_model"] = model


def _try_out(model: Model, example: Mapping[str, Any] | None) -> None:
    """Predict the example, or else a row of zeros or of texts: CodeFailed if none of them can be."""
    rows: list[Mapping[str, Any]] = (
        [example] if example else [dict.fromkeys(model.columns, 0.0), dict.fromkeys(model.columns, "a")]
    )
    faults = []
    for row in rows:
        try:
            with interruptible():
                render(encode_frame(model.answer(decode_frame({name: [value] for name, value in row.items()}))))
        except Exception as fault:
            faults.append(pickles.told(fault))
        else:
            return
    hint = "" if example else " If it asks for other values, give it some: serialize(model, columns=frame.head(1))."
    raise CodeFailed(f"The model does not predict: {faults[0]}.{hint}")


# --- estimators ----------------------------------------------------------------------------------------------------


class Estimator:
    """A scikit-learn estimator."""

    def __init__(self, workspace: Workspace, header: Header, pickled: parcels.Parcel) -> None:
        _check_python(header.python)
        with pickles.quiet_about_versions(), interruptible():
            self.fitted = pickles.Unpickler(workspace, pickled).load()
            _keep_to_one_thread(self.fitted)
        self.own_columns = header.columns
        self.methods = header.outputs
        self.ranges = _ordered(header.ranges, header.columns)
        names = getattr(self.fitted, "feature_names_in_", None)
        self._names = None if names is None else [str(name) for name in names]
        self.count = getattr(self.fitted, "n_features_in_", None)  # None: it takes no table but a list of texts, say

    @property
    def columns(self) -> list[str]:
        """See `Model`."""
        return self.own_columns or [str(position) for position in range(self.count or 1)]

    def answer(self, frame: Any) -> Columns:
        """See `Model`."""
        rows = self._rows(frame)
        answer: Columns = {}
        with _checks_done(rows):
            for method in self.methods:
                answer |= self._ask(method, rows)
        return answer

    def titles(self, method: str, frame: Any) -> list[str]:
        """The columns that a method answers with."""
        return list(self._ask(method, self._rows(frame)))

    def _ask(self, method: str, rows: Any) -> Columns:
        return _titled(TITLES[method], getattr(self.fitted, method)(rows), self._labels(method))

    def _rows(self, frame: Any) -> Any:
        wanted = _wanted(frame, self.own_columns, self.count)
        if isinstance(frame, dict):  # there is no pandas
            return _matrix([frame[name] for name in wanted])
        if self.count is None and len(wanted) == 1:
            return frame[wanted[0]]
        rows = frame if list(frame) == wanted else frame[wanted]
        if self._names is None:
            return rows.to_numpy()
        return rows if wanted == self._names else rows.set_axis(self._names, axis="columns")

    def _labels(self, method: str) -> Any:
        if method == "transform":
            return getattr(self.fitted, "get_feature_names_out", list)()
        return () if method == "predict" else getattr(self.fitted, "classes_", ())


def _ordered(ranges: Mapping[str, tuple[float, float]] | None, columns: list[str] | None) -> Ranges | None:
    """The ranges of all columns in order; None if one is not known."""
    if not ranges or not columns or any(name not in ranges for name in columns):
        return None
    return [ranges[name] for name in columns]


def _keep_to_one_thread(model: Any) -> None:
    """Have estimators start no threads: for the few rows of a call, starting them takes longer than predicting."""
    with contextlib.suppress(Exception):  # the parameters of an estimator are user code
        several = [name for name, value in model.get_params().items() if name.endswith("n_jobs") and value is not None]
        if several:
            model.set_params(**dict.fromkeys(several, 1))


@contextlib.contextmanager
def _checks_done(rows: Any) -> Iterator[None]:
    """Without scikit-learn's checks that have been made already: its parameters', and once here that all is finite."""
    from sklearn import config_context

    with config_context(assume_finite=_is_finite(rows), skip_parameter_validation=True):
        yield


def _is_finite(rows: Any) -> bool:
    """Whether they are numbers that any estimator takes: those of trees compute in single precision."""
    import numpy as np

    table = rows.to_numpy() if hasattr(rows, "to_numpy") else np.asarray(rows)
    return table.dtype.kind in "biuf" and bool((np.abs(table) <= SINGLE).all())


def _check_python(made_under: str) -> None:
    running = platform.python_version()
    if made_under.split(".")[:2] != running.split(".")[:2]:
        raise CodeFailed(
            f"The model was serialized under Python {made_under}; this server's workers run {running}. Serialize it"
            " there, or as ONNX."
        )


# --- ONNX ----------------------------------------------------------------------------------------------------------


class Onnx:
    """An ONNX model: one input of rows by features, or an input a column."""

    def __init__(self, header: Header, content: bytes) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise CodeFailed(MISSING) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        self.content = content
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.inputs = self._session.get_inputs()
        self.outputs = header.outputs or [output.name for output in self._session.get_outputs()]
        self.is_table = len(self.inputs) == 1 and _width(self.inputs[0]) != 1
        self.ranges = _ordered(header.ranges, header.columns)
        own = None if self.is_table else [each.name for each in self.inputs]
        self.own_columns = header.columns or own

    @property
    def width(self) -> int | None:
        """The columns its first input has, None if it does not say."""
        return _width(self.inputs[0])

    @property
    def columns(self) -> list[str]:
        """See `Model`."""
        return self.own_columns or [str(position) for position in range(self.width or 1)]

    def answer(self, frame: Any) -> Columns:
        """See `Model`."""
        wanted = _wanted(frame, self.own_columns, self.width if self.is_table else None)
        if self.is_table:
            table = _matrix([frame[name] for name in wanted])
            feed = {self.inputs[0].name: _typed(table, self.inputs[0].type)}
        else:
            feed = {
                each.name: _typed(_matrix([frame[name]]), each.type).reshape(-1, *each.shape[1:2])
                for name, each in zip(wanted, self.inputs, strict=True)
            }
        results = self._session.run(self.outputs, feed)
        answer: Columns = {}
        for name, result in zip(self.outputs, results, strict=True):
            answer |= _titled(name, result, ())
        return answer

    def titles(self, output: str, frame: Any) -> list[str]:
        """The columns that an output makes."""
        return [title for title in self.answer(frame) if title == output or title.startswith(f"{output}.")]


def _width(declared: Any) -> int | None:
    """The columns an input has, None if it does not say."""
    width = declared.shape[1] if len(declared.shape) > 1 else 1
    return width if isinstance(width, int) else None


def _typed(values: Any, element: str) -> Any:
    return values.astype(ELEMENTS[element]) if element in ELEMENTS else values


# --- columns -------------------------------------------------------------------------------------------------------


def _wanted(frame: Any, columns: list[str] | None, count: int | None) -> list[str]:
    """The columns to take of a frame, in order; ValueError if it does not have them."""
    if frame is None:
        raise ValueError(f"{INPUT} is null")
    if columns is not None:
        if missing := [name for name in columns if name not in frame]:
            raise ValueError(f"{INPUT} has no column {', '.join(map(repr, missing))}")
        return columns
    found = list(frame)
    if count is not None and len(found) != count:
        raise ValueError(
            f"{INPUT} has {len(found)} columns, and the model takes {count}. It does not know their names; what was"
            " serialized with columns=[...] picks its own out of more."
        )
    return found


def _matrix(columns: Sequence[Any]) -> Any:
    import numpy as np

    return np.stack([np.asarray(column) for column in columns], axis=1)


def _titled(title: str, values: Any, labels: Any) -> Columns:
    """What a model answers, rows by whatever, as columns: one of that title, or `title.label` for each."""
    import numpy as np

    if isinstance(values, list) and values and isinstance(values[0], dict):  # ONNX: a probability a class
        return {f"{title}.{label}": [row[label] for row in values] for label in values[0]}
    if isinstance(values, list) and any(np.ndim(each) == 2 for each in values):  # several targets, a table each
        parts = list(labels) if len(labels) == len(values) else [()] * len(values)
        told = zip(values, parts, strict=True)
        return {
            name: column
            for target, (each, its) in enumerate(told)
            for name, column in _titled(f"{title}.{target}", each, its).items()
        }
    table = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
    if table.ndim == 1 or (table.ndim == 2 and table.shape[1] == 1 and len(labels) != 1):
        return {title: table.reshape(-1)}
    if table.ndim != 2:
        raise ValueError(f"the model answers with {table.ndim} dimensions, and a data frame has two")
    names = labels if len(labels) == table.shape[1] else range(table.shape[1])
    return {f"{title}.{name}": table[:, position] for position, name in enumerate(names)}
