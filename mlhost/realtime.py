"""Models as bytes, which realtime services are published from: `serialize` makes them, on a client as well.

    bytes   content
    4       b"blob": what the original's client asks such bytes to begin with
    6       b"mlhost"
    1       the version of this format, 1
    4       the length of the header, big-endian
    ...     the header: a JSON object with the fields of `Header`
    ...     the model: a pickle of a scikit-learn estimator (kind "estimator") or an ONNX file (kind "onnx")

Importing this module starts nothing and loads little; the bytes are opened only in a worker.
"""

from __future__ import annotations

import json
import math
import os
import platform
import struct
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from mlhost.errors import Invalid

MAGIC: Final = b"blobmlhost"
VERSION: Final = 1
LENGTHS = struct.Struct("!BI")  # the format's version, the header's length
MAX_HEADER_BYTES = 1 << 24  # names of a hundred thousand columns and more
ESTIMATOR: Final = "estimator"
ONNX: Final = "onnx"
ONNX_BEGIN = b"\x08"  # the field `ir_version`, which every writer puts first
# What an estimator may be asked, and what the columns of its answer are called.
TITLES = {
    "predict": "Prediction",
    "predict_proba": "Probability",
    "decision_function": "Decision",
    "transform": "Transformed",
}
PACKAGES = ("sklearn", "numpy", "scipy", "pandas")  # whose versions tell why a model does not load elsewhere


class Readable(Protocol):
    """What the bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """As a file does."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the bytes say of their model."""

    kind: str  # ESTIMATOR or ONNX
    columns: list[str] | None  # of `inputData`, in the order of the model's features; None: all, as they come
    outputs: list[str]  # methods of an estimator; outputs of an ONNX model, none meaning all
    example: dict[str, Any] | None  # one row that can be predicted
    python: str  # "3.11.7"
    packages: dict[str, str]  # -> version
    ranges: dict[str, tuple[float, float]] | None = None  # of a frame's columns of numbers: least and largest


def serialize(model: Any, *, columns: Any = None, outputs: Iterable[str] | None = None) -> bytes:
    """A fitted scikit-learn estimator or an ONNX model, as the bytes a realtime service is published from.

    An ONNX model is given as a path, as bytes or as an `onnx.ModelProto`. `columns` names the columns of `inputData`
    in the order of the model's features; others that a caller sends are ignored then. Left out, they are the names the
    estimator was fitted with (or those of an ONNX model's inputs); if it has none either, all columns are taken in the
    order they come. A data frame instead of names gives names, and in its first row an example: publishing tries it,
    where it would otherwise try a row of zeros and a row of texts. The ranges of its columns tell where a compiled
    model is compared with this one; without a frame they are taken from what the model remembers.

    `outputs` are the methods of the estimator to answer with, "predict" by default ("transform" where there is none).
    The columns of `outputData` are `Prediction` from predict, `Probability.<class>` from predict_proba,
    `Decision` or `Decision.<class>` from decision_function, `Transformed.<feature>` from transform; with several
    targets `Prediction.0`, `Prediction.1` and so on. (The original called them `<target>_Pred`; scikit-learn does not
    know the target's name.) Of an ONNX model `outputs` are names of its outputs, all by default, and `outputData` has
    a column `<output>`, or `<output>.<class>` for each of several.

    Invalid says what cannot be made bytes. What is opened is opened under the same minor version of Python only.
    """
    names, example = _columns_and_example(columns)
    ranges = _ranges(columns)
    asked = [outputs] if isinstance(outputs, str) else list(outputs or ())
    content = _onnx_bytes(model)
    if content is not None:
        return _packed(Header(ONNX, names, asked, example, platform.python_version(), {}, ranges), content)
    if not _is_estimator(model):
        raise Invalid(
            "serialize takes a fitted scikit-learn estimator, or an ONNX model as a path, as bytes or as a ModelProto;"
            f" this is of type {type(model).__module__}.{type(model).__qualname__}."
        )
    asked = asked or [next((method for method in ("predict", "transform") if hasattr(model, method)), "predict")]
    _check_outputs(model, asked)
    names = _checked_columns(model, names)
    header = Header(ESTIMATOR, names, asked, example, platform.python_version(), _packages(), ranges)
    return _packed(header, _pickled(model))


