"""Several calls sent to a worker in one go: each is answered by itself, and none harms another."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mlhost.errors import CodeFailed, WorkerLost
from mlhost.executors import Executor, Worker, kernel
from mlhost.executors.board import BYTES
from mlhost.executors.calling import CallingWorker
from mlhost.executors.forking import ProcessSettings
from mlhost.executors.inline import InlineExecutor
from mlhost.executors.pool import Pool, PoolSettings
from mlhost.executors.process import ProcessExecutor
from mlhost.executors.trains import TRAIN_CALLS, Awaited, Call, Train
from mlhost.executors.wire import RING_SECONDS
from mlhost.runtime import program
from mlhost.runtime.program import ProgramSpec, prepare
from tests.parts import run_on, until

pytestmark = pytest.mark.untraced
beside_host = pytest.mark.skipif(kernel.processors() == 1, reason="the server and its worker take turns")
# What a call does besides answering with its number, which it writes down first.
CODE = """
os.write(ledger, b'%d\\n' % number)
if does == 'print':
    print('printed', number)
elif does == 'shout':
    os.write(2, b'shouted %d\\n' % number)
elif does == 'raise':
    raise ValueError(f'raised {number}')
elif does == 'sleep':
    time.sleep(pause)
elif does == 'spin':
    end = time.monotonic() + pause
    while time.monotonic() < end: pass
elif does == 'wait':
    while not os.path.exists(f'{ledger_path}.{int(pause)}'): time.sleep(0.0005)
elif does == 'die':
    os._exit(3)
elif does == 'ignore':
    signal.signal(signal.SIGINT, signal.SIG_IGN)
