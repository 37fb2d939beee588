"""Keeping the families of workers within `limits.processes`, from the template, which is the parent of all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain

from mlhost.executors import families

LOOK_SECONDS = 0.1  # between looks while there are workers; most find that nothing has changed and end there
CLOSE_LOOK_SECONDS = 1.0  # between looks at each process in any case: putting off a mark starts and ends nothing
LOAD = "/proc/loadavg"  # its last two fields change with each process and thread that starts or ends


class Crowds:
    """The families of all workers; `most` is how many processes the code of one may have at once (0 = any).

    Ended processes count until they are waited for: they, too, take places in the machine's table of processes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._marks: dict[int, int] = {}  # process id of a worker -> mark of its family
        self._census = b""  # of the whole machine, at the last look
        self._next_look = 0.0  # monotonic
        self._next_close_look = 0.0  # monotonic
        self._load = os.open(LOAD, os.O_RDONLY | os.O_CLOEXEC) if most and families.IS_TOLD else -1

    @property
    def pause_seconds(self) -> float | None:
        """Until the next look; None if none is due."""
        if not self._marks or self._load < 0:
            return None
        return max(0.0, self._next_look - time.monotonic())

    def add(self, worker: int, mark: int) -> None:
        """Watch over a worker that was just forked."""
        self._marks[worker] = mark

    def remove(self, worker: int) -> None:
        """End what is left of the family of a worker that has ended."""
        del self._marks[worker]
        families.sweep(self._is_known)

    def too_large(self) -> Iterator[tuple[int, str]]:
        """Kill every family that is too large: yields its worker, and the reason as a clause."""
        if self.pause_seconds != 0.0:
            return
        now = time.monotonic()
        self._next_look = now + LOOK_SECONDS
        if not self._has_changed() and now < self._next_close_look:
            return
        self._next_close_look = now + CLOSE_LOOK_SECONDS
        families.sweep(self._is_known)  # an orphan that has put off its mark is nobody's
        workers = {mark: worker for worker, mark in self._marks.items()}
        sizes: Counter[int] = Counter()
        for pid, mark in self._members():
            sizes[mark] += pid not in self._marks
            worker = workers.get(mark)
            if worker is not None and sizes[mark] == self._most + 1:
                yield worker, f"its code had more than {self._most} processes at once (limits.processes)"
                self._kill(worker, mark)

    def _has_changed(self) -> bool:
        """Whether any process or thread of the machine has started or ended: their number and the id given last."""
        load = os.pread(self._load, 100, 0).split()
        census = load[3].partition(b"/")[2] + b" " + load[4]
        if census == self._census:
            return False
        self._census = census
        return True

    def _is_known(self, pid: int) -> bool:
        return pid in self._marks or families.mark_of(pid) in self._marks.values()

    def _members(self) -> Iterator[tuple[int, int]]:
        """Every process below this one, and the mark of its family."""
        for child in families.children(os.getpid()):
            mark = self._marks.get(child) or families.mark_of(child)
            for pid in chain([child], families.descendants(child)):
                yield pid, mark

    def _kill(self, worker: int, mark: int) -> None:
        """All of one family at once: among thousands of busy processes even a killed worker's end takes its time."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker, signal.SIGKILL)
        families.kill_below(worker)
        families.sweep(lambda pid: pid in self._marks or families.mark_of(pid) != mark)
