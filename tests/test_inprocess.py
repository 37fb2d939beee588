"""Calls of a compiled model that come together: run together, answered apart."""

import asyncio
from typing import Any
from unittest.mock import AsyncMock, Mock

import msgspec
import numpy as np
import pytest

from mlhost.executors.pool import Pool, PoolSettings
from mlhost.inprocess import InProcess
from mlhost.runtime.compiled import Compiled, Plan
from mlhost.scoring import Ready, begin

PLAN = Plan(
    input="X",
    element="float64",
    columns=["a"],
    count=1,
    parts=[{"output": "Y", "titles": ["Double"], "first": 0}],
    rows=8,
    is_joined=True,
)


class Session:
    """Doubles, and remembers how many rows came at once."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def run(self, outputs: list[str], feed: dict[str, Any]) -> list[Any]:
        self.runs.append(len(feed["X"]))
        if np.any(feed["X"] == 13):
            raise RuntimeError("unlucky")
        return [feed["X"] * 2]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    made = Session()
    monkeypatch.setattr("mlhost.runtime.compiled.open_session", lambda content: made)
    return made


def body(*values: float) -> bytes:
    return msgspec.json.encode({"inputData": {"a": list(values)}})


def doubles(answer: bytes | None) -> Any:
    assert answer is not None
    return msgspec.json.decode(answer)["outputParameters"]["outputData"]["Double"]


async def test_calls_that_come_at_once_are_run_together_within_the_bound_and_each_gets_its_own(
    session: Session,
) -> None:
    model = InProcess(Compiled(b"", PLAN))
    calls = [[float(n)] * (n % 3 + 1) for n in range(1, 8)]
    answers = await asyncio.gather(*(model.score(body(*values)) for values in calls))
    assert [doubles(answer) for answer in answers] == [[2 * value for value in values] for values in calls]
    assert sum(session.runs) == sum(map(len, calls))
    assert max(session.runs) <= 8
    assert len(session.runs) < len(calls)


async def test_a_body_that_cannot_be_read_is_for_a_worker_or_its_caller_is_told(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = InProcess(Compiled(b"", PLAN))
    deep = b'{"inputData":{"a":[1]},"more":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    assert await model.score(deep) is None
    told: list[bytes | Exception] = []
    fault = MemoryError("no room for it")
    ready = Ready("model", "1", Pool(AsyncMock(), PoolSettings(workers=1, queue=1)), compiled=model)
    monkeypatch.setattr(Compiled, "read", Mock(side_effect=fault))
    begin(ready, body(1), told.append)
    assert told == [fault]
    assert ready.meter.errors == 1
    assert not session.runs


async def test_a_call_alone_is_run_at_once(session: Session) -> None:
    model = InProcess(Compiled(b"", PLAN))
    assert doubles(await model.score(body(1, 2))) == [2, 4]
    assert session.runs == [2]


async def test_a_bad_call_joins_no_others_and_one_whose_caller_went_away_or_fails_harms_nobody(
    session: Session,
) -> None:
    model = InProcess(Compiled(b"", PLAN))
    gone = asyncio.create_task(model.score(body(5)))
    await asyncio.sleep(0)
    model.begin(body(6), lambda answer: exec("raise ConnectionError"))
    others = [asyncio.create_task(model.score(text)) for text in (body(1), b'{"inputData":{"a":["x"]}}', body(2))]
    await asyncio.sleep(0)
    gone.cancel()
    one, bad, two = await asyncio.gather(*others)
    assert bad is None
    assert (doubles(one), doubles(two)) == ([2], [4])
    assert session.runs == [2, 2]


async def test_a_run_that_fails_leaves_its_calls_to_the_workers(session: Session) -> None:
    model = InProcess(Compiled(b"", PLAN))
    assert await asyncio.gather(model.score(body(1)), model.score(body(13))) == [None, None]
    assert doubles(await model.score(body(1))) == [2]
    alone = InProcess(Compiled(b"", PLAN | Plan(is_joined=False)))  # type: ignore[typeddict-item]
    assert await alone.score(body(13)) is None
    assert doubles(await alone.score(body(3))) == [6]