def read_header(file: Readable) -> Header:
    """The header of such bytes, the file then standing at the model; Invalid if they are something else."""
    if file.read(len(MAGIC)) != MAGIC:
        raise Invalid(
            "model: these bytes are not a model that can be opened here. Make them from a scikit-learn estimator or an"
            " ONNX file with mlhost.realtime.serialize(model).",
            field="model",
        )
    try:
        return _read_header(file)
    except (ValueError, TypeError, struct.error) as fault:
        raise Invalid(
            f"model: the bytes of mlhost.realtime.serialize(model) are damaged: {fault}", field="model"
        ) from None


def _read_header(file: Readable) -> Header:
    version, length = LENGTHS.unpack(file.read(LENGTHS.size))
    if version != VERSION:
        raise ValueError(f"they are of version {version} of the format, and this server reads {VERSION}")
    if length > MAX_HEADER_BYTES:
        raise ValueError("the header is too long")
    header = Header(**json.loads(file.read(length)))
    if header.kind not in (ESTIMATOR, ONNX):
        raise ValueError(f"the kind is {header.kind!r}")
    return header


def _packed(header: Header, content: bytes) -> bytes:
    text = json.dumps(asdict(header), default=str).encode()
    return b"".join([MAGIC, LENGTHS.pack(VERSION, len(text)), text, content])


# --- columns and outputs -------------------------------------------------------------------------------------------


def _columns_and_example(columns: Any) -> tuple[list[str] | None, dict[str, Any] | None]:
    if columns is None:
        return None, None
    if isinstance(columns, str):
        raise Invalid(f"columns: a list of names is asked for, not the text {columns!r}", field="columns")
    names = [str(name) for name in columns]  # of a frame too
    if len(set(names)) < len(names):
        raise Invalid("columns: two have the same name", field="columns")
    if not hasattr(columns, "iloc"):
        return names, None
    if len(columns) == 0:
        return names, None
    values = (columns.iloc[:1, position].tolist()[0] for position in range(len(names)))
    return names, dict(zip(names, values, strict=True))


def _ranges(columns: Any) -> dict[str, tuple[float, float]] | None:
    """Of each column of finite numbers of a frame."""
    if not hasattr(columns, "iloc") or len(columns) == 0:
        return None
    numbers = columns.select_dtypes("number")
    found = {str(name): (float(column.min()), float(column.max())) for name, column in numbers.items()}
    return {name: ends for name, ends in found.items() if all(map(math.isfinite, ends))}


def _checked_columns(model: Any, names: list[str] | None) -> list[str] | None:
    if names is None:
        own = getattr(model, "feature_names_in_", None)
        return None if own is None else [str(name) for name in own]
    count = getattr(model, "n_features_in_", None)
    if count is not None and count != len(names):
        raise Invalid(f"columns: the model was fitted with {count}, and {len(names)} are named", field="columns")
    return names


def _check_outputs(model: Any, methods: list[str]) -> None:
    for method in methods:
        if method not in TITLES:
            raise Invalid(f"outputs: {method!r} is none of {', '.join(TITLES)}", field="outputs")
        if not hasattr(model, method):
            raise Invalid(f"outputs: {type(model).__name__} has no method {method!r}", field="outputs")


# --- models --------------------------------------------------------------------------------------------------------


def _onnx_bytes(model: Any) -> bytes | None:
    """The bytes of an ONNX model, or None if it is something else."""
    if isinstance(model, (str, os.PathLike)):
        try:
            content = Path(model).read_bytes()
        except OSError as fault:
            raise Invalid(f"The file {os.fspath(model)!r} cannot be read: {fault.strerror}.") from fault
    elif isinstance(model, (bytes, bytearray)):
        content = bytes(model)
    elif hasattr(model, "SerializeToString"):
        content = bytes(model.SerializeToString())
    else:
        return None
    if not content.startswith(ONNX_BEGIN):
        raise Invalid("These are not the bytes of an ONNX model.")
    return content


def _is_estimator(model: Any) -> bool:
    base = sys.modules.get("sklearn.base")  # whoever has an estimator has loaded it
    return base is not None and isinstance(model, base.BaseEstimator) and not isinstance(model, type)


def _pickled(model: Any) -> bytes:
    import cloudpickle
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except NotFittedError as fault:
        raise Invalid(f"The model is not fitted: {fault}") from None
    try:
        pickled: bytes = cloudpickle.dumps(model)  # classes and functions of a script or notebook go along
    except Exception as fault:
        raise Invalid(f"The model cannot be pickled: {type(fault).__name__}: {fault}") from fault
    return pickled


def _packages() -> dict[str, str]:
    found = {name: getattr(sys.modules.get(name), "__version__", "") for name in PACKAGES}
    return {name: str(version) for name, version in found.items() if version}
