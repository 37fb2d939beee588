"""What a worker uses: its memory, and the processor time of one call, in it and everything its code started.

Read from /proc; where there is none nothing is measured: RLIMIT_CPU is no substitute, it counts a process's whole life.
What an orphan used is no longer counted once it has ended, for its parent did not wait for it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

from mlhost.executors import families
from mlhost.executors.forking import Forked

LOOK_SECONDS = 0.1  # between the start of a call and the first look: shorter calls cost nothing
LAST_LOOKS_SECONDS = 0.05  # between looks at the least, when little is left


def resident_bytes(process: int | str = "self") -> int:
    """Memory of a process that is in use now; 0 if the system does not tell, or the process is gone."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Meter:
    """Measures one worker, its calls against `most` seconds each (0 = any)."""

    def __init__(self, most: float, forked: Forked, mark: int) -> None:
        self._most = most
        self._forked = forked
        self._mark = mark
        self._before: float | None = None  # what the family had used at the first look at this call
        self.first_look_seconds = LOOK_SECONDS if most and families.IS_TOLD else math.inf

    def start(self) -> None:
        """A call begins."""
        self._before = None

    def left(self) -> float:
        """Seconds of processor time that the call may still use."""
        used = families.processor_seconds(self._family())
        if self._before is None:
            self._before = used
        return self._before + self._most - used

    def wait_seconds(self, left: float) -> float:
        """How long no number of processors can use up what is left."""
        return max(LAST_LOOKS_SECONDS, left / (os.cpu_count() or 1))

    def resident_bytes(self) -> int:
        """Memory of the worker's own process; 0 as above."""
        return resident_bytes(self._forked.pid)

    def _family(self) -> Iterable[int]:
        """The worker, the orphans of its code, and all below them."""
        worker = self._forked.pid
        for pid in families.children(self._forked.template_pid):
            if pid == worker or families.mark_of(pid) == self._mark:
                yield pid
                yield from families.descendants(pid)
