"""The memory that the host and a worker process share: which call has begun, what came of it, which one is to stop.

Calls of one train are numbered in a row. Before each of them the worker writes its number down as begun, and then looks
whether the train is still its own: the host, which takes back what has not begun, does both the other way round and
lets RECALL_SECONDS pass in between. So no call is ever run twice, whichever of the two is the quicker; and one that was
written down but not run, because the train was gone, is told of as left.

More calls may join a train that is under way, numbered on. A worker that is to tell early does so before the last call
it has, so that the next are there when that is done; and it is silent at the end of what it has while more is on its
way to it.

Answers are kept here as well, whole, before the host is told of them: those of a worker that dies are not lost.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mlhost.executors.wire import LENGTH, NotAFrame

BYTES = 1 << 18
HEAD_BYTES = 128
RECALL_SECONDS = 0.002  # until what one processor wrote has reached every other: a thousand times what it takes
# The words of the head, eight bytes each, written in one go.
TRAIN, LAST, EARLY, BEGUN, LEFT, ENDED, KEPT, TARGET, SENT_AT = range(9)


@contextmanager
def made() -> Iterator[int]:
    """A descriptor of the memory for one worker, which nobody can make smaller."""
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            file.truncate(BYTES)
            yield file.fileno()
        return
    descriptor = os.memfd_create("mlhost", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, BYTES)
        # Were it smaller, touching it would be the end of the host.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        yield descriptor
    finally:
        os.close(descriptor)


class Board:
    """The memory behind a descriptor, which may be closed then."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, BYTES)
        self._words = memoryview(self._memory)[:HEAD_BYTES].cast("Q")
        self._position = HEAD_BYTES  # where the next answer is written, or read
        self._is_open = True

    # --- the host's side -------------------------------------------------------------------------------------------

    def start(self, train: int, last: int) -> None:
        """The calls from the one number to the other are the worker's."""
        self._position = HEAD_BYTES
        self._words[KEPT] = HEAD_BYTES
        self._words[EARLY] = False
        self._words[LAST] = last
        self._words[TRAIN] = train

    def extend(self, last: int) -> None:
        """So are those up to this number, which are about to be sent."""
        self._words[LAST] = last

    def ask_early(self, wanted: bool) -> None:
        """Whether the worker shall tell before its last call what came of those before it."""
        if self._is_open:
            self._words[EARLY] = wanted

    def recall(self) -> None:
        """No more of them; after RECALL_SECONDS those beyond `begun` never begin."""
        self._words[TRAIN] = 0

    @property
    def begun(self) -> int:
        """The number of the call that has begun last."""
        if not self._is_open:
            return 0
        begun = self._words[BEGUN]
        return begun - 1 if self._words[LEFT] == begun else begun

    @property
    def left(self) -> int:
        """The number of the call that the worker has found taken back."""
        return self._words[LEFT] if self._is_open else 0

    @property
    def ended(self) -> int:
        """The number of the last call after which the worker has given back the rest."""
        return self._words[ENDED] if self._is_open else 0

    def take(self) -> list[bytes]:
        """The answers kept since this was last asked, in order; NotAFrame if that is not what is there."""
        taken: list[bytes] = []
        end = self._words[KEPT] if self._is_open else 0
        if end > BYTES:
            raise NotAFrame(f"answers up to {end}")
        while self._position < end:
            start = self._position + LENGTH.size
            if start > end:
                raise NotAFrame("no room for a length")
            (length,) = LENGTH.unpack_from(self._memory, self._position)
            if start + length > end:
                raise NotAFrame(f"a length of {length} bytes")
            taken.append(self._memory[start : start + length])
            self._position = start + length
        return taken

    def name(self, number: int) -> None:
        """Say whom the signal is for that is about to be sent."""
        if self._is_open:
            self._words[SENT_AT] = time.monotonic_ns()
            self._words[TARGET] = number

    def close(self) -> None:
        """Give the memory back; the worker is gone."""
        if self._is_open:
            self._is_open = False
            self._words.release()
            self._memory.close()

    # --- the worker's side -----------------------------------------------------------------------------------------

    def begin(self, train: int, number: int) -> bool:
        """Whether the next call may begin: it was not taken back."""
        self._words[BEGUN] = number
        if number == train:
            self._position = HEAD_BYTES
        if self._words[TRAIN] == train:
            return True
        self._words[LEFT] = number
        return False

    @property
    def last(self) -> int:
        """The number of the last call that was sent, or is just being sent."""
        return self._words[LAST]

    @property
    def is_asked_early(self) -> bool:
        """Whether the host wants to be told before the last call."""
        return bool(self._words[EARLY])

    def end(self, number: int) -> None:
        """Give back what is left of the train after this call."""
        self._words[ENDED] = number

    def has_room(self, answer: bytes) -> bool:
        """Whether a frame for the host can be kept."""
        return self._position + len(answer) <= BYTES

    def keep(self, answer: bytes) -> None:
        """Keep it."""
        end = self._position + len(answer)
        self._memory[self._position : end] = answer
        self._position = self._words[KEPT] = end

    def order(self) -> tuple[int, float]:
        """Which call the host's last signal is for, and when it was sent (monotonic seconds)."""
        return self._words[TARGET], self._words[SENT_AT] / 1e9
