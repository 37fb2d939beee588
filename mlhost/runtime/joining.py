"""Several calls of an estimator answered of one run: most take hardly longer for many rows than for one.

Only estimators join that were seen to answer each row as if it were alone, and only calls that leave no doubt: frames
of the same columns and types, nothing printed, no file touched. For the others the answer is None, and they are asked
one by one, which is also how they hear what is wrong with them.
"""

from __future__ import annotations

import warnings
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any

from mlhost.errors import Invalid
from mlhost.params.frames import decode_frame, encode_frame, pandas
from mlhost.params.signature import Signature
from mlhost.runtime import capture, samples
from mlhost.runtime.interrupt import interruptible
from mlhost.runtime.parcels import SMALL_BYTES
from mlhost.runtime.program import PLAIN_ANSWER
from mlhost.runtime.realtime import INPUT, OUTPUT, Columns, Estimator
from mlhost.runtime.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

MOST_BYTES = SMALL_BYTES - 200  # of what a call gives: what is large is fetched by itself
TRIED = 16  # rows that are asked alone and together
WORTHWHILE = 2.0  # times as many rows a second, or calls do better next to each other


def pays_together(workspace: Workspace) -> bool:
    """Whether the model that `open_model` opened answers rows together just as one by one, and clearly sooner."""
    model = workspace.objects["_model"]
    if pandas() is None or not isinstance(model, Estimator) or model.count is None:
        return False
    try:
        with interruptible(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _is_soon_and_same(model, model.count)
    except KeyboardInterrupt:
        raise
    except BaseException:  # the methods of an estimator are user code
        return False


def _is_soon_and_same(model: Estimator, count: int) -> bool:
    table = samples.rows(model.fitted, count, model.ranges)
    rows = table[:: len(table) // TRIED][:TRIED].tolist()
    _answers(model, rows[:1])  # what is loaded or allocated but once
    start = perf_counter()
    alone = [_answers(model, [row]) for row in rows]
    between = perf_counter()
    together = _answers(model, rows)
    took_alone, took_together = between - start, perf_counter() - between
    same = {title: [answer[title][0] for answer in alone] for title in alone[0]}
    return together == same and took_alone > WORTHWHILE * took_together


def _answers(model: Estimator, rows: list[list[float]]) -> dict[str, list[Any]]:
    frame = decode_frame(dict(zip(model.columns, map(list, zip(*rows, strict=True)), strict=True)))
    answer: dict[str, list[Any]] = encode_frame(model.answer(frame))
    return answer


def answer_together(workspace: Workspace, bodies: list[bytes]) -> list[bytes | None]:
    """The answers to calls, each as `score` would give it; None for those that have to be asked alone."""
    program = workspace.program
    assert program is not None
    alone: list[bytes | None] = [None] * len(bodies)
    frames = [_read(program.signature, body) for body in bodies]
    joining = _alike(frames)
    try:
        answers = _split(program.signature, _predicted(workspace, [frames[number] for number in joining]))
    except KeyboardInterrupt:
        raise
    except BaseException:  # as above; asked alone, the call at fault is told
        answers = []
    finally:
        capture.flush()
    if program.put_back_files() or len(answers) != len(joining):
        return alone
    for number, answer in zip(joining, answers, strict=True):
        alone[number] = answer
    return alone


def _read(signature: Signature, body: bytes) -> pd.DataFrame | None:
    try:
        return signature.decode(body)[INPUT]
    except Invalid:
        return None


def _alike(frames: list[pd.DataFrame | None]) -> list[int]:
    """The numbers of those that are as the first: joining others would change their types."""
    first = next((frame for frame in frames if frame is not None), None)
    if first is None:
        return []
    wanted = list(first.dtypes.items())
    return [n for n, frame in enumerate(frames) if frame is not None and list(frame.dtypes.items()) == wanted]


def _predicted(workspace: Workspace, frames: list[pd.DataFrame]) -> list[Columns]:
    """What the model answers to each frame."""
    if not frames:
        return []
    ends = [0]
    for frame in frames:
        ends.append(ends[-1] + len(frame))
    with interruptible():
        columns: Columns = workspace.objects["_model"].answer(pandas().concat(frames, ignore_index=True))
    if any(len(column) != ends[-1] for column in columns.values()):
        return []
    return [{title: column[start:end] for title, column in columns.items()} for start, end in pairwise(ends)]


def _split(signature: Signature, answers: list[Columns]) -> list[bytes | None]:
    told = [signature.encode({OUTPUT: columns}) for columns in answers]
    return [None if fault or len(outputs) > MOST_BYTES else PLAIN_ANSWER % outputs for outputs, fault in told]
