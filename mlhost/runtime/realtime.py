"""The inside of a realtime service: a model instead of code, data frames in and out (contract section 5).

The model becomes an object of the workspace and is called by a program of one line, so that whatever holds for a
service's code holds for a model: its console, its deadline, what is told when it fails.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mlhost.errors import CodeFailed
from mlhost.params.frames import decode_frame, encode_frame
from mlhost.params.jsontext import render
from mlhost.realtime import ESTIMATOR, TITLES, Header, read_header
from mlhost.runtime import parcels, pickles
from mlhost.runtime.interrupt import interruptible
from mlhost.runtime.workspace import Workspace

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
            self._model = pickles.Unpickler(workspace, pickled).load()
        self._columns = header.columns
        self._methods = header.outputs
        names = getattr(self._model, "feature_names_in_", None)
        self._names = None if names is None else [str(name) for name in names]
        self._count = getattr(self._model, "n_features_in_", None)  # None: it takes no table but a list of texts, say

    @property
    def columns(self) -> list[str]:
        """See `Model`."""
        return self._columns or [str(position) for position in range(self._count or 1)]

    def answer(self, frame: Any) -> Columns:
        """See `Model`."""
        rows = self._rows(frame)
        answer: Columns = {}
        for method in self._methods:
            answer |= _titled(TITLES[method], getattr(self._model, method)(rows), self._labels(method))
        return answer

    def _rows(self, frame: Any) -> Any:
        wanted = _wanted(frame, self._columns, self._count)
        if isinstance(frame, dict):  # there is no pandas
            return _matrix([frame[name] for name in wanted])
        if self._count is None and len(wanted) == 1:
            return frame[wanted[0]]
        rows = frame if list(frame) == wanted else frame[wanted]
        if self._names is None:
            return rows.to_numpy()
        return rows if wanted == self._names else rows.set_axis(self._names, axis="columns")

    def _labels(self, method: str) -> Any:
        if method == "transform":
            return getattr(self._model, "get_feature_names_out", list)()
        return () if method == "predict" else getattr(self._model, "classes_", ())


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
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._inputs = self._session.get_inputs()
        self._outputs = header.outputs or [output.name for output in self._session.get_outputs()]
        self._is_table = len(self._inputs) == 1 and _width(self._inputs[0]) != 1
        own = None if self._is_table else [each.name for each in self._inputs]
        self._columns = header.columns or own

    @property
    def columns(self) -> list[str]:
        """See `Model`."""
        return self._columns or [str(position) for position in range(_width(self._inputs[0]) or 1)]

    def answer(self, frame: Any) -> Columns:
        """See `Model`."""
        wanted = _wanted(frame, self._columns, _width(self._inputs[0]) if self._is_table else None)
        if self._is_table:
            table = _matrix([frame[name] for name in wanted])
            feed = {self._inputs[0].name: _typed(table, self._inputs[0].type)}
        else:
            feed = {
                each.name: _typed(_matrix([frame[name]]), each.type).reshape(-1, *each.shape[1:2])
                for name, each in zip(wanted, self._inputs, strict=True)
            }
        results = self._session.run(self._outputs, feed)
        answer: Columns = {}
        for name, result in zip(self._outputs, results, strict=True):
            answer |= _titled(name, result, ())
        return answer


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
