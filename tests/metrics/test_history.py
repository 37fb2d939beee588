"""What is counted of calls, and how it is told step after step."""

import asyncio
import math
import random
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from time import monotonic, sleep, thread_time, time

import pytest

import mlhost.metrics as metrics_module
from mlhost.errors import Busy, Invalid, NotFound
from mlhost.metrics import Gauges, Metrics, Series
from mlhost.metrics.recent import COARSE_EVERY, COARSE_STEPS, FINE_STEPS, STEP_SECONDS
from mlhost.metrics.tally import BOUNDS, CODE_FAILED, Timings, quantile

COARSE_SECONDS = STEP_SECONDS * COARSE_EVERY


class Clock:
    """Goes on when it is told to; it begins where a step does, and a coarse step."""

    def __init__(self) -> None:
        self.now = 100.0 * COARSE_SECONDS

    def __call__(self) -> float:
        return self.now


class Time:
    """Metrics whose time is made."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics(self.clock)
        self.iris = self.metrics.meter("Iris", "1")

    def pass_steps(self, count: int = 1) -> None:
        for _ in range(count):
            self.clock.now += STEP_SECONDS
            self.metrics.end_step()

    def history(self, service: str | None = None, version: str | None = None, seconds: float = 900) -> Series:
        return self.metrics.history(service, version, seconds)


@pytest.fixture
def time_made() -> Iterator[Time]:
    yield Time()


# --- quantiles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.99, 1.0])
def test_a_quantile_is_wrong_by_no_more_than_a_bucket(share: float) -> None:
    chance = random.Random(share)
    times, timings = sorted(math.exp(chance.gauss(-5, 1.5)) for _ in range(5000)), Timings()
    for seconds in times:
        timings.add(seconds)
    told, true = quantile(timings.buckets, share), times[math.ceil(share * len(times)) - 1]
    assert told is not None
    assert 1 / 1.28 < told / true < 1.28


def test_the_quantile_of_nothing_is_none_and_of_what_took_too_long_the_last_bound() -> None:
    assert quantile(Timings().buckets, 0.5) is None
    timings = Timings()
    timings.add(1e6)
    assert quantile(timings.buckets, 0.5) == BOUNDS[-1] == 100.0


def test_a_time_that_equals_a_bound_is_within_it_as_prometheus_has_it() -> None:
    timings = Timings()
    timings.add(0.001)
    assert timings.buckets[BOUNDS.index(0.001)] == 1


def test_the_bounds_are_ten_to_a_decade() -> None:
    steps = [after / before for before, after in pairwise(BOUNDS)]
    assert max(steps) < 1.29
    assert min(steps) > 1.24


# --- history ---------------------------------------------------------------------------------------------------------


def test_calls_are_told_in_the_step_they_fell_in(time_made: Time) -> None:
    calls = time_made.iris.calls
    for _ in range(10):
        calls.answer(0.001)
    time_made.pass_steps()
    calls.answer(0.1, CODE_FAILED)
    calls.refuse(Busy("full"))
    time_made.pass_steps(2)
    told = time_made.history("Iris", "1")
    assert told.requests == [2.0, 0.4, 0.0]
    assert told.errors == [0.0, 0.4, 0.0]
    assert told.p50_ms == [pytest.approx(0.9, rel=0.1), pytest.approx(90, rel=0.1), None]
    assert told.p99_ms == [pytest.approx(1.0, rel=0.1), pytest.approx(100, rel=0.1), None]
    assert [after - before for before, after in pairwise(told.times)] == pytest.approx([STEP_SECONDS] * 2)
    assert told.times[-1] == pytest.approx(time(), abs=1)
    assert told.step_seconds == STEP_SECONDS


def test_what_was_waited_is_told_apart_for_those_that_were_answered(time_made: Time) -> None:
    for waited in (0.1, 0.3):
        time_made.iris.queue.add(waited)
        time_made.iris.calls.answer(0.5)
    time_made.iris.calls.refuse(Busy("full"))
    time_made.pass_steps()
    assert time_made.history("Iris").queue_ms == [pytest.approx(200)]


def test_compiled_models_count_as_requests_and_records_of_batches_do_not(time_made: Time) -> None:
    time_made.iris.compiled.answer(0.00002)
    time_made.iris.records.answer(5.0)
    time_made.pass_steps()
    told = time_made.history("Iris", "1")
    assert told.requests == [1 / STEP_SECONDS]
    assert told.p99_ms == [pytest.approx(0.02, rel=0.1)]
    assert time_made.metrics.now().requests == 1


def test_versions_add_up_to_their_service_and_all_services_to_the_whole(time_made: Time) -> None:
    other, foreign = time_made.metrics.meter("Iris", "2"), time_made.metrics.meter("Other", "1")
    for meter, seconds, count in ((time_made.iris, 0.001, 98), (other, 1.0, 2), (foreign, 0.01, 100)):
        for _ in range(count):
            meter.calls.answer(seconds)
    time_made.pass_steps()
    per_second = {key: time_made.history(*key).requests[0] * STEP_SECONDS for key in (("Iris",), ("Iris", "2"), ())}
    assert per_second == {("Iris",): 100, ("Iris", "2"): 2, (): 200}
    assert time_made.history("Iris").p50_ms == [pytest.approx(0.9, rel=0.1)]
    assert time_made.history("Iris").p99_ms == [pytest.approx(900, rel=0.1)]  # of all calls, not the mean of quantiles
    assert time_made.history().p99_ms == [pytest.approx(10, rel=0.1)]


def test_fine_steps_go_back_a_quarter_of_an_hour_and_coarse_ones_a_day(time_made: Time) -> None:
    steps = (COARSE_STEPS + 3) * COARSE_EVERY
    for _ in range(steps):
        time_made.iris.calls.answer(0.01)
        time_made.pass_steps()
    fine, coarse = time_made.history("Iris", "1", 900), time_made.history("Iris", "1", 1e9)
    assert (len(fine.times), fine.step_seconds) == (FINE_STEPS, STEP_SECONDS) == (180, 5)
    assert (len(coarse.times), coarse.step_seconds) == (COARSE_STEPS, COARSE_SECONDS) == (288, 300)
    assert set(fine.requests) == set(coarse.requests) == {1 / STEP_SECONDS}
    assert fine.times[-1] == pytest.approx(coarse.times[-1], abs=0.1) == pytest.approx(time(), abs=1)
    assert time_made.history("Iris", "1", 60).times == pytest.approx(fine.times[-12:], abs=0.1)
    assert time_made.history(None, None, 3600).requests == [1 / STEP_SECONDS] * 12


def test_restarts_of_workers_are_told_in_their_step_also_without_a_call(time_made: Time) -> None:
    time_made.iris.restarts["lost"] += 2
    time_made.pass_steps(2)
    time_made.iris.restarts["max_calls"] += 1
    time_made.iris.calls.answer(0.1)
    time_made.pass_steps(COARSE_EVERY)
    for key in ((), ("Iris",), ("Iris", "1")):
        assert time_made.history(*key).restarts == [2, 0, 1, *[0] * (COARSE_EVERY - 1)]
    assert time_made.history("Iris", "1", 86_400).restarts == [3]


def test_a_history_begins_with_the_server_and_has_no_points_before_a_step_has_ended(time_made: Time) -> None:
    assert time_made.history().times == time_made.history("Iris", "1", 86_400).times == []
    time_made.pass_steps(3)
    assert time_made.history("Iris", "1").requests == [0.0] * 3


def test_a_step_that_the_server_slept_through_stays_empty(time_made: Time) -> None:
    time_made.iris.calls.answer(0.01)
    time_made.clock.now += 3.4 * STEP_SECONDS
    time_made.metrics.end_step()
    assert time_made.history("Iris").requests == [0.2, 0.0, 0.0]
    time_made.iris.calls.answer(0.01)
    time_made.pass_steps()
    assert time_made.history("Iris").requests == [0.2, 0.0, 0.0, 0.2]


def test_a_deleted_version_is_gone_but_for_the_totals(time_made: Time) -> None:
    time_made.iris.calls.answer(0.01)
    time_made.pass_steps()
    time_made.iris.calls.refuse(Busy("full"))  # in no step yet
    time_made.metrics.forget("Iris", "1")
    time_made.metrics.forget("Iris", "1")
    time_made.pass_steps()
    assert time_made.history().requests == [0.2, 0.2]
    assert time_made.history().errors == [0.0, 0.2]
    now = time_made.metrics.now()
    assert (now.requests, now.errors) == (2, 1)
    with pytest.raises(NotFound, match="no service 'Iris' with version '1'"):
        time_made.history("Iris", "1")
    with pytest.raises(NotFound, match=r"no service 'Iris'\."):
        time_made.history("Iris")
    time_made.metrics.meter("Iris", "1")
    assert time_made.history("Iris", "1").requests == [0.0, 0.0]


def test_a_version_needs_its_service_s_name(time_made: Time) -> None:
    with pytest.raises(Invalid) as refused:
        time_made.history(None, "1")
    assert refused.value.details["field"] == "service"


def test_now_tells_what_the_gauges_read(time_made: Time) -> None:
    time_made.metrics._gauges = Gauges(lambda: 1, lambda: 2, lambda: 3, lambda: 4)
    time_made.clock.now += 12.5
    now = time_made.metrics.now()
    assert (now.uptime_seconds, now.sessions, now.workers, now.batches, now.memory_bytes) == (12.5, 1, 2, 3, 4)


async def test_what_holds_the_event_loop_up_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "LOOK_SECONDS", 0.05)
    metrics = Metrics()
    metrics.watch(Gauges(int, int, int, int))
    await asyncio.sleep(0.2)
    looks = sum(metrics.lateness.buckets)
    sleep(0.3)
    await asyncio.sleep(0.06)
    await metrics.close()
    assert 1 <= looks <= 5
    assert (quantile(metrics.lateness.buckets, 1.0) or 0) > 0.2


async def test_steps_end_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "LOOK_SECONDS", 0.02)
    start, clock = monotonic(), Clock()
    metrics = Metrics(lambda: clock.now + 50 * (monotonic() - start))
    metrics.watch(Gauges(int, int, int, int))
    metrics.meter("Iris", "1").calls.answer(0.1)
    await asyncio.sleep(0.35)  # 17.5 of its seconds
    told = metrics.history("Iris")
    await metrics.close()
    assert sum(told.requests) == 1 / STEP_SECONDS
    assert len(told.times) >= 3


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_a_thousand_services_cost_little_until_they_are_called(time_made: Time) -> None:
    tracemalloc.start()
    meters = [time_made.metrics.meter(f"service-{number}", "1") for number in range(1000)]
    time_made.pass_steps(2)
    never_called = tracemalloc.get_traced_memory()[0]
    for meter in meters:
        meter.calls.answer(0.01)
    time_made.pass_steps(2)
    called = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert never_called < 2_500_000
    assert called < 10_000_000


def test_a_step_of_a_thousand_services_that_are_all_called_does_not_hold_up_the_loop(time_made: Time) -> None:
    meters = [time_made.metrics.meter(f"service-{number}", "1") for number in range(1000)]
    taken = []
    for _ in range(3):
        for number, meter in enumerate(meters):
            meter.calls.answer(0.001 * (number % 20 + 1))
        started = thread_time()
        time_made.pass_steps()
        taken.append(thread_time() - started)
    assert min(taken) < 0.1
