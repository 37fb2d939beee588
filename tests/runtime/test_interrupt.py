"""Interrupts hit user code and nothing else."""

import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlhost.runtime import interrupt
from mlhost.runtime.interrupt import ThreadGate, gate_of_this_thread, interruptible, on_signal, settle
from mlhost.runtime.workspace import Workspace

SECONDS = 2.0

pytestmark = pytest.mark.untraced


@pytest.fixture(autouse=True)
def _threads_take_turns_as_often_as_they_can() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Bookkeeper(threading.Thread):
    """Opens its gate again and again; an interrupt that leaks out of it is kept as the fault."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ready = threading.Event()
        self.enough = False
        self.calls = 0
        self.gate: ThreadGate | None = None
        self.hits = 0
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            self.gate = gate_of_this_thread()
            self.ready.set()
            while not self.enough:
                self.call()
                self.calls += 1
                for _ in range(100):  # what must not be torn
                    pass
        except BaseException as fault:
            self.fault = fault

    def call(self) -> None:
        assert self.gate is not None
        self.gate.forget()
        try:
            with interruptible():
                for _ in range(100):
                    pass
        except KeyboardInterrupt:
            self.hits += 1


def test_an_interrupt_of_a_thread_raises_in_its_gate_and_nowhere_else() -> None:
    bookkeeper = Bookkeeper()
    bookkeeper.start()
    bookkeeper.ready.wait()
    assert bookkeeper.gate is not None
    chance, end = random.Random(3), time.monotonic() + SECONDS
    while bookkeeper.is_alive() and time.monotonic() < end:
        bookkeeper.gate.interrupt()
        time.sleep(chance.random() / 5000)
    bookkeeper.enough = True
    bookkeeper.join()
    assert bookkeeper.fault is None
    assert 100 < bookkeeper.hits < bookkeeper.calls


def test_an_interrupt_that_comes_too_early_is_kept_until_the_gate_opens_and_raises_once() -> None:
    gate = ThreadGate()
    gate.interrupt()
    with pytest.raises(KeyboardInterrupt), gate:
        pass
    with gate:
        pass


def test_an_interrupt_that_is_forgotten_raises_nowhere() -> None:
    gate = ThreadGate()
    gate.interrupt()
    gate.forget()
    with gate:
        pass


def test_other_threads_are_not_behind_the_gate_of_one() -> None:
    before = interruptible()
    made: list[object] = []
    thread = threading.Thread(target=lambda: made.extend((gate_of_this_thread(), interruptible())))
    thread.start()
    thread.join()
    assert made[0] is made[1]
    assert made[0] is not before
    assert interruptible() is before


def test_who_leaves_while_an_interrupt_is_being_sent_waits_for_it_and_leaves_it_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bookkeeper, sending, send = Bookkeeper(), threading.Event(), interrupt._raise_in

    def send_slowly(thread: int, exception: type[BaseException]) -> None:
        sending.set()
        time.sleep(0.1)
        send(thread, exception)

    def call() -> None:
        bookkeeper.enough = True
        with interruptible():
            bookkeeper.hits += 1
            sending.wait(5)

    monkeypatch.setattr(interrupt, "_raise_in", send_slowly)
    monkeypatch.setattr(bookkeeper, "call", call)
    bookkeeper.start()
    bookkeeper.ready.wait()
    assert bookkeeper.gate is not None
    while not bookkeeper.hits:
        time.sleep(0.001)
    bookkeeper.gate.interrupt()
    bookkeeper.join()
    assert bookkeeper.fault is None


def test_an_interrupt_that_has_not_been_raised_when_the_gate_closes_is_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent, send = [], interrupt._raise_in

    def lose_the_first(thread: int, exception: type[BaseException]) -> None:
        sent.append(exception)
        if len(sent) > 1:
            send(thread, exception)

    monkeypatch.setattr(interrupt, "_raise_in", lose_the_first)
    gate = ThreadGate()
    with gate:
        gate.interrupt()
    assert sent == [KeyboardInterrupt, KeyboardInterrupt]


# --- signals, as in a process worker


@pytest.fixture
def _no_signal_is_remembered(workspace: Workspace) -> Iterator[None]:
    yield
    settle(workspace, interrupt._main.seen)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace({}, tmp_path)


@pytest.mark.usefixtures("_no_signal_is_remembered")
def test_a_signal_raises_once_in_user_code_and_not_elsewhere() -> None:
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            on_signal(2, None)
        on_signal(2, None)
    on_signal(2, None)


@pytest.mark.usefixtures("_no_signal_is_remembered")
def test_a_signal_that_comes_too_early_is_kept_for_the_user_code() -> None:
    on_signal(2, None)
    with pytest.raises(KeyboardInterrupt), interruptible():
        pass
    with interruptible():
        pass


@pytest.mark.usefixtures("_no_signal_is_remembered")
def test_signals_for_the_call_before_are_waited_for_and_forgotten(workspace: Workspace) -> None:
    on_signal(2, None)
    late = threading.Timer(0.03, on_signal, (2, None))
    late.start()
    settle(workspace, 2)
    assert interrupt._main.seen == 0
    with interruptible():
        pass
    late.join()


@pytest.mark.usefixtures("_no_signal_is_remembered")
def test_a_signal_more_than_the_call_before_was_sent_is_for_the_next(workspace: Workspace) -> None:
    on_signal(2, None)
    on_signal(2, None)
    settle(workspace, 1)
    with pytest.raises(KeyboardInterrupt), interruptible():
        pass


@pytest.mark.usefixtures("_no_signal_is_remembered")
def test_a_signal_that_never_arrives_is_not_waited_for_long(workspace: Workspace) -> None:
    start = time.monotonic()
    settle(workspace, 1)
    assert time.monotonic() - start < 1