answer = number if does != 'much' else 'x' * int(pause)
"""
INIT = """
import os, signal, time
ledger_path = {!r}
ledger = os.open(ledger_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
"""
RING_LATE = "from mlhost.executors import wire\nwire.RING_SECONDS = 60\n"  # from the next train on
# What code may do with the memory it shares with the host, if it means harm.
BOARD = """
import threading
from mlhost.executors import board, wire
from mlhost.runtime import interrupt
shared = interrupt.main_gate().order.__self__
"""
CUT_OFF = f"""{BOARD}
frame = wire.pack([wire.NO_CALL, None, bytes(board.BYTES - board.HEAD_BYTES - 14)])
shared.keep(frame)
shared._words[board.KEPT] = board.BYTES
os._exit(1)
"""
RUN_AHEAD = f"""{BOARD}
def run():
    while True:
        shared._words[board.BEGUN] += 1
        time.sleep(0.0005)
threading.Thread(target=run, daemon=True).start()
while True: time.sleep(0.001)
"""
WIPE = f"""{BOARD}
shared._memory[:] = bytes(board.BYTES)
while True: pass
"""
SAY_LEFT = f"""{BOARD}
shared._words[board.LEFT] = interrupt.main_gate().running
os.write(3, wire.BELL)
time.sleep(0.1)
answer = number
"""
WEIGHTS = {"nothing": 40, "print": 3, "shout": 3, "raise": 3, "sleep": 3, "spin": 3, "die": 1, "much": 3}
SENT, JOINED, TOLD, LATER = range(4)  # what happens to a train
INPUTS = [("number", "integer"), ("does", "character"), ("pause", "numeric")]


class Owner:
    """Sends calls by themselves, and keeps what it is told."""

    has_more = False

    def __init__(self) -> None:
        self.back: list[Call] = []
        self.over = asyncio.Event()

    def on_back(self, calls: list[Call]) -> None:
        self.back += calls

    def on_nearly_over(self, train: Train) -> None:
        pass

    def on_over(self, train: Train) -> None:
        self.over.set()

    async def send(self, worker: Worker, *deeds: tuple[str, float]) -> list[Call]:
        """Calls numbered from 1 on, after all that began are answered."""
        calls = [call(number, *deed) for number, deed in enumerate(deeds, 1)]
        worker.run(calls, self)
        await self.over.wait()
        return calls


class Feeder(Owner):
    """Has calls join a train of two, the first of which waits for it: all that are left, or so many at once."""

    has_more = True

    def __init__(self, worker: Worker, ledger: Path, *deeds: tuple[str, float], at_once: int = 100) -> None:
        super().__init__()
        self.worker = worker
        self.ledger = ledger
        self.calls = [call(number, *deed) for number, deed in enumerate([wait_for(SENT), *deeds], 1)]
        self.at_once = at_once
        self.sent = 2
        self.aboard: list[int] = []  # whenever calls could join

    def on_nearly_over(self, train: Train) -> None:
        self.aboard.append(self.worker.aboard)
        if more := self.calls[self.sent : self.sent + self.at_once]:
            self.sent += len(more)
            self.worker.join(more)
        self.worker.tell_early(self.sent < len(self.calls))
        let(self.ledger, JOINED)

    async def feed(self) -> None:
        """Until the train is over."""
        self.worker.run(self.calls[:2], self)
        self.worker.tell_early(True)
        await asyncio.sleep(2 * RING_SECONDS)  # after which it tells even where it could not early
        let(self.ledger, SENT)
        await self.over.wait()


def wait_for(event: int) -> tuple[str, float]:
    """What a call does that ends once a test says that something has happened."""
    return "wait", event


def let(ledger: Path, event: int) -> None:
    Path(f"{ledger}.{event}").touch()


def call(number: int, does: str = "nothing", pause: float = 0) -> Call:
    return Awaited(program.score, json.dumps({"number": number, "does": does, "pause": pause}).encode())


def told(answered: Call) -> Any:
    answer = json.loads(answered.reply.result())
    [value] = answer["outputParameters"].get("answer", [answer["errorMessage"]])
    return value


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, no call is taken for a slow one."""
    monkeypatch.setattr("mlhost.executors.calling.SLOW_SECONDS", 2)


@pytest.fixture(scope="module")
async def inline(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Executor]:
    executor = InlineExecutor(tmp_path_factory.mktemp("inline"))
    yield executor
    await executor.close()


@pytest.fixture(params=["process", "inline"])
def placed(request: pytest.FixtureRequest, executor: Executor, inline: Executor) -> Executor:
    return {"process": executor, "inline": inline}[request.param]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Where each call that is run leaves its number."""
    return tmp_path / "ledger"


async def open_worker(executor: Executor, ledger: Path, deadline_seconds: float = 5, code: str = CODE) -> Worker:
    worker = await executor.open(deadline_seconds=deadline_seconds)
    spec = ProgramSpec(
        code=code, init_code=INIT.format(str(ledger)), inputs=INPUTS, outputs=[("answer", "vector")], files=[]
    )
    await worker.call(prepare, spec)
    return worker


def numbers(ledger: Path) -> list[int]:
    return [int(line) for line in ledger.read_text().split()]


@pytest.fixture
async def worker(placed: Executor, ledger: Path) -> AsyncIterator[Worker]:
    worker = await open_worker(placed, ledger)
    yield worker
    await worker.close(force=True)


@pytest.fixture
async def process(executor: Executor, ledger: Path) -> AsyncIterator[Worker]:
    """A worker that may die."""
    worker = await open_worker(executor, ledger)
    yield worker
    await worker.close(force=True)


NOTHING = ("nothing", 0.0)


@pytest.mark.usefixtures("patience")
async def test_the_calls_of_a_train_are_run_in_order_and_answered_each_by_itself(worker: Worker, ledger: Path) -> None:
    for _ in range(20):
        owner = Owner()
        calls = await owner.send(worker, *[NOTHING] * TRAIN_CALLS)
        assert [told(each) for each in calls] == list(range(1, TRAIN_CALLS + 1))
        assert not owner.back
    assert numbers(ledger) == list(range(1, TRAIN_CALLS + 1)) * 20


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize(("does", "printed"), [("print", "printed 3\n"), ("shout", "shouted 3\n")])
async def test_what_is_printed_is_that_calls_and_the_rest_goes_back(
    process: Worker, ledger: Path, does: str, printed: str
) -> None:
    owner = Owner()
    calls = await owner.send(process, NOTHING, NOTHING, (does, 0), NOTHING, NOTHING)
    assert [each.console for each in calls] == ["", "", printed, "", ""]
    assert owner.back == calls[3:]
    assert numbers(ledger) == [1, 2, 3]


@pytest.mark.usefixtures("patience")
async def test_what_is_printed_on_a_thread_is_that_calls_too(worker: Worker, ledger: Path) -> None:
    owner = Owner()
    calls = await owner.send(worker, NOTHING, ("print", 0), NOTHING)
    assert [each.console for each in calls] == ["", "printed 2\n", ""]
    assert owner.back == calls[2:]
    assert numbers(ledger) == [1, 2]


@pytest.mark.usefixtures("patience")
async def test_an_error_is_its_own_callers(worker: Worker) -> None:
    owner = Owner()
    calls = await owner.send(worker, NOTHING, ("raise", 0), NOTHING)
    assert [told(each) for each in calls[:2]] == [1, "ValueError: raised 2"]
    assert calls[1].console.endswith("ValueError: raised 2\n")
    assert owner.back == calls[2:]


async def test_a_slow_call_lets_those_before_it_be_answered_and_those_behind_it_go(
    worker: Worker, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlhost.executors.calling.SLOW_SECONDS", 0.1)
    owner = Owner()
    calls = [call(1), call(2, "sleep", 1.0), call(3), call(4)]
    worker.run(calls, owner)
    await until(lambda: owner.back, 0.8)
    assert owner.back == calls[2:]
    assert [each.done() for each in calls] == [True, False, False, False]
    assert worker.aboard == 1
    await owner.over.wait()
    assert told(calls[1]) == 2
    assert numbers(ledger) == [1, 2]
    assert [told(each) for each in await Owner().send(worker, NOTHING, NOTHING)] == [1, 2]


@pytest.mark.usefixtures("patience")
async def test_a_long_train_of_calls_that_are_not_slow_arrives_whole(worker: Worker) -> None:
    owner = Owner()
    calls = await owner.send(worker, *[("spin", 0.002)] * TRAIN_CALLS)
    assert [told(each) for each in calls] == list(range(1, TRAIN_CALLS + 1))
    assert not owner.back


@pytest.mark.usefixtures("patience")
async def test_answers_do_not_wait_for_the_end_of_a_long_train(worker: Worker) -> None:
    owner = Owner()
    calls = [call(number, "spin", 0.002) for number in range(TRAIN_CALLS)]
    worker.run(calls, owner)
    await calls[2].reply
    assert not calls[-1].done()
    await owner.over.wait()


@pytest.mark.usefixtures("patience")
async def test_calls_that_join_a_train_are_run_behind_it_in_order_and_answered_each_by_itself(
    process: Worker, ledger: Path
) -> None:
    feeder = Feeder(process, ledger, wait_for(JOINED), *[NOTHING] * 88)
    await feeder.feed()
    assert feeder.sent == 90
    assert [told(each) for each in feeder.calls] == numbers(ledger) == list(range(1, 91))
    assert not feeder.back


@beside_host
@pytest.mark.usefixtures("patience")
async def test_calls_can_join_while_the_last_one_of_the_train_runs(executor: Executor, ledger: Path) -> None:
    worker = await open_worker(executor, ledger, code=RING_LATE + CODE)
    await Owner().send(worker, NOTHING)
    feeder = Feeder(worker, ledger, wait_for(TOLD), NOTHING)
    feeding = asyncio.ensure_future(feeder.feed())
    await until(lambda: feeder.sent == 3)
    assert feeder.aboard == [1]
    let(ledger, TOLD)
    await feeding
    assert [told(each) for each in feeder.calls] == [1, 2, 3]
    await worker.close(force=True)


@pytest.mark.usefixtures("patience")
async def test_an_answer_does_not_wait_for_a_call_that_has_joined_behind_it(process: Worker, ledger: Path) -> None:
    feeder = Feeder(process, ledger, wait_for(TOLD), wait_for(LATER), NOTHING)
    feeding = asyncio.ensure_future(feeder.feed())
    await until(lambda: feeder.sent == 4)
    await asyncio.sleep(2 * RING_SECONDS)
    let(ledger, TOLD)
    await until(feeder.calls[1].done, seconds=1)
    let(ledger, LATER)
    await feeding


@pytest.mark.usefixtures("patience")
async def test_calls_that_join_give_a_worker_no_time_for_those_it_has_answered(process: Worker, ledger: Path) -> None:
    feeder = Feeder(process, ledger, wait_for(TOLD), *[NOTHING] * 10)
    feeding = asyncio.ensure_future(feeder.feed())
    await until(lambda: feeder.sent == 12)
    left = process._deadline - asyncio.get_running_loop().time()  # type: ignore[attr-defined]
    assert process.aboard == 11
    assert left <= 11 * process.deadline_seconds
    let(ledger, TOLD)
    await feeding


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("does", ["print", "raise"])
async def test_what_has_joined_a_train_that_ends_early_goes_back_and_is_not_run(
    process: Worker, ledger: Path, does: str
) -> None:
    feeder = Feeder(process, ledger, wait_for(TOLD), (does, 0), NOTHING, NOTHING, at_once=1)
    feeding = asyncio.ensure_future(feeder.feed())
    await until(lambda: feeder.sent == 3)
    for each in feeder.calls[3:]:
        process.join([each])
    let(ledger, TOLD)
    await feeding
    assert feeder.back == feeder.calls[3:]
    feeder.over.clear()
    process.run(feeder.back, feeder)  # nothing of the old train is in the way
    await feeder.over.wait()
    assert numbers(ledger) == [1, 2, 3, 4, 5]


async def test_what_has_joined_behind_a_slow_call_goes_back_and_is_not_run(process: Worker, ledger: Path) -> None:
    feeder = Feeder(process, ledger, wait_for(TOLD), NOTHING, NOTHING)
    feeding = asyncio.ensure_future(feeder.feed())
    await until(lambda: bool(feeder.back))
    assert feeder.back == feeder.calls[2:]
    let(ledger, TOLD)
    await feeding
    feeder.over.clear()
    process.run(feeder.back, feeder)
    await feeder.over.wait()
    assert [told(each) for each in feeder.calls] == numbers(ledger) == [1, 2, 3, 4]


@pytest.mark.usefixtures("patience")
async def test_a_train_that_others_join_comes_to_an_end_some_time(
    process: Worker, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlhost.executors.trains.JOINABLE_CALLS", 4)
    feeder = Feeder(process, ledger, wait_for(JOINED), *[NOTHING] * 20, at_once=5)
    await feeder.feed()
    assert feeder.sent == 7
    assert [told(each) for each in feeder.calls[:7]] == numbers(ledger) == list(range(1, 8))


async def test_a_death_is_told_to_the_one_whose_call_it_was(process: Worker, ledger: Path) -> None:
    owner = Owner()
    calls = await owner.send(process, NOTHING, NOTHING, ("die", 0), NOTHING)
    assert [told(each) for each in calls[:2]] == [1, 2]
    assert isinstance(calls[2].reply.exception(), WorkerLost)
    assert owner.back == calls[3:]
    assert numbers(ledger) == [1, 2, 3]
    with pytest.raises(WorkerLost):
        process.run([call(5)], owner)


@pytest.mark.usefixtures("patience")
async def test_a_worker_closed_by_force_gives_back_what_has_not_begun(worker: Worker, ledger: Path) -> None:
    owner = Owner()
    calls = [call(1), call(2, "sleep", 0.3), call(3), call(4)]
    worker.run(calls, owner)
    await until(lambda: ledger.exists() and numbers(ledger) == [1, 2])
    await worker.close(force=True)
    assert told(calls[0]) == 1
    assert isinstance(calls[1].reply.exception(), WorkerLost)
    assert owner.back == calls[2:]
    await asyncio.sleep(0.4)
    assert numbers(ledger) == [1, 2]


async def test_a_deadline_is_that_of_one_call_and_not_of_the_train(
    placed: Executor, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlhost.executors.calling.SLOW_SECONDS", 0.15)
    worker, owner = await open_worker(placed, ledger, 0.4), Owner()
    calls = [call(number, "sleep", 0.1) for number in range(8)]
    calls += [call(8, "spin", 5), call(9)]
    began = time.monotonic()
    worker.run(calls, owner)
    await owner.over.wait()
    assert time.monotonic() - began > 0.4
    assert [told(each) for each in calls[:8]] == list(range(8))
    assert isinstance(fault := calls[8].reply.exception(), CodeFailed)
    assert fault.message == "Stopped after 0.4 seconds, the time one call may take."
    assert owner.back == calls[9:]
    assert [told(each) for each in await Owner().send(worker, NOTHING)] == [1]
    await worker.close(force=True)


@pytest.mark.usefixtures("patience")
async def test_a_caller_who_goes_away_from_a_running_call_stops_it_and_no_other(worker: Worker, ledger: Path) -> None:
    owner = Owner()
    calls = [call(1), call(2, "spin", 5), call(3)]
    worker.run(calls, owner)
    await until(lambda: ledger.exists() and numbers(ledger) == [1, 2])
    calls[1].reply.cancel()
    worker.abandon(calls[1])
    await asyncio.wait_for(owner.over.wait(), 1)
    assert told(calls[0]) == 1
    assert owner.back == calls[2:]
    assert not worker.lost


async def test_a_caller_who_goes_away_before_the_call_has_begun_disturbs_nobody(worker: Worker) -> None:
    chance = random.Random(5)
    for _ in range(100):
        owner = Owner()
        calls = [call(number, "spin", 0.0002) for number in range(8)]
        gone = chance.randrange(8)
        worker.run(calls, owner)
        await asyncio.sleep(chance.random() * 0.003)
        calls[gone].reply.cancel()
        worker.abandon(calls[gone])
        await owner.over.wait()
        for number, each in enumerate(calls):
            if number != gone and each not in owner.back:
                assert told(each) == number
    assert not worker.lost


async def test_interrupts_at_random_hit_no_call_but_the_one_they_name(worker: Worker) -> None:
    """The host is often mistaken about what runs now; the worker is not."""
    chance = random.Random(3)
    hits = 0
    for _ in range(100):
        owner = Owner()
        calls = [call(number, "spin", 0.0003) for number in range(6)]
        worker.run(calls, owner)
        await asyncio.sleep(chance.random() * 0.002)
        first = worker._next_number - 6  # type: ignore[attr-defined]
        named = chance.randrange(6)
        worker._signal_stop(first + named)  # type: ignore[attr-defined]
        await owner.over.wait()
        for number, each in enumerate(calls):
            if each in owner.back:
                continue
            if told(each) == "KeyboardInterrupt":
                assert number == named
                hits += 1
            else:
                assert told(each) == number
    assert hits


@pytest.mark.usefixtures("patience")
async def test_answers_too_large_for_the_memory_that_is_shared_arrive_all_the_same(worker: Worker) -> None:
    owner, waiting = Owner(), [call(number, *deed) for number, deed in enumerate([("much", BYTES / 3), NOTHING] * 8)]
    while waiting:
        sent, owner = waiting[:TRAIN_CALLS], Owner()
        worker.run(sent, owner)
        await asyncio.wait_for(owner.over.wait(), 5)
        answered = len(sent) - len(owner.back)
        assert owner.back == sent[answered:]
        for each in sent[:answered]:
            number = json.loads(each.args[0])["number"]
            assert told(each) == (number if number % 2 else "x" * (BYTES // 3))
        waiting = waiting[answered:]
    for _ in range(3):
        [large, *_] = await Owner().send(worker, *[("much", 1_000_000.0)] * 4)
        assert len(told(large)) == 1_000_000


async def test_answers_that_are_cut_off_at_the_end_of_the_memory_are_a_death_like_any_other(
    executor: Executor, ledger: Path
) -> None:
    worker, owner = await open_worker(executor, ledger, code=CUT_OFF), Owner()
    [lost] = await asyncio.wait_for(owner.send(worker, NOTHING), 5)
    assert isinstance(lost.reply.exception(), WorkerLost)
    await worker.close(force=True)


async def test_a_worker_whose_last_answers_are_found_when_it_is_gone_is_not_sent_another_train(process: Worker) -> None:
    class Next(Owner):
        def on_over(self, train: Train) -> None:
            told_lost.append(process.lost)
            super().on_over(train)

    told_lost: list[str] = []
    calls = [call(1), call(2)]
    process.run(calls, Next())
    time.sleep(0.1)  # the answers are there, and the loop has not been told
    process._on_exit("it is gone")  # type: ignore[attr-defined]
    assert [told(each) for each in calls] == [1, 2]
    assert told_lost == ["it is gone"]


async def test_a_caller_who_goes_away_as_the_train_ends_leaves_nothing_to_be_given_up(
    inline: Executor, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlhost.executors.calling.GRACE_SECONDS", 0.2)
    worker, owner = await open_worker(inline, ledger), Owner()
    calls = [call(1, "print"), call(2), call(3)]
    worker.run(calls, owner)
    time.sleep(0.1)  # the answer is there, and the loop has not been told
    calls[2].reply.cancel()
    worker.abandon(calls[2])
    await owner.over.wait()
    await asyncio.sleep(0.3)
    assert not worker.lost
    await worker.close(force=True)


async def test_a_worker_that_wipes_the_memory_may_use_no_more_processor_time_than_others(
    tmp_path: Path, ledger: Path
) -> None:
    executor, owner = ProcessExecutor(tmp_path, ProcessSettings(cpu_seconds=0.3)), Owner()
    worker = await open_worker(executor, ledger, code=WIPE)
    try:
        [stopped] = await asyncio.wait_for(owner.send(worker, NOTHING), 4)
        assert isinstance(fault := stopped.reply.exception(), CodeFailed)
        assert "0.3 seconds of processor time" in fault.message
    finally:
        await worker.close(force=True)
        await executor.close()


async def test_a_call_that_sets_another_handler_does_so_for_no_other_call(executor: Executor, ledger: Path) -> None:
    worker, owner = await open_worker(executor, ledger, 0.4), Owner()
    calls = await owner.send(worker, ("ignore", 0), ("spin", 10))
    assert isinstance(calls[1].reply.exception(), CodeFailed)
    assert not worker.lost
    await worker.close(force=True)


async def test_a_worker_that_claims_to_begin_one_call_after_the_other_is_held_to_the_deadline(
    executor: Executor, ledger: Path
) -> None:
    worker, owner = await open_worker(executor, ledger, 0.4, RUN_AHEAD), Owner()
    calls = await asyncio.wait_for(owner.send(worker, NOTHING, NOTHING), 5)
    assert isinstance(calls[0].reply.exception(), CodeFailed | WorkerLost)
    await worker.close(force=True)


async def test_a_call_sent_alone_is_never_given_back_whatever_the_worker_claims(
    executor: Executor, ledger: Path
) -> None:
    worker, owner = await open_worker(executor, ledger, code=SAY_LEFT), Owner()
    [answered] = await owner.send(worker, NOTHING)
    assert not owner.back
    assert told(answered) == 1
    await worker.close(force=True)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_on_the_way_each_call_is_run_once_and_answered_to_its_caller(
    placed: Executor, ledger: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quick and slow calls, output, errors, deaths and callers who go away, on workers that take all they can."""
    monkeypatch.setattr("mlhost.executors.pool.PROVEN_CALLS", 0)
    monkeypatch.setattr("mlhost.executors.pool.QUICK_SECONDS", 10)
    sizes: Counter[int] = Counter()
    pool = Pool(lambda: open_worker(placed, ledger), PoolSettings(3, 1000))
    depart = pool._depart
    monkeypatch.setattr(pool, "_depart", lambda member, calls: (sizes.update([len(calls)]), depart(member, calls)))
    joined: Counter[int] = Counter()
    join = CallingWorker.join
    monkeypatch.setattr(CallingWorker, "join", lambda worker, calls: (joined.update([len(calls)]), join(worker, calls)))
    deaths = "die" if isinstance(placed, InlineExecutor) else ""
    deeds = [deed for deed in WEIGHTS if deed != deaths]
    counts: Counter[str] = Counter()

    async def caller(first: int, chance: random.Random) -> None:
        for number in range(first, first + 25):
            [does] = chance.choices(deeds, [WEIGHTS[deed] for deed in deeds])
            pause = {"much": 200_000.0}.get(does, chance.choice([0.0005, 0.003, 0.03]))
            made = call(number, does, pause)
            asking = asyncio.ensure_future(run_on(pool, made))
            if chance.random() < 0.2:
                await asyncio.sleep(chance.random() * 0.02)
                asking.cancel()
            try:
                await asking
            except asyncio.CancelledError:
                counts["cancelled"] += 1
                continue
            except WorkerLost:
                assert does == "die"
            else:
                check(made, number, does, pause)
            counts[does] += 1

    await asyncio.gather(*(caller(1000 * n, random.Random(f"{seed} {n}")) for n in range(24)))
    await pool.close()
    ran = Counter(numbers(ledger))
    assert set(ran.values()) == {1}
    assert counts["cancelled"] > 5
    assert counts["nothing"] > 100
    assert sum(count for size, count in sizes.items() if size > 2) > 10
    assert bool(joined) == isinstance(placed, ProcessExecutor) or kernel.processors() == 1
    assert pool.usage().waiting == pool.usage().busy == 0


def check(made: Call, number: int, does: str, pause: float) -> None:
    expected: dict[str, Any] = {"raise": f"ValueError: raised {number}", "much": "x" * int(pause)}
    assert told(made) == expected.get(does, number)
    trace = f"raised {number}\n"
    printed = {
        "print": made.console == f"printed {number}\n",
        "shout": made.console in ("", f"shouted {number}\n"),  # on a thread that is the server's own output
        "raise": made.console.startswith("Traceback") and made.console.endswith(trace),
    }
    assert printed.get(does, made.console == ""), (does, made.console)
