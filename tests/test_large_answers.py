"""Answers too large to travel in one piece: the worker keeps one until it is fetched, and has no other call before."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mlhost.errors import MlhostError, NotFound, Unavailable
from mlhost.executors import Worker, parcels
from mlhost.executors.inline import InlineExecutor
from mlhost.executors.pool import Pool, PoolSettings
from mlhost.executors.process import ProcessExecutor
from mlhost.executors.trains import Awaited, Call, Owner, Train
from mlhost.metrics.tally import CODE_FAILED, Meter
from mlhost.runtime import program
from mlhost.runtime.parcels import ANSWER, SMALL_BYTES, Kept, Parcel, read_chunk
from mlhost.runtime.program import ProgramSpec, prepare
from mlhost.runtime.workspace import ping
from mlhost.scoring import Ready, score, score_on
from tests.parts import until

LARGE = 3 * SMALL_BYTES
CODE = """
if does == 'print':
    print('printed', number)
elif does == 'raise':
    raise ValueError('x' * size)
elif does == 'die while it is fetched':
    import os
    from mlhost.runtime import parcels
    parcels.read_chunk = lambda *_, end=os._exit: end(3)
elif does == 'break':
    from mlhost.runtime import parcels
    parcels.read_chunk = None
elif does == 'give less':
    from mlhost.runtime import parcels
    parcels.read_chunk = lambda *_: b'less'
