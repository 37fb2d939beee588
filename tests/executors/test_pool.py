"""A pool of workers: bounds, order, and what happens when workers die or do not start."""

import asyncio
from collections.abc import Callable

import pytest

from mlhost.errors import Busy, CodeFailed, Unavailable
from mlhost.executors.pool import CALLS_BETWEEN_WEIGHINGS, PROVEN_CALLS, Pool, PoolSettings, Usage
from mlhost.executors.trains import RIDING_BYTES, TRAIN_CALLS, Awaited, Call, Owner, Train
from mlhost.runtime.program import score
from tests.parts import run_on, until


class FakeWorker:
    """A worker that lives, weighs something and dies, and answers the calls it has been sent when a test says so."""

    carries = TRAIN_CALLS

    def __init__(self) -> None:
        self.lost = ""
        self.closed = False
        self.bytes = 0
        self.train: Train | None = None
        self.is_early_wanted = False
        self.fault: Exception | None = None

    @property
    def aboard(self) -> int:
        return len(self.train.calls) if self.train else 0

    def run(self, calls: list[Call], owner: Owner) -> None:
        if self.fault:
            raise self.fault
        self.train = Train(1, calls, owner)

    def abandon(self, call: Call) -> None:
        pass

    def tell_early(self, wanted: bool) -> None:
        self.is_early_wanted = wanted

    def join(self, calls: list[Call]) -> None:
        assert self.train is not None
        self.train.calls.extend(calls)

    def near_the_end(self) -> None:
        """Answer all calls but one, and let others join."""
        train = self.train
        assert train is not None
        assert train.owner is not None
        while len(train.calls) > 1:
            train.next().answer(None, "done")
        train.owner.on_nearly_over(train)

    def arrive(self, *back: Call) -> list[Call]:
        """Answer all calls but those that go back; all that it had."""
        train, self.train = self.train, None
        assert train is not None
        owner, calls = train.owner, list(train.calls)
        assert owner is not None
        if back:
            train.leave(len(calls) - len(back))
            owner.on_back(list(back))
        while train.calls:
            train.next().answer(None, "done")
        owner.on_over(train)
        return calls

    def resident_bytes(self) -> int:
        return self.bytes

    async def close(self, *, force: bool = False) -> None:
        self.closed = True


class Maker:
    """Makes workers, as slowly and as badly as a test wants."""

    def __init__(self) -> None:
        self.made: list[FakeWorker] = []
        self.seconds = 0.0
        self.fault: Exception | None = None

    async def __call__(self) -> FakeWorker:
        await asyncio.sleep(self.seconds)
        if self.fault:
            raise self.fault
        self.made.append(FakeWorker())
        return self.made[-1]


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def make_pool(maker: Maker) -> Callable[..., Pool]:
    def make_pool(size: int = 2, queue: int = 100, **bounds: float) -> Pool:
        return Pool(maker, PoolSettings(size, queue, **bounds))  # type: ignore[arg-type]

    return make_pool


async def test_workers_are_started_as_needed_and_never_more_than_the_size(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    pool, at_once, most = make_pool(size=3, queue=1000), 0, 0
    maker.seconds = 0.01

    async def call() -> None:
        nonlocal at_once, most
        async with pool.lease():
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.001)
            at_once -= 1

    await call()
    assert len(maker.made) == 1
    await asyncio.gather(*(call() for _ in range(200)))
    assert (most, len(maker.made)) == (3, 3)


async def test_those_who_wait_are_served_in_order(make_pool: Callable[..., Pool]) -> None:
    pool, served = make_pool(size=1), []

    async def call(number: int) -> None:
        async with pool.lease():
            await asyncio.sleep(0)
            served.append(number)

    await asyncio.gather(*(call(number) for number in range(20)))
    assert served == list(range(20))


