"""A compiled model: an ONNX file that was looked at, and a plan of what goes in and comes out (contract section 5).

It is data and no user's code, so the server runs it in its own process. It takes what is plain: few rows of finite
numbers, all columns there. For the rest it answers None, and a worker is asked, which has the model itself: what
is refused, and in which words, is the worker's to say.

numpy, msgspec and onnxruntime are loaded where a model is opened, which no subinterpreter does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, TypedDict

from mlhost.runtime.program import PLAIN_ANSWER
from mlhost.runtime.realtime import INPUT, OUTPUT

if TYPE_CHECKING:
    import numpy as np

MAX_BODY_BYTES = 1 << 16  # longer ones go to a worker unread: reading 64 KiB of numbers takes 0.3 ms
LARGEST = {"float32": 3.4028234e38, "float64": 1.7976931348623157e308}
ONE_THREAD: Final = 1  # the server's loop waits for it

Columns = dict[str, list[Any]]  # title -> an answer a row


class Part(TypedDict):
    """What becomes of one of the model's outputs."""

    output: str
    titles: list[str]  # of the columns it makes
    first: int  # the output's column that has the first title; others follow


class Plan(TypedDict):
    """How a compiled model is asked; plain data, kept with the version."""

    input: str  # the name of its only one, rows by features
    element: str  # numpy's name for what that takes
    columns: list[str] | None  # of `inputData`, in the order of the features; None: all, as they come
    count: int  # features
    parts: list[Part]
    rows: int  # that are taken at once: so many keep the server busy for a moment only
    is_joined: bool  # whether the rows of several calls cost clearly less together


class Compiled:
    """A session of onnxruntime with a plan, within the bounds of which it takes calls."""

    def __init__(self, content: bytes, plan: Plan) -> None:
        import msgspec
        import numpy as np

        self.rows = plan["rows"]
        self.is_joined = plan["is_joined"]
        self._session = open_session(content)
        self._input = plan["input"]
        self._parts = plan["parts"]
        self._outputs = [part["output"] for part in plan["parts"]]
        self._element = np.dtype(plan["element"])
        self._decode = msgspec.json.Decoder(_body(plan)).decode
        self._table = _named if plan["columns"] else _unnamed(plan["count"])
        # ValueError: columns of different lengths; RecursionError: lists in lists without an end, where nobody looks.
        self._misfits = (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError)
        self._encode = msgspec.json.Encoder().encode

    def read(self, body: bytes) -> np.ndarray | None:
        """The rows of a call as rows x features; None if they are for a worker to look at."""
        import numpy as np

        if len(body) > MAX_BODY_BYTES:
            return None
        try:
            return np.array(self._table(self._decode(body).inputData), self._element)
        except self._misfits:
            return None

    def predict(self, table: np.ndarray) -> list[Any]:
        """What the model answers, an array a part."""
        return self._session.run(self._outputs, {self._input: table})  # type: ignore[no-any-return]

    def columns(self, results: list[Any], start: int = 0, end: int | None = None) -> Columns:
        """The answers of rows `start` to `end` under their titles."""
        answer: Columns = {}
        for part, result in zip(self._parts, results, strict=True):
            for title, column in zip(part["titles"], _columns(result, part["first"]), strict=False):
                answer[title] = column[start:end]
        return answer

    def write(self, columns: Columns) -> bytes:
        """A WebServiceResult as JSON (contract section 1.3)."""
        return PLAIN_ANSWER % (b'{"' + OUTPUT.encode() + b'":' + self._encode(columns) + b"}")


def open_session(content: bytes) -> Any:
    """A session that computes in the thread that asks and says nothing."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = ONE_THREAD
    options.log_severity_level = 4  # fatal: what else goes wrong is raised
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _columns(result: Any, first: int) -> list[list[Any]]:
    if isinstance(result, list):  # a map a row, from class to probability
        return [list(column) for column in zip(*(row.values() for row in result), strict=True)]
    if result.ndim == 1:
        return [result.tolist()]
    columns: list[list[Any]] = result.T[first:].tolist()
    return columns


# --- what is taken -------------------------------------------------------------------------------------------------


def _body(plan: Plan) -> Any:
    """The type of a body; what does not fit it goes to a worker.

    Columns of numbers or single ones, or records; with named columns, others are passed over unread.
    """
    import msgspec

    largest = LARGEST[plan["element"]]
    number = Annotated[float, msgspec.Meta(ge=-largest, le=largest)]
    column = number | Annotated[list[number], msgspec.Meta(min_length=1, max_length=plan["rows"])]
    if plan["columns"] is None:
        return msgspec.defstruct("Body", [(INPUT, dict[str, column])])
    names = {f"column_{position}": name for position, name in enumerate(plan["columns"])}
    columns = msgspec.defstruct("Columns", [(field, column) for field in names], rename=names)
    record: Any = msgspec.defstruct("Record", [(field, number) for field in names], rename=names)
    records = Annotated[list[record], msgspec.Meta(min_length=1, max_length=plan["rows"])]
    return msgspec.defstruct("Body", [(INPUT, columns | records)])


def _named(given: Any) -> list[tuple[float, ...]]:
    from msgspec.structs import astuple

    return list(map(astuple, given)) if type(given) is list else _rows(astuple(given))


def _unnamed(count: int) -> Any:
    def table(given: dict[str, Any]) -> list[tuple[float, ...]]:
        if len(given) != count:
            raise ValueError("another number of columns")
        return _rows(tuple(given.values()))

    return table


def _rows(columns: tuple[Any, ...]) -> list[tuple[float, ...]]:
    """Columns as rows; a single value is a column of one."""
    return list(zip(*(column if type(column) is list else (column,) for column in columns), strict=True))
