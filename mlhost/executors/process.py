"""The `process` placement: each workspace in a process of its own, forked from a warm template."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from mlhost.errors import MlhostError, Unavailable
from mlhost.executors import board, deaths, pythons
from mlhost.executors.board import Board
from mlhost.executors.calling import GRACE_SECONDS, CallingWorker
from mlhost.executors.channel import Channel
from mlhost.executors.console import Inlet
from mlhost.executors.families import new_mark
from mlhost.executors.forking import ProcessSettings, Template
from mlhost.executors.meter import Meter
from mlhost.executors.pythons import Python
from mlhost.executors.trains import TRAIN_CALLS, Call, Train
from mlhost.executors.wire import NotAFrame

LAST_WORD_SECONDS = 1.5  # between the end of a channel and word of how its process ended, after a sweep at worst
DISTURBED = "its code closed or disturbed descriptor 3, the channel to the server"


class ProcessExecutor:
    """Forks workers from one template process, and starts a new template should that one die."""

    def __init__(self, work: Path, settings: ProcessSettings) -> None:
        self._work = work
        self._settings = settings
        self._template: Template | None = None
        self._python: Python | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    async def start(self) -> None:
        """Start the template; its imports go on in the background, and the first worker waits for them."""
        await self._living_template()

    async def open(self, *, deadline_seconds: float, deadline_setting: str = "") -> ProcessWorker:
        """A new worker; Unavailable if none can be had."""
        template = await self._living_template()
        folder = self._work / str(uuid4())
        folder.mkdir(mode=0o700)
        worker = ProcessWorker(folder, deadline_seconds, self._settings)
        worker.python = self._python.version if self._python else ""
        worker.deadline_setting = deadline_setting
        try:
            await worker.start(template)
        except BaseException:
            await worker.close(force=True)
            raise
        return worker

    async def close(self) -> None:
        """End the template, and with it every worker."""
        self._closed = True
        if self._template is not None:
            await self._template.close()

    async def _living_template(self) -> Template:
        async with self._starting:
            if self._closed:
                raise Unavailable("The server is stopping.")
            if self._template is not None and self._template.lost:
                await self._template.close()
                self._template = None
            if self._template is None:
                self._python = self._python or await pythons.find(self._settings.python, self._work)
                self._template = await Template.start(self._work, self._settings, self._python)
            return self._template


class ProcessWorker(CallingWorker):
    """The host's side of one worker process."""

    carries = TRAIN_CALLS

    def __init__(self, folder: Path, deadline_seconds: float, settings: ProcessSettings) -> None:
        super().__init__(folder, deadline_seconds, settings.output_bytes)
        self._settings = settings
        self._meter: Meter | None = None
        self._kill_reason = ""  # why the host killed the worker
        self._ended = asyncio.Event()
        self._last_word: asyncio.TimerHandle | None = None
        self._channel = Channel(self._on_reply, self._on_disturbed, self._on_channel_end, self._collect)
        self._board: Board | None = None
        self._template: Template | None = None
        self._number = 0

    async def start(self, template: Template) -> None:
        """Have the template fork the process and connect to it."""
        self._inlet = Inlet(self.console)
        try:
            self._template = template
            with board.made() as shared:
                self._board = Board(shared)
                await self._fork(template, shared)
        except BaseException:
            self._on_exit("it never started")
            raise
        finally:
            os.close(self._inlet.writer)

    async def _fork(self, template: Template, shared: int) -> None:
        assert self._inlet is not None
        ours, theirs = socket.socketpair()
        with theirs:
            await self._channel.connect(ours)
            mark = new_mark()
            spec = {"folder": str(self.folder), "limits": self._settings.limits(), "mark": mark}
            forked = await template.fork(spec, (theirs.fileno(), self._inlet.writer, shared), self._on_exit)
        self._number = forked.number
        self._meter = Meter(self._settings.cpu_seconds, forked, mark)
        self._first_look_seconds = self._meter.first_look_seconds

    def resident_bytes(self) -> int:
        """See `Worker`."""
        return self._meter.resident_bytes() if self._meter is not None else 0

    async def close(self, *, force: bool = False) -> None:
        """End the process, wait for its end and remove its folder."""
        if self._template is None:
            self._on_exit("it never started")
        if not self._ended.is_set():
            await self._end(force)
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _end(self, force: bool) -> None:
        if force:
            self._kill("it was closed by force")
        else:
            self._closed_reason = "it was closed"
            self.interrupt()
            async with self._turn:  # a running call ends, or is ended after the grace
                await self._at_rest.wait()
                self._channel.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await self._ended.wait()
        if not self._ended.is_set():
            self._kill("it did not end when it was closed")
            await self._ended.wait()

    # --- one train -------------------------------------------------------------------------------------------------

    def _send(self, train: Train) -> None:
        assert self._board is not None
        if self._meter is not None:
            self._meter.start()
        self._board.start(train.first, train.last)
        self._channel.send(train.first, train.first, train.function, [call.args for call in train.calls])

    def _takes_more(self, train: Train) -> bool:
        return self._board is not None and self._board.ended < train.number

    def _send_more(self, train: Train, calls: Sequence[Call]) -> None:
        assert self._board is not None
        self._board.extend(train.last + len(calls))
        self._channel.send(train.first, train.last + 1, train.function, [call.args for call in calls])

    def tell_early(self, wanted: bool) -> None:
        """See `Worker`."""
        if self._board is not None:
            self._board.ask_early(wanted)

    def _begun(self) -> int:
        assert self._board is not None
        # Workers die with their template, but not in the same moment: one more call may just begin.
        return self._board.begun + (self._template is not None and self._template.lost)

    def _recall(self, train: Train) -> None:
        assert self._board is not None
        self._board.recall()
        asyncio.get_running_loop().call_later(board.RECALL_SECONDS, self._on_recall_over, train)

    def _on_recall_over(self, train: Train) -> None:
        if not self.lost:
            self._on_recalled(train, self._begun())

    def _take_answers(self) -> None:
        """See `CallingWorker`; the host is woken up for this, or looks by itself."""
        if self._board is not None:
            try:
                for body in self._board.take():
                    self._channel.read(body)
            except NotAFrame:
                self._on_disturbed()
            train = self._train
            if train is not None and self._is_recalled and self._board.left == train.number:
                self._give_back(train, train.number - 1)

    def _on_reply(self, number: int, error: MlhostError | None, result: Any) -> None:
        assert self._board is not None
        self._on_answer(number, error, result, is_last=self._board.ended == number)

    def _look(self) -> float:
        assert self._meter is not None and self._train is not None
        left = self._meter.left()
        if left <= 0:
            most = self._settings.cpu_seconds
            self._stop(
                f"after {most:g} seconds of processor time, all that one call may use (limits.cpu_seconds)",
                self._train.number,  # it is alone, and what the worker says has begun may be anything
            )
            return math.inf
        return self._meter.wait_seconds(left)

    def _signal_stop(self, number: int) -> None:
        if self._board is not None:
            self._board.name(number)
        self._signal(signal.SIGINT)

    def _give_up(self, reason: str) -> None:
        self._kill(f"{reason}, so it was killed")

    def _kill(self, reason: str) -> None:
        self._kill_reason = self._kill_reason or reason
        self._signal(signal.SIGKILL)

    def _signal(self, which: signal.Signals) -> None:
        if self._template is not None:
            self._template.signal(self._number, which)

    # --- what the worker sends -------------------------------------------------------------------------------------

    def _on_disturbed(self) -> None:
        self._kill(DISTURBED)

    def _on_channel_end(self) -> None:
        if not self._ended.is_set():  # most often it has ended, and the template is about to say how
            self._last_word = asyncio.get_running_loop().call_later(LAST_WORD_SECONDS, self._kill, DISTURBED)

    def _on_exit(self, ended: tuple[int, int] | str) -> None:
        """The process is gone: (wait status, peak bytes), or the reason in words."""
        self._ended.set()
        if self._last_word is not None:  # else it would keep this worker, its buffer above all, for a while longer
            self._last_word.cancel()
        self._channel.abort()
        told = ended if isinstance(ended, str) else deaths.describe(*ended, self._settings.memory_bytes)
        self._lose(self._kill_reason or self._closed_reason or told)
        if self._board is not None:
            self._board.close()
