"""The reserve: spare workers, and a bound that holds."""

import asyncio
import errno
from pathlib import Path

import pytest

from mlhost.config import Placement
from mlhost.errors import Busy, Unavailable
from mlhost.executors import Worker
from mlhost.executors.forking import ProcessSettings
from mlhost.executors.inline import InlineExecutor
from mlhost.executors.process import ProcessExecutor
from mlhost.executors.reserve import Reserve
from mlhost.runtime.workspace import ping
from tests.parts import open_descriptors, until


class FakeWorker:
    def __init__(self) -> None:
        self.lost = ""
        self.lingers = False
        self.deadline_seconds = 0.0

    async def close(self, *, force: bool = False) -> None:
        self.lost = self.lost or "closed"


class FakeExecutor:
    """Starts workers in no time, or not at all."""

    def __init__(self) -> None:
        self.opened: list[FakeWorker] = []
        self.fault: Exception | None = None
        self.most_at_once = 0

    async def open(self, *, deadline_seconds: float, deadline_setting: str = "") -> FakeWorker:
        await asyncio.sleep(0.001)
        if self.fault:
            raise self.fault
        self.opened.append(FakeWorker())
        self.most_at_once = max(self.most_at_once, sum(not worker.lost for worker in self.opened))
        return self.opened[-1]

    async def close(self) -> None:
        pass


def make(initial: int = 2, most: int = 10) -> tuple[Reserve, FakeExecutor]:
    executor = FakeExecutor()
    return Reserve({"process": executor}, initial, most), executor  # type: ignore[dict-item]


async def test_spare_workers_are_started_ahead_and_made_up_for_when_taken() -> None:
    reserve, executor = make(initial=2)
    reserve.fill()
    await until(lambda: len(executor.opened) == 2)
    worker = await reserve.open("process", deadline_seconds=7)
    assert worker is executor.opened[0]
    assert worker.deadline_seconds == 7
    await until(lambda: len(executor.opened) == 3)
    await reserve.close()


async def test_a_spare_worker_that_died_is_not_given_out() -> None:
    reserve, executor = make(initial=1)
    reserve.fill()
    await until(lambda: len(executor.opened) == 1)
    executor.opened[0].lost = "killed"
    assert not (await reserve.open("process", deadline_seconds=1)).lost
    await reserve.close()


async def test_the_bound_holds_when_two_hundred_ask_at_once() -> None:
    reserve, executor = make(initial=2, most=10)
    reserve.fill()
    asked = (reserve.open("process", deadline_seconds=1) for _ in range(200))
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(result, FakeWorker) for result in results) <= 10
    assert executor.most_at_once == 10
    refused = [result for result in results if isinstance(result, Busy)]
    assert "pool.max" in refused[0].message
    assert refused[0].details["retry_after_seconds"]
    await reserve.close()


async def test_a_worker_that_ended_makes_room() -> None:
    reserve, executor = make(initial=0, most=1)
    await reserve.open("process", deadline_seconds=1)
    with pytest.raises(Busy):
        await reserve.open("process", deadline_seconds=1)
    executor.opened[0].lost = "closed"
    await reserve.open("process", deadline_seconds=1)
    await reserve.close()


async def test_when_all_places_are_taken_a_worker_that_nobody_needs_makes_room() -> None:
    reserve, executor = make(initial=0, most=2)
    first = await reserve.open("process", deadline_seconds=1)
    await reserve.open("process", deadline_seconds=1)

    async def end(worker: Worker) -> None:
        await asyncio.sleep(0.001)
        worker.lost = "ended"  # type: ignore[misc]

    resting = [first]
    reserve.take_from(lambda: end(resting.pop()) if resting else None)
    results = await asyncio.gather(
        *(reserve.open("process", deadline_seconds=1) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, Busy) for result in results) == 4
    assert executor.most_at_once == 2
    await reserve.close()


