"""A scikit-learn estimator compiled to ONNX, if both answer alike (contract section 5); done in a worker.

skl2onnx computes in single precision where its operators know no other. So both are asked about the same rows, among
them rows at the model's own thresholds and close to where its answer changes: labels must be equal, numbers agree
within TOLERANCE, and what was seen is told.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypedDict

from mlhost.errors import CodeFailed
from mlhost.params.frames import decode_frame, encode_frame
from mlhost.realtime import TITLES
from mlhost.runtime import parcels, pickles, samples
from mlhost.runtime.compiled import Compiled, Part, Plan
from mlhost.runtime.interrupt import interruptible
from mlhost.runtime.realtime import Estimator, Onnx
from mlhost.runtime.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    Table = np.ndarray[Any, Any]

INSTALL = "pip install 'mlhost[realtime]' where the server and its workers run"
TOLERANCE = 1e-4  # of a column's largest number: single precision leaves about seven digits, sums of many a few less
ELEMENTS = ("float64", "float32")  # in this order where they agree equally well
FIRST_PART = {
    "predict": 0,
    "transform": 0,
    "predict_proba": 1,
    "decision_function": 1,
}  # which output is which method's
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}
ANY_ROWS = 1 << 20  # while it is compared; `examine` finds how many are taken


class Compilation(TypedDict):
    """What came of it: `size` bytes in the parcel asked about and a plan for them, or none; why, in words."""

    size: int
    plan: Plan | None
    why: str


class UnlikeError(Exception):
    """The model cannot be compiled, or the compiled one answers otherwise; says which."""


def compile_model(workspace: Workspace, parcel: int) -> Compilation:
    """Compile the model that `open_model` opened; its ONNX file is put into a new parcel of that number."""
    model = workspace.objects["_model"]
    try:
        with interruptible(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what they do for each other's versions
            content, plan, why = _file(model) if isinstance(model, Onnx) else _converted(model)
    except (CodeFailed, KeyboardInterrupt):
        raise
    except UnlikeError as unlike:
        return Compilation(size=0, plan=None, why=str(unlike))
    except ImportError as missing:
        return Compilation(size=0, plan=None, why=f"{missing}: {INSTALL}")
    except BaseException as fault:  # the methods of an estimator are user code
        return Compilation(size=0, plan=None, why=f"it could not be compiled: {pickles.told(fault)}")
    parcels.put_chunk(workspace, parcel, content)
    return Compilation(size=len(content), plan=plan, why=why)


# --- ONNX files ----------------------------------------------------------------------------------------------------


def _file(model: Onnx) -> tuple[bytes, Plan, str]:
    """An ONNX file as it came, with a plan that makes the columns a worker would."""
    if not model.is_table or not model.width:
        raise UnlikeError("the model takes no table of a known number of columns")
    declared = model.inputs[0]
    if declared.type not in TYPES:
        raise UnlikeError(f"the model takes a {declared.type}, and calls are in numbers")
    rows = samples.rows(None, model.width, model.ranges)
    parts = []
    for name in model.outputs:
        parts.append(Part(output=name, titles=model.titles(name, _frame(model, rows[:2])), first=0))
    plan = _plan(declared.name, TYPES[declared.type], model.own_columns, model.width, parts)
    _check_alike(_answers(model, rows), _asked(Compiled(model.content, plan), rows, plan))
    return model.content, plan, "an ONNX file of standard operators"


# --- estimators ----------------------------------------------------------------------------------------------------


def _converted(model: Estimator) -> tuple[bytes, Plan, str]:
    """The conversion that agrees best."""
    if model.count is None:
        raise UnlikeError("the model takes no table of numbers")
    rows = _rows(model)
    expected = _answers(model, rows)
    found: list[tuple[float, bytes, Plan]] = []
    faults = []
    for element in ELEMENTS:
        try:
            found.append(_convert(model, element, rows, expected))
        except ImportError:
            raise
        except Exception as fault:
            faults.append(str(fault) if isinstance(fault, UnlikeError) else pickles.told(fault))
    if not found:
        raise UnlikeError(faults[-1].partition("\n")[0])
    error, content, plan = min(found, key=lambda each: each[0])
    precision = "double" if plan["element"] == "float64" else "single"
    why = f"compiled, given numbers in {precision} precision; its answers were the estimator's on {len(rows)} rows"
    return content, plan, f"{why} (numbers within {error:.1g} of the largest)" if error else why


def _rows(model: Estimator) -> Table:
    import numpy as np

    table = samples.rows(model.fitted, model.count or 0, model.ranges)
    if hasattr(model.fitted, "classes_") and TITLES["predict"] in _answers(model, table[:1]):
        near = samples.near_decisions(table, lambda rows: _answers(model, rows)[TITLES["predict"]])
        if near is not None:
            table = np.concatenate([table, near])
    return table


def _convert(model: Estimator, element: str, rows: Table, expected: dict[str, list[Any]]) -> tuple[float, bytes, Plan]:
    import skl2onnx

    logging.getLogger("skl2onnx").setLevel(logging.ERROR)
    sample = rows[:1].astype(element)
    faults: list[Exception] = []
    for options in _options(model):
        try:
            onnx = skl2onnx.to_onnx(model.fitted, sample, options=options)
        except Exception as fault:  # an estimator without classes knows none of the options
            faults.append(fault)
            continue
        content = bytes(onnx.SerializeToString())
        outputs = [output.name for output in onnx.graph.output]
        plan = _plan(onnx.graph.input[0].name, element, model.own_columns, rows.shape[1], _parts(model, outputs, rows))
        return _check_alike(expected, _asked(Compiled(content, plan), rows, plan)), content, plan
    raise faults[-1]


def _options(model: Estimator) -> Iterator[dict[str, Any] | None]:
    if "decision_function" in model.methods:
        yield {"zipmap": False, "raw_scores": True}
        yield {"raw_scores": True}
    yield {"zipmap": False}
    yield None


def _parts(model: Estimator, outputs: list[str], rows: Table) -> list[Part]:
    if {"decision_function", "predict_proba"} <= set(model.methods):
        raise UnlikeError("a compiled model has either probabilities or decisions")
    parts = []
    for method in model.methods:
        titles = model.titles(method, _frame(model, rows[:2]))
        output = outputs[min(FIRST_PART[method], len(outputs) - 1)]
        is_one_of_two = method == "decision_function" and len(titles) == 1
        parts.append(Part(output=output, titles=titles, first=int(is_one_of_two)))
    return parts


def _plan(name: str, element: str, columns: list[str] | None, count: int, parts: list[Part]) -> Plan:
    return Plan(input=name, element=element, columns=columns, count=count, parts=parts, rows=ANY_ROWS, is_joined=False)


# --- comparing -----------------------------------------------------------------------------------------------------


def _answers(model: Estimator | Onnx, rows: Table) -> dict[str, list[Any]]:
    """As a call is answered."""
    answer: dict[str, list[Any]] = encode_frame(model.answer(_frame(model, rows)))
    return answer


def _frame(model: Estimator | Onnx, rows: Table) -> Any:
    return decode_frame(dict(zip(model.columns, rows.T.tolist(), strict=True)))


def _asked(compiled: Compiled, rows: Table, plan: Plan) -> dict[str, list[Any]]:
    return compiled.columns(compiled.predict(rows.astype(plan["element"])))


def _check_alike(expected: dict[str, list[Any]], got: dict[str, list[Any]]) -> float:
    """How far the numbers are apart, as a part of their column's largest; UnlikeError if that is too far."""
    if list(expected) != list(got):
        raise UnlikeError(f"compiled, it answers with other columns: {', '.join(got)}")
    return max(_distance(title, expected[title], got[title]) for title in expected)


def _distance(title: str, expected: list[Any], got: list[Any]) -> float:
    import numpy as np

    if len(expected) != len(got) or {type(each) for each in expected} != {type(each) for each in got}:
        raise UnlikeError(f"compiled, it answers with other types in {title}")
    if not isinstance(expected[0], float):
        wrong = sum(one != other for one, other in zip(expected, got, strict=True))
        if wrong:
            raise UnlikeError(f"compiled, it answers otherwise in {wrong} of {len(expected)} rows ({title})")
        return 0.0
    largest = float(np.nanmax(np.abs(expected))) or 1.0
    distance = np.abs(np.subtract(expected, got)) / largest
    if not np.all(distance <= TOLERANCE):
        raise UnlikeError(f"compiled, its numbers are {np.nanmax(distance):.1g} of the largest apart ({title})")
    return float(distance.max())