answer = f'{number} ' + 'x' * size
"""
INPUTS = [("number", "integer"), ("size", "integer"), ("does", "character")]
SPEC = ProgramSpec(code=CODE, init_code="", inputs=INPUTS, outputs=[("answer", "character")], files=[])


def body(number: int = 1, size: int = LARGE, does: str = "nothing") -> bytes:
    return json.dumps({"number": number, "size": size, "does": does}).encode()


class Made:
    """The service on one worker at a time."""

    def __init__(self, executor: ProcessExecutor | InlineExecutor) -> None:
        self.workers: list[Worker] = []
        self._executor = executor
        self.ready = Ready("Large", "1", Pool(self._start, PoolSettings(workers=1, queue=100)))

    async def _start(self) -> Worker:
        worker = await self._executor.open(deadline_seconds=30)
        await worker.call(prepare, SPEC)
        self.workers.append(worker)
        return worker

    async def ask(self, *given: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await parcels.whole(await score(self.ready, body(*given))))
        return answer

    async def keeps_nothing(self) -> bool:
        try:
            async with self.ready.pool.lease() as worker:
                await worker.call(read_chunk, ANSWER, 0)
        except NotFound:
            return True
        return False


@pytest.fixture
async def made(executor: ProcessExecutor) -> AsyncIterator[Made]:
    made = Made(executor)
    yield made
    assert await made.keeps_nothing()
    await made.ready.pool.close()


async def test_a_large_answer_comes_as_a_parcel_and_a_small_one_as_bytes(made: Made) -> None:
    answer = await score(made.ready, body())
    assert isinstance(answer, Parcel)
    with answer:
        assert answer.size > LARGE
    assert isinstance(await score(made.ready, body(1, SMALL_BYTES - 200)), bytes)
    assert await made.ask(7) == {
        "success": True,
        "errorMessage": "",
        "changedFiles": [],
        "outputFiles": {},
        "outputParameters": {"answer": "7 " + "x" * LARGE},
        "consoleOutput": "",
    }
    assert len(made.workers) == 1


async def test_an_inline_worker_hands_over_what_is_in_the_servers_memory_anyway(tmp_path: Path) -> None:
    executor = InlineExecutor(tmp_path)
    made = Made(executor)
    assert isinstance(await score(made.ready, body()), bytes)
    await made.ready.pool.close()
    await executor.close()


async def test_what_it_printed_is_filled_in(made: Made) -> None:
    answer = await made.ask(3, LARGE, "print")
    assert answer["consoleOutput"] == "printed 3\n"
    assert answer["outputParameters"]["answer"] == "3 " + "x" * LARGE
    assert not (await made.ask(4))["consoleOutput"]


async def test_code_that_fails_at_length_is_counted_as_failed(made: Made) -> None:
    answer = await made.ask(1, LARGE, "raise")
    assert (answer["success"], len(answer["errorMessage"])) == (False, LARGE + len("ValueError: "))
    assert made.ready.meter.calls.errors == {CODE_FAILED: 1}


async def test_a_body_and_its_answer_may_both_be_parcels(made: Made, tmp_path: Path) -> None:
    with Parcel(tmp_path, small=False) as large:
        large.write(body(5) + b" " * LARGE)
        answer = json.loads(await parcels.whole(await score(made.ready, large)))
    assert answer["outputParameters"]["answer"] == "5 " + "x" * LARGE


async def test_a_record_of_a_batch_may_have_one(made: Made) -> None:
    async with made.ready.pool.lease(patient=True) as worker:
        answer = await parcels.whole(await score_on(worker, body(6), Meter().records, 0.0))
    assert json.loads(answer)["outputParameters"]["answer"] == "6 " + "x" * LARGE


async def test_it_ends_its_train_and_is_fetched_before_the_worker_has_another_call(made: Made) -> None:
    class Told(Owner):
        back: list[Call]
        train: Train

        def on_back(self, calls: list[Call]) -> None:
            self.back = calls

        def on_over(self, train: Train) -> None:
            self.train = train

    async with made.ready.pool.lease() as worker:
        owner = Told()
        calls: list[Call] = [Awaited(program.score, body(number, LARGE if number == 2 else 1)) for number in range(4)]
        worker.run(calls, owner)
        await until(lambda: not worker.busy)
        assert [call.done() for call in calls] == [True, True, False, False]
        assert owner.back == calls[3:]
        assert owner.train.kept is not None
        call, kept = owner.train.kept
        assert call is calls[2]
        with await parcels.fetch(worker, kept) as fetched:
            assert fetched.size == kept.size > LARGE


async def test_among_calls_that_ride_together_each_has_its_own_answer(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlhost.executors.pool.PROVEN_CALLS", 0)
    monkeypatch.setattr("mlhost.executors.pool.QUICK_SECONDS", 10)
    chance = random.Random(1)
    sizes = [chance.choice([1, 1, 1, 100_000, LARGE]) for _ in range(60)]
    answers = await asyncio.gather(*(made.ask(*each) for each in enumerate(sizes)))
    for number, (answer, size) in enumerate(zip(answers, sizes, strict=True)):
        assert answer["outputParameters"]["answer"] == f"{number} " + "x" * size
    assert len(made.workers) == 1


@pytest.mark.parametrize("way", ["with others", "on a lease"])
async def test_who_goes_away_at_any_moment_leaves_nothing_with_the_worker(made: Made, way: str) -> None:
    async def ask(number: int) -> None:
        if way == "with others":
            await made.ask(number, 10 * LARGE)
        else:
            async with made.ready.pool.lease() as worker:
                await parcels.whole(await score_on(worker, body(number, 10 * LARGE), Meter().calls, 0.0))

    await ask(0)
    chance = random.Random(2)
    for number in range(25):
        asking = asyncio.ensure_future(ask(number))
        await asyncio.sleep(chance.random() * 0.15)
        asking.cancel()
        await asyncio.wait([asking])
        assert await made.keeps_nothing()
    assert len(made.workers) == 1


async def test_a_worker_that_dies_while_it_is_fetched_is_told_as_lost_and_replaced(made: Made) -> None:
    with pytest.raises(Unavailable, match=r"worker was lost during this call.*exit status 3"):
        await made.ask(1, LARGE, "die while it is fetched")
    assert (await made.ask(2))["success"]
    assert len(made.workers) == 2


async def test_a_worker_whose_code_broke_what_answers_are_fetched_with_is_replaced(made: Made) -> None:
    with pytest.raises(MlhostError, match="not callable"):
        await made.ask(1, LARGE, "break")
    assert (await made.ask(2))["success"]
    assert len(made.workers) == 2


async def test_a_worker_that_gives_less_than_it_said_is_told(made: Made) -> None:
    answer = await made.ask(1, LARGE, "give less")
    assert answer["errorMessage"] == "The worker did not give the bytes it had announced."
    async with made.ready.pool.lease() as worker:  # what the code did to it stays
        await worker.close(force=True)


@pytest.mark.parametrize("size", [-1, 0, 1 << 40])
async def test_a_size_that_no_answer_has_is_not_believed(made: Made, size: int) -> None:
    async with made.ready.pool.lease() as worker:
        with pytest.raises(Exception, match=f"has not {size} bytes"):
            await parcels.fetch(worker, Kept(ANSWER, size))
        assert await worker.call(ping) == "pong"


async def test_a_disk_that_is_full_is_told_and_the_worker_goes_on(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise Unavailable("There is no room beside the workspace.")

    await made.ask(1, 1)
    for way in ("as it comes", "for what was printed"):
        with monkeypatch.context() as patch:
            patch.setattr(Parcel, "write" if way == "as it comes" else "flush", full)
            with pytest.raises(Unavailable, match="no room"):
                await made.ask(1, LARGE, "print")
    assert (await made.ask(2))["success"]
    assert len(made.workers) == 1
