"""Whether the server may run an ONNX file in its own process: looked at and tried in a worker that holds nothing else.

The file comes from a worker that opened a pickle, or from a publisher as it is, and is trusted in nothing. It may refer
to no other file, and hold only operators that end and whose answers are no larger than what goes in: no loops, none
that make up a tensor of any size. How long it takes then depends on its rows, which are counted out here, under this
worker's limits of time and memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypedDict

from mlhost.runtime import parcels, pickles
from mlhost.runtime.compiled import Compiled, Plan
from mlhost.runtime.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import onnx

MAX_BYTES = 64 << 20  # of a file that the server keeps open, which takes some two times that
MAX_FEATURES = 1000
OPEN_SECONDS = 2.0
BUSY_SECONDS = 1e-3  # that one run may keep the server's loop; a call by way of a worker keeps it for 0.1 ms
ROWS = (256, 64, 16, 4, 1)  # how many to take at once, tried in this order
JOINED = 16  # rows of a try that tells whether several calls are cheaper together
WORTHWHILE_SECONDS = 50e-6  # saved of each: joining costs a call 10 us
TRIES = 10

STANDARD = {"", "ai.onnx"}
LEARNING = "ai.onnx.ml"
OPERATORS = """
Abs Add And ArgMax ArgMin Cast Ceil Clip Concat Constant Div Equal Erf Exp Flatten Floor Gather GatherElements Gemm
Greater GreaterOrEqual Identity IsNaN LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max Mean Min Mul Neg Not Or Pow
Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
Reshape Selu Shape Sigmoid Sign Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh TopK Transpose Unsqueeze Where
Xor
"""
LEARNING_OPERATORS = """
ArrayFeatureExtractor Binarizer FeatureVectorizer Imputer LabelEncoder LinearClassifier LinearRegressor Normalizer
SVMClassifier SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor ZipMap
"""


class Examined(TypedDict):
    """What is to be done with the file: the plan with its bounds, or none, and why not."""

    plan: Plan | None
    why: str


def examine(workspace: Workspace, parcel: int, plan: Plan) -> Examined:
    """Look at the ONNX file in the parcel and try it."""
    file = parcels.find(workspace, parcel)
    file.seek(0)
    content = file.read(MAX_BYTES + 1)
    try:
        why = fault_of(content) or _fault_of_plan(plan)
        bounded = None if why else _bounded(content, plan)
    except Exception as fault:  # onnxruntime has no error of its own
        return Examined(plan=None, why=f"it cannot be run: {pickles.told(fault)}".partition("\n")[0])
    if bounded is None:
        return Examined(plan=None, why=why or f"one row takes longer than {BUSY_SECONDS * 1000:g} ms")
    return Examined(plan=bounded, why="")


def fault_of(content: bytes) -> str:
    """Why the server must not run these bytes, in words; "" if it may. ValueError or the like if they are no model."""
    import onnx

    if len(content) > MAX_BYTES:
        return f"it is larger than {MAX_BYTES >> 20} MiB"
    model = onnx.load_model_from_string(content)
    if model.functions or model.training_info:
        return "it has functions or training of its own"
    graph = model.graph
    if graph.sparse_initializer:
        return "it has sparse tensors"
    return next(_faults(graph), "")


def _faults(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (_EXTERNAL for tensor in graph.initializer if _is_external(tensor))
    for node in graph.node:
        if node.op_type not in _known(node.domain):
            yield f"it has the operator {node.domain or 'ai.onnx'} {node.op_type}, which is not among those run there"
        for attribute in node.attribute:
            if (
                attribute.g.ByteSize()
                or attribute.graphs
                or attribute.sparse_tensors
                or attribute.sparse_tensor.ByteSize()
            ):
                yield "it has graphs inside of graphs or sparse tensors"
            yield from (_EXTERNAL for tensor in (attribute.t, *attribute.tensors) if _is_external(tensor))


_EXTERNAL = "it refers to files beside it"


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.external_data) or tensor.data_location == tensor.EXTERNAL


def _known(domain: str) -> list[str]:
    return OPERATORS.split() if domain in STANDARD else LEARNING_OPERATORS.split() if domain == LEARNING else []


def _fault_of_plan(plan: Plan) -> str:
    if not 0 < plan["count"] <= MAX_FEATURES:
        return f"it has more than {MAX_FEATURES} features"
    columns = plan["columns"]
    return "it has another number of columns than features" if columns and len(columns) != plan["count"] else ""


def _bounded(content: bytes, plan: Plan) -> Plan | None:
    """The plan with as many rows as take no longer than they may; None if one row does."""
    import numpy as np

    start = perf_counter()
    compiled = Compiled(content, plan)
    if perf_counter() - start > OPEN_SECONDS:
        raise RuntimeError(f"it takes more than {OPEN_SECONDS:g} s to open")
    one = _seconds(compiled, np.zeros((1, plan["count"]), plan["element"]))
    if one > BUSY_SECONDS:
        return None
    each = _seconds(compiled, np.zeros((JOINED, plan["count"]), plan["element"])) / JOINED
    for rows in ROWS:
        if _seconds(compiled, np.zeros((rows, plan["count"]), plan["element"])) <= BUSY_SECONDS:
            return plan | Plan(rows=rows, is_joined=rows >= JOINED and one - each > WORTHWHILE_SECONDS)  # type: ignore
    return None


def _seconds(compiled: Compiled, table: np.ndarray[Any, Any]) -> float:
    """Of a run and of reading its answer, the quickest of some."""
    taken = []
    for _ in range(TRIES):
        start = perf_counter()
        compiled.columns(compiled.predict(table))
        taken.append(perf_counter() - start)
    return min(taken)