async def test_spare_workers_of_one_placement_make_room_for_another() -> None:
    spares, others = FakeExecutor(), FakeExecutor()
    reserve = Reserve({"process": spares, "inline": others}, 2, 2)  # type: ignore[dict-item]
    reserve.fill()
    await until(lambda: len(spares.opened) == 2)
    for _ in range(2):
        await reserve.open("inline", deadline_seconds=1)
    assert [worker.lost for worker in spares.opened] == ["closed", "closed"]
    assert reserve.count() == 2
    with pytest.raises(Busy):
        await reserve.open("inline", deadline_seconds=1)
    await reserve.close()


async def test_code_that_runs_on_in_the_server_keeps_its_place() -> None:
    reserve, executor = make(initial=0, most=1)
    await reserve.open("process", deadline_seconds=1)
    executor.opened[0].lost, executor.opened[0].lingers = "it did not stop", True
    with pytest.raises(Busy):
        await reserve.open("process", deadline_seconds=1)
    executor.opened[0].lingers = False
    await reserve.open("process", deadline_seconds=1)
    await reserve.close()


async def test_a_spare_worker_that_died_leaves_no_folder(tmp_path: Path) -> None:
    inline = InlineExecutor(tmp_path)
    reserve = Reserve({"inline": inline}, 1, 10, "inline")
    reserve.fill()
    await until(lambda: reserve._spare)
    reserve._spare[0].lost = "killed"  # type: ignore[misc]
    worker = await reserve.open("inline", deadline_seconds=1)
    await until(lambda: len(list(tmp_path.iterdir())) == 2)  # its own and the new spare one's
    await worker.close()
    await reserve.close()


@pytest.mark.parametrize("placement", ["process", "inline"])
async def test_a_server_that_has_no_descriptor_left_says_so_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, placement: Placement
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    executors = {"process": ProcessExecutor(tmp_path, ProcessSettings()), "inline": InlineExecutor(tmp_path)}
    reserve = Reserve(executors, 0, 1)  # type: ignore[arg-type]
    if placement == "process":
        await executors["process"].start()  # type: ignore[attr-defined]
    for broken in ("mlhost.executors.console.os.pipe", "mlhost.executors.threads.threading.Thread.start"):
        before = open_descriptors()
        with monkeypatch.context() as patch:
            patch.setattr(broken, refuse)
            if placement == "process" and broken.endswith("start"):
                patch.setattr("mlhost.executors.process.socket.socketpair", refuse)
            with pytest.raises(Unavailable, match="Too many open files"):
                await reserve.open(placement, deadline_seconds=1)
        assert open_descriptors() == before
        assert not list(tmp_path.iterdir())
    await reserve.close()


async def test_the_end_leaves_no_folder_of_a_spare_worker_or_of_one_that_is_starting(tmp_path: Path) -> None:
    for milliseconds in range(0, 30, 5):
        executor = ProcessExecutor(tmp_path, ProcessSettings())
        reserve = Reserve({"process": executor}, 3, 10)
        reserve.fill()
        await until(lambda reserve=reserve: reserve._spare)
        await asyncio.sleep(milliseconds / 1000)
        await reserve.close()
        assert not list(tmp_path.iterdir())


async def test_a_spare_worker_that_does_not_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlhost.executors.reserve.PATIENCE_SECONDS", 0.01)
    reserve, executor = make(initial=1)
    executor.fault = Unavailable("not now")
    reserve.fill()
    with pytest.raises(Unavailable):
        await reserve.open("process", deadline_seconds=1)
    executor.fault = None
    await until(lambda: len(executor.opened) == 1)
    await reserve.close()


async def test_real_spare_workers_answer(executor: ProcessExecutor) -> None:
    reserve = Reserve({"process": executor}, 1, 2)
    worker = await reserve.open("process", deadline_seconds=5)
    assert await worker.call(ping) == "pong"
    await worker.close()
    assert worker.lost
    await until(lambda: len(reserve._spare) == 1)
    await reserve._spare[0].close()
