"""Calls of a realtime service that wait for its worker are sent to it as one, and answered apart."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from mlhost.executors.pool import Pool
from mlhost.host import Host
from tests.http.test_realtime import by_value, publish
from tests.parts import Api


class Doubles(BaseEstimator):  # type: ignore[misc]
    """Takes as long for many rows as for one; fails at 13, prints at 7, dies of 20 and breaks at 21."""

    n_features_in_ = 1

    def fit(self) -> "Doubles":
        self.fitted_ = True
        return self

    def predict(self, rows: Any) -> Any:
        import os
        import sys

        time.sleep(0.01)
        values = np.asarray(rows)[:, 0]
        if 13 in values:
            raise RuntimeError("unlucky")
        if 7 in values:
            print("seven")
        if 20 in values:
            os._exit(3)
        if 21 in values:
            sys.exit("enough")
        return values * 2


@pytest.fixture
async def pool(admin: Api, host: Host) -> AsyncIterator[Pool]:
    """Of one worker, of a service that doubles."""
    await publish(admin, "doubles/1", by_value(Doubles().fit()))
    pool = host.services.ready("doubles", "1").pool
    pool.resize(1, 1)
    yield pool
    await admin("DELETE", "/services/doubles/1")


async def doubled(api: Api, number: float, expect: int = 200) -> Any:
    return await api("POST", "/api/doubles/1", expect, json={"inputData": {"0": [number]}})


def value(answer: Any) -> Any:
    return answer["outputParameters"]["outputData"]["Prediction"]


async def test_calls_that_wait_are_run_together_and_each_gets_its_own(admin: Api, pool: Pool) -> None:
    [found] = await admin("GET", "/services/doubles/1")
    assert found["engine"] == "worker"
    assert found["engineReason"].endswith("; calls that wait are run together")
    before = pool.times.calls
    numbers = [float(number) for number in range(30, 60)]
    with mock.patch.object(pool, "lease", wraps=pool.lease) as lease:
        answers = await asyncio.gather(*(doubled(admin, number) for number in numbers))
    assert [value(answer) for answer in answers] == [[2 * number] for number in numbers]
    assert lease.call_count < len(numbers) / 2
    assert pool.times.calls - before == len(numbers)


async def test_what_one_call_does_is_told_to_it_alone(admin: Api, pool: Pool) -> None:
    for odd, error, printed in (
        (13.0, "RuntimeError: unlucky", ""),
        (7.0, "", "seven\n"),
        (21.0, "SystemExit: enough", ""),
    ):
        numbers = [1.0, 2.0, 3.0, odd, 4.0, 5.0]
        one, two, three, other, *rest = await asyncio.gather(*(doubled(admin, number) for number in numbers))
        assert other["errorMessage"] == error
        assert other["consoleOutput"].endswith(printed)
        assert [value(each) for each in (one, two, three, *rest)] == [[2], [4], [6], [8], [10]]
        assert not any(each["consoleOutput"] or each["errorMessage"] for each in (one, two, three, *rest))


async def test_a_call_that_ends_the_worker_ends_no_other(admin: Api, pool: Pool) -> None:
    calls = [doubled(admin, number, 503 if number == 20.0 else 200) for number in (1.0, 2.0, 3.0, 20.0, 4.0)]
    one, two, three, lost, four = await asyncio.gather(*calls)
    assert [value(each) for each in (one, two, three, four)] == [[2], [4], [6], [8]]
    assert "worker was lost" in lost["message"]


async def test_who_goes_away_while_waiting_is_not_run(admin: Api, pool: Pool, host: Host) -> None:
    ready = host.services.ready("doubles", "1")
    assert ready.together is not None
    async with pool.lease():
        waiting = [asyncio.create_task(ready.together.score(b'{"inputData":{"0":[1.5]}}')) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
    first, gone, last = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(first, bytes)
    assert first == last
    assert isinstance(gone, asyncio.CancelledError)


async def test_a_call_that_finds_a_worker_free_or_is_long_goes_by_itself(host: Host, pool: Pool) -> None:
    ready = host.services.ready("doubles", "1")
    assert ready.together is not None
    assert await ready.together.score(b"{}") is None
    async with pool.lease():
        assert await ready.together.score(b" " * 100_000) is None
