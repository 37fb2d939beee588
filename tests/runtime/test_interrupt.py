"""Interrupts hit user code and nothing else."""

import random
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from mlhost.runtime import interrupt
from mlhost.runtime.interrupt import Gate, ThreadGate, gate_of_this_thread, interruptible, main_gate, on_signal

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
        self.gate.running = self.calls
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
        bookkeeper.gate.interrupt(bookkeeper.calls)
        time.sleep(chance.random() / 5000)
    bookkeeper.enough = True
    bookkeeper.join()
    assert bookkeeper.fault is None
    assert 100 < bookkeeper.hits < bookkeeper.calls


def test_an_interrupt_that_comes_too_early_is_kept_until_the_gate_opens_and_raises_once() -> None:
    gate = ThreadGate()
    gate.running = 3
    gate.interrupt(4)
    with gate:
        pass
    gate.running = 4
    with pytest.raises(KeyboardInterrupt), gate:
        pass
    with gate:
        pass


def test_an_interrupt_for_a_call_that_is_over_raises_nowhere() -> None:
    gate = ThreadGate()
    gate.interrupt(3)
    gate.running = 4
    with gate:
        gate.interrupt(3)


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
    bookkeeper.gate.interrupt(0)
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
        gate.interrupt(0)
    assert sent == [KeyboardInterrupt, KeyboardInterrupt]


# --- signals, as in a process worker


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the host has last said: which call its signal is for, and when; call 7 runs."""
    said = [0, 0.0]
    monkeypatch.setattr(interrupt, "_main", Gate())
    monkeypatch.setattr(interrupt._Here, "gate", interrupt._main)
    main_gate().order = lambda: (int(said[0]), said[1])
    main_gate().running = 7
    return said


def test_a_signal_raises_once_in_user_code_and_not_elsewhere(order: list[float]) -> None:
    order[:] = [7, time.monotonic()]
    with pytest.raises(KeyboardInterrupt), interruptible():
        pass
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            on_signal(2, None)
        on_signal(2, None)
    on_signal(2, None)


def test_a_signal_that_comes_too_early_is_kept_for_the_user_code(order: list[float]) -> None:
    order[:] = [7, time.monotonic()]
    on_signal(2, None)
    with pytest.raises(KeyboardInterrupt), interruptible():
        pass
    with interruptible():
        pass


@pytest.mark.parametrize("meant", [6, 8])
def test_a_signal_for_another_call_does_nothing(order: list[float], meant: int) -> None:
    order[:] = [meant, time.monotonic()]
    with interruptible():
        on_signal(2, None)
    on_signal(2, None)
    main_gate().running += 1
    if meant == main_gate().running:
        with pytest.raises(KeyboardInterrupt), interruptible():
            pass
    with interruptible():
        pass


def test_code_that_signals_itself_is_interrupted(order: list[float]) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        on_signal(2, None)
    order[:] = [3, time.monotonic() - 60]
    with pytest.raises(KeyboardInterrupt), interruptible():
        on_signal(2, None)