async def test_beyond_the_queue_one_is_told_to_come_back(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(size=1, queue=1)
    async with pool.lease():
        waiting = asyncio.ensure_future(pool.lease().__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(Busy) as busy:
            await pool.lease().__aenter__()
        assert busy.value.details["retry_after_seconds"] == 1
    assert await waiting


async def test_patient_callers_leave_what_becomes_free_to_the_others(make_pool: Callable[..., Pool]) -> None:
    pool, served = make_pool(size=1), []

    async def call(name: str, *, patient: bool) -> None:
        async with pool.lease(patient=patient):
            await asyncio.sleep(0)
            served.append(name)

    async with pool.lease():
        patient = [asyncio.ensure_future(call("batch", patient=True)) for _ in range(3)]
        await asyncio.sleep(0)
        others = [asyncio.ensure_future(call("call", patient=False)) for _ in range(3)]
        await asyncio.sleep(0)
    await asyncio.gather(*patient, *others)
    assert served == ["call"] * 3 + ["batch"] * 3


async def test_while_patient_callers_hold_all_workers_there_is_one_more_for_the_others(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    pool, ends, held = make_pool(size=2), asyncio.Event(), 0

    async def hold() -> None:
        nonlocal held
        async with pool.lease(patient=True):
            held += 1
            await ends.wait()
            held -= 1

    patient = [asyncio.ensure_future(hold()) for _ in range(5)]
    await until(lambda: held == 2)
    for _ in range(3):
        async with pool.lease():
            assert (held, len(maker.made)) == (2, 3)
        await asyncio.sleep(0.01)
        assert held == 2
    ends.set()
    await asyncio.gather(*patient)
    assert len(maker.made) == 3


async def test_patient_callers_are_never_too_many_and_may_go_away(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(size=1, queue=0)
    async with pool.lease(patient=True):
        waiting = [asyncio.ensure_future(pool.lease(patient=True).__aenter__()) for _ in range(10)]
        await asyncio.sleep(0)
        for waiter in waiting:
            waiter.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    first = pool.lease(patient=True)
    await first.__aenter__()
    handed_over = asyncio.ensure_future(pool.lease(patient=True).__aenter__())
    await asyncio.sleep(0)
    await first.__aexit__(None, None, None)
    handed_over.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handed_over
    async with asyncio.timeout(1), pool.lease(patient=True):
        pass


async def test_without_a_queue_the_first_caller_still_gets_a_worker(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(size=1, queue=0)
    async with pool.lease():
        with pytest.raises(Busy):
            await pool.lease().__aenter__()


async def test_a_caller_who_goes_away_leaves_the_place_to_the_next(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(size=1)
    first = pool.lease()
    await first.__aenter__()
    gone = asyncio.ensure_future(pool.lease().__aenter__())
    stays = asyncio.ensure_future(pool.lease().__aenter__())
    await asyncio.sleep(0)
    gone.cancel()
    await first.__aexit__(None, None, None)
    assert await stays


async def test_a_worker_handed_over_to_someone_just_cancelled_is_not_lost(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(size=1)
    first = pool.lease()
    await first.__aenter__()
    gone = asyncio.ensure_future(pool.lease().__aenter__())
    await asyncio.sleep(0)
    await first.__aexit__(None, None, None)  # hands over
    gone.cancel()  # in the same breath
    with pytest.raises(asyncio.CancelledError):
        await gone
    async with asyncio.timeout(1), pool.lease():
        pass


async def test_a_worker_that_died_is_replaced_at_once(make_pool: Callable[..., Pool], maker: Maker) -> None:
    pool = make_pool(size=1)
    async with pool.lease() as worker:
        worker.lost = "it died"  # type: ignore[misc]
    async with asyncio.timeout(1), pool.lease() as other:
        assert other is not worker
    assert maker.made[0].closed


async def test_a_worker_that_died_at_rest_is_not_lent_out(make_pool: Callable[..., Pool], maker: Maker) -> None:
    pool = make_pool(size=1)
    async with pool.lease():
        pass
    maker.made[0].lost = "killed at night"
    async with asyncio.timeout(1), pool.lease() as other:
        assert not other.lost


async def test_everyone_who_waits_is_told_when_no_worker_can_be_started(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    pool = make_pool(size=2)
    maker.fault = CodeFailed("the snapshot does not load")
    results = await asyncio.gather(*(pool.lease().__aenter__() for _ in range(5)), return_exceptions=True)
    assert [str(result) for result in results] == ["the snapshot does not load"] * 5
    maker.fault = None
    async with asyncio.timeout(1), pool.lease():
        pass


async def test_closing_serves_those_who_wait_and_then_ends_all_workers(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    pool = make_pool(size=1)
    first = pool.lease()
    await first.__aenter__()
    second = pool.lease()
    waiting = asyncio.ensure_future(second.__aenter__())
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(pool.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await pool.lease().__aenter__()
    await first.__aexit__(None, None, None)
    await waiting
    assert not closing.done()
    await second.__aexit__(None, None, None)
    await closing
    assert maker.made[0].closed


async def test_a_worker_that_rests_too_long_ends_and_the_next_call_starts_another(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    pool = make_pool(size=2, retire_seconds=0.1)
    async with pool.lease(), pool.lease():
        pass
    async with pool.lease():
        await until(lambda: sum(worker.closed for worker in maker.made) == 1)
    await until(lambda: all(worker.closed for worker in maker.made))
    async with pool.lease() as worker:
        assert worker is maker.made[2]


async def test_a_worker_is_replaced_after_so_many_calls(make_pool: Callable[..., Pool], maker: Maker) -> None:
    pool = make_pool(size=1, max_calls=3)
    for _ in range(7):
        async with pool.lease():
            pass
    assert [worker.closed for worker in maker.made] == [True, True, False]


async def test_a_worker_that_grew_too_much_is_replaced(make_pool: Callable[..., Pool], maker: Maker) -> None:
    pool = make_pool(size=1, max_growth_bytes=1000)
    for calls in range(2 * CALLS_BETWEEN_WEIGHINGS + 2):
        async with pool.lease():
            maker.made[0].bytes = 5000 if calls <= CALLS_BETWEEN_WEIGHINGS else 6500
    assert [worker.closed for worker in maker.made] == [True, False]


# --- workers that are kept started


async def test_the_workers_to_be_kept_are_started_one_after_the_other_and_without_a_call(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    pool, most = make_pool(size=4, least=3), 0
    maker.seconds = 0.01
    pool.warm()
    while pool.usage().idle < 3:
        most = max(most, pool.usage().starting)
        await asyncio.sleep(0.001)
    assert (most, len(maker.made)) == (1, 3)
    assert pool.usage() == Usage(busy=0, idle=3, starting=0, waiting=0)


async def test_usage_tells_who_works_who_rests_and_who_waits(make_pool: Callable[..., Pool], maker: Maker) -> None:
    pool = make_pool(size=2)
    async with pool.lease():
        assert pool.usage() == Usage(busy=1, idle=0, starting=0, waiting=0)
        async with pool.lease():
            waiting = asyncio.ensure_future(pool.lease().__aenter__())
            await asyncio.sleep(0)
            assert pool.usage() == Usage(busy=2, idle=0, starting=0, waiting=1)
        await waiting
    assert pool.usage() == Usage(busy=1, idle=1, starting=0, waiting=0)


async def test_workers_to_be_kept_are_not_retired_and_others_are(make_pool: Callable[..., Pool], maker: Maker) -> None:
    pool = make_pool(size=3, least=1, retire_seconds=0.05)
    async with pool.lease(), pool.lease(), pool.lease():
        pass
    await until(lambda: sum(worker.closed for worker in maker.made) == 2)
    await asyncio.sleep(0.15)
    assert pool.usage().idle == 1
    pool.resize(0, 3)
    await until(lambda: all(worker.closed for worker in maker.made))


async def test_a_pool_made_smaller_ends_workers_as_they_become_free(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    pool = make_pool(size=4)
    async with pool.lease():
        async with pool.lease(), pool.lease():
            async with pool.lease():
                pass
            pool.resize(0, 2)
            assert pool.usage() == Usage(busy=3, idle=0, starting=0, waiting=0)
        assert pool.usage() == Usage(busy=1, idle=1, starting=0, waiting=0)
    await until(lambda: sum(worker.closed for worker in maker.made) == 2)


async def test_a_pool_made_larger_starts_workers_for_those_who_wait(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(size=1)
    async with pool.lease():
        waiting = [asyncio.ensure_future(pool.lease().__aenter__()) for _ in range(2)]
        await asyncio.sleep(0)
        pool.resize(0, 3)
        async with asyncio.timeout(1):
            await asyncio.gather(*waiting)


async def test_a_worker_that_died_at_rest_is_missed_when_someone_looks(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    pool = make_pool(size=2, least=1)
    pool.warm()
    await until(lambda: pool.usage().idle == 1)
    maker.made[0].lost = "killed at night"
    assert pool.usage() == Usage(busy=0, idle=0, starting=1, waiting=0)
    await until(lambda: pool.usage().idle == 1)


async def test_a_worker_to_be_kept_that_does_not_start_is_tried_again(
    make_pool: Callable[..., Pool], maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlhost.executors.pool.PATIENCE_SECONDS", 0.01)
    pool = make_pool(size=2, least=2)
    maker.fault = Busy("all workers run")
    pool.warm()
    await asyncio.sleep(0.05)
    assert pool.usage().idle == 0
    maker.fault = None
    await until(lambda: pool.usage().idle == 2)


async def test_a_pool_that_cannot_fill_itself_can_be_closed(make_pool: Callable[..., Pool], maker: Maker) -> None:
    pool = make_pool(size=2, least=2)
    maker.fault = Busy("all workers run")
    pool.warm()
    await asyncio.sleep(0.01)
    async with asyncio.timeout(1):
        await pool.close()
    assert maker.made == []


# --- trains


@pytest.fixture(autouse=True)
def _quick_is_quick_on_a_busy_machine_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlhost.executors.pool.QUICK_SECONDS", 10)


class Callers:
    """Calls of one pool of one worker or more, as they are made."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.tasks: list[asyncio.Task[object]] = []

    async def come(self, count: int, body: bytes = b"{}") -> list[Call]:
        calls = [Awaited(score, body) for _ in range(count)]
        self.tasks += [asyncio.ensure_future(run_on(self.pool, call)) for call in calls]
        for _ in range(3):
            await asyncio.sleep(0)
        return calls

    async def ride(self, worker: FakeWorker, count: int) -> list[Call]:
        """Calls that leave together, as they have waited for another one's end."""
        await self.come(1)
        calls = await self.come(count)
        worker.arrive()
        return calls


async def proven(pool: Pool, maker: Maker) -> Callers:
    """Callers of a pool whose calls have proven quick."""
    callers = Callers(pool)
    for _ in range(PROVEN_CALLS):
        await callers.come(1)
        await until(lambda: any(worker.train for worker in maker.made))
        next(worker for worker in maker.made if worker.train).arrive()
    return callers


async def test_calls_ride_together_only_once_they_have_proven_quick(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    callers = Callers(make_pool(size=1))
    await callers.come(PROVEN_CALLS + 20)
    await until(lambda: maker.made)
    [worker] = maker.made
    for _ in range(PROVEN_CALLS):
        assert len(worker.arrive()) == 1
    assert len(worker.arrive()) == TRAIN_CALLS
    assert len(worker.arrive()) == 20 - TRAIN_CALLS
    assert await asyncio.gather(*callers.tasks) == ["done"] * len(callers.tasks)


async def test_a_train_has_who_waited_longest_in_order_and_a_call_alone_does_not_wait_for_others(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    callers = await proven(make_pool(size=1), maker)
    [worker] = maker.made
    first = await callers.come(1)
    assert worker.aboard == 1
    calls = await callers.come(TRAIN_CALLS + 3)
    assert worker.arrive() == first
    assert worker.arrive() == calls[:TRAIN_CALLS]
    assert worker.arrive() == calls[TRAIN_CALLS:]


async def test_a_large_call_goes_alone(make_pool: Callable[..., Pool], maker: Maker) -> None:
    callers = await proven(make_pool(size=1), maker)
    [worker] = maker.made
    await callers.come(1)
    small, large, more = (
        await callers.come(2),
        await callers.come(1, bytes(RIDING_BYTES + 1)),
        await callers.come(2),
    )
    worker.arrive()
    assert [worker.arrive() for _ in range(3)] == [small, large, more]


async def test_each_worker_has_its_share(make_pool: Callable[..., Pool], maker: Maker) -> None:
    callers = Callers(make_pool(size=2))
    await callers.come(PROVEN_CALLS + 22)
    await until(lambda: len(maker.made) == 2)
    one, other = maker.made
    for _ in range(PROVEN_CALLS // 2):
        one.arrive(), other.arrive()
    assert one.aboard + other.aboard == 1 + 11
    other.arrive() if other.aboard == 1 else one.arrive()
    assert sorted((one.aboard, other.aboard)) == [10, 11]


async def test_who_waits_joins_a_train_that_is_nearly_over(make_pool: Callable[..., Pool], maker: Maker) -> None:
    callers = await proven(make_pool(size=1), maker)
    [worker] = maker.made
    calls = await callers.ride(worker, 4)
    assert not worker.is_early_wanted
    calls += await callers.come(TRAIN_CALLS + 4)
    assert worker.is_early_wanted
    worker.near_the_end()
    assert worker.aboard == TRAIN_CALLS
    assert worker.is_early_wanted
    worker.near_the_end()
    assert worker.aboard == 1 + 5
    assert not worker.is_early_wanted
    assert worker.arrive() == calls[-6:]
    assert await asyncio.gather(*callers.tasks) == ["done"] * len(callers.tasks)


async def test_a_train_is_told_of_those_who_wait_already_when_it_leaves(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    callers = await proven(make_pool(size=1), maker)
    [worker] = maker.made
    await callers.ride(worker, TRAIN_CALLS + 2)
    assert worker.is_early_wanted


async def test_no_more_than_a_workers_share_joins_its_train(make_pool: Callable[..., Pool], maker: Maker) -> None:
    callers = Callers(make_pool(size=2))
    await callers.come(PROVEN_CALLS + 10)
    await until(lambda: len(maker.made) == 2)
    one, other = maker.made
    for _ in range(PROVEN_CALLS // 2):
        one.arrive(), other.arrive()
    await callers.come(8)
    more, fewer = (one, other) if one.aboard > other.aboard else (other, one)
    assert (more.aboard, fewer.aboard) == (5, 1)  # and 12 wait
    more.near_the_end()
    assert more.aboard == 7
    more.arrive(), fewer.arrive()


async def test_workers_are_asked_to_tell_early_as_long_as_somebody_waits(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    pool = make_pool(size=2)
    callers = Callers(pool)
    await callers.come(PROVEN_CALLS)
    await until(lambda: len(maker.made) == 2)
    while any(worker.train for worker in maker.made):
        [worker.arrive() for worker in maker.made if worker.train]
    await callers.come(2)
    one, other = maker.made
    await callers.come(1)
    assert one.is_early_wanted
    assert other.is_early_wanted
    one.arrive()
    other.arrive()
    assert pool.usage() == Usage(busy=1, idle=1, starting=0, waiting=0)
    one.is_early_wanted = other.is_early_wanted = False
    await callers.come(TRAIN_CALLS + 6)  # gathered, as one worker was free, and more than it takes
    assert one.is_early_wanted
    assert other.is_early_wanted
    while one.train or other.train:
        [worker.arrive() for worker in maker.made if worker.train]


async def test_callers_whose_worker_cannot_be_sent_anything_are_all_told_and_the_pool_goes_on(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    pool = make_pool(size=1, queue=3000)
    callers = Callers(pool)
    async with pool.lease():
        await callers.come(2000)
        maker.made[0].fault = Unavailable("It has been unplugged.")
    told = await asyncio.gather(*callers.tasks, return_exceptions=True)
    assert {str(each) for each in told} == {"It has been unplugged."}
    maker.made[0].fault = None
    await callers.come(1)
    assert len(maker.made[0].arrive()) == 1


async def test_nobody_joins_a_train_whose_worker_somebody_else_is_to_have(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    pool = make_pool(size=1)
    callers = await proven(pool, maker)
    [worker] = maker.made
    await callers.ride(worker, 4)

    async def patient() -> None:
        async with pool.lease(patient=True):
            pass

    waiting = asyncio.ensure_future(patient())
    await asyncio.sleep(0)
    await callers.come(2)
    worker.near_the_end()
    assert worker.aboard == 1
    assert worker.arrive()
    worker.arrive()
    await waiting


async def test_a_large_call_does_not_join_and_nobody_overtakes_it(make_pool: Callable[..., Pool], maker: Maker) -> None:
    callers = await proven(make_pool(size=1), maker)
    [worker] = maker.made
    await callers.ride(worker, 4)
    small, large, more = (
        await callers.come(2),
        await callers.come(1, bytes(RIDING_BYTES + 1)),
        await callers.come(2),
    )
    worker.near_the_end()
    assert worker.aboard == 3
    worker.near_the_end()
    assert worker.aboard == 1
    assert [worker.arrive() for _ in range(3)] == [small[1:], large, more]


async def test_what_comes_back_is_next(make_pool: Callable[..., Pool], maker: Maker) -> None:
    callers = await proven(make_pool(size=1), maker)
    [worker] = maker.made
    calls = await callers.ride(worker, 10)
    later = await callers.come(2)
    assert worker.arrive(*calls[4:]) == calls
    assert worker.arrive() == calls[4:] + later
    assert await asyncio.gather(*callers.tasks) == ["done"] * len(callers.tasks)


async def test_what_comes_back_goes_to_a_worker_that_is_free(make_pool: Callable[..., Pool], maker: Maker) -> None:
    callers = await proven(make_pool(size=1), maker)
    [worker] = maker.made
    calls = await callers.ride(worker, 3)
    callers.pool.resize(0, 2)
    assert worker.train is not None
    assert worker.train.owner is not None
    worker.train.leave(1)
    worker.train.owner.on_back(calls[1:])
    await until(lambda: len(maker.made) == 2)
    await until(lambda: maker.made[1].train)
    assert maker.made[1].arrive() == calls[1:]


async def test_calls_ride_together_while_they_are_quick_on_average(
    make_pool: Callable[..., Pool], maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlhost.executors.pool.QUICK_SECONDS", 0.002)
    seconds = 0.0
    monkeypatch.setattr("mlhost.executors.pool.perf_counter", lambda: seconds)
    callers = await proven(make_pool(size=1), maker)
    [worker] = maker.made
    for taken, ride in ((0.01, True), (1.0, False)):
        await callers.come(1)
        seconds += taken
        worker.arrive()
        await callers.come(1)
        waiting = await callers.come(2)
        worker.arrive()
        assert (worker.arrive() == waiting) is ride
        if worker.train:
            worker.arrive()
    for _ in range(3 * PROVEN_CALLS):
        await callers.come(1)
        worker.arrive()
    waiting = await callers.ride(worker, 2)
    assert worker.arrive() == waiting


async def test_who_has_been_sent_behind_others_still_waits(make_pool: Callable[..., Pool], maker: Maker) -> None:
    pool = make_pool(size=1, queue=10)
    callers = await proven(pool, maker)
    [worker] = maker.made
    await callers.ride(worker, 10)
    assert worker.aboard == 10
    assert pool.usage() == Usage(busy=1, idle=0, starting=0, waiting=9)
    await callers.come(1)
    with pytest.raises(Busy):
        await run_on(pool, Awaited(score, b"{}"))


async def test_queue_and_run_times_of_a_train_are_those_of_its_calls(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    pool = make_pool(size=1)
    callers = await proven(pool, maker)
    [worker] = maker.made
    calls, queued, ran = pool.times.calls, pool.times.queue_seconds, pool.times.run_seconds
    await callers.ride(worker, 4)
    await asyncio.sleep(0.1)
    worker.arrive()
    assert pool.times.calls - calls == 5
    assert pool.times.run_seconds - ran == pytest.approx(0.1, abs=0.05)
    assert pool.times.queue_seconds - queued == pytest.approx(4 * 0.1 * 3 / 8, abs=0.05)


async def test_queue_and_run_times_are_those_of_the_calls_that_joined_too(
    make_pool: Callable[..., Pool], maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("mlhost.executors.pool.perf_counter", lambda: now)
    monkeypatch.setattr("mlhost.executors.trains.perf_counter", lambda: now)
    pool = make_pool(size=1)
    callers = await proven(pool, maker)
    [worker] = maker.made
    calls = pool.times.calls
    await callers.ride(worker, 3)
    assert (pool.times.queue_seconds, pool.times.run_seconds) == (0, 0)
    now = 0.2
    await callers.come(1)
    now = 0.4
    worker.near_the_end()  # two calls of 0.2 s, the second of which has waited for the first
    assert (pool.times.queue_seconds, pool.times.run_seconds) == pytest.approx((0.2, 0.4))
    now = 0.5
    await callers.come(1)
    assert worker.train is not None
    assert worker.train.owner is not None
    worker.train.owner.on_nearly_over(worker.train)
    now = 0.8
    worker.arrive()  # three more: they have waited for 0.4, 0.2 and no seconds, and for the ones before them
    assert pool.times.calls - calls == 6
    assert (pool.times.queue_seconds, pool.times.run_seconds) == pytest.approx((0.2 + 0.4 + 0.2 + 0.4, 0.8))


async def test_a_worker_is_replaced_after_so_many_calls_however_they_came(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    callers = await proven(make_pool(size=1, max_calls=PROVEN_CALLS + 4), maker)
    [worker] = maker.made
    await callers.ride(worker, 6)
    assert len(worker.arrive()) == 3
    await until(lambda: len(maker.made) == 2)
    assert worker.closed


async def test_a_caller_who_goes_away_while_waiting_is_not_taken_along(
    make_pool: Callable[..., Pool], maker: Maker
) -> None:
    callers = await proven(make_pool(size=1), maker)
    [worker] = maker.made
    await callers.come(1)
    calls = await callers.come(4)
    callers.tasks[-2].cancel()
    await asyncio.sleep(0)
    worker.arrive()
    assert worker.arrive() == [calls[0], calls[1], calls[3]]
