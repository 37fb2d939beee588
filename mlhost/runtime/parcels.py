"""Parcels: bytes on their way into or out of a worker, a chunk at a time, so that nobody holds all of them.

A parcel is an unnamed file beside the working directory, or in memory while little came in. The host chooses its
number, so it can drop a parcel even when it never heard what became of the call that was to fill it. The answer of a
call of a service that is too large to travel in one piece is kept under the number ANSWER.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlhost.errors import CodeFailed, NotFound, Unavailable
from mlhost.runtime import limits
from mlhost.runtime.workspace import Workspace

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHUNK_BYTES = 1 << 20  # that travel with one call
SMALL_BYTES = CHUNK_BYTES  # of a body or an answer that is held in memory and travels in one piece
MAX_ANSWER_BYTES = 1 << 31
ANSWER = 0  # the number of the parcel an answer is kept in; those the host gives begin with 1
MEMORY_BYTES = CHUNK_BYTES  # of a parcel before it moves to disk, where making and removing a file takes its time


class Parcel(io.BufferedIOBase):
    """One parcel as a file: on the disk of the workspace's folder, or if it begins `small` in memory until it is not.

    It does not begin small where user code runs while it is written: an interrupt could come between the making of the
    file and its being kept, and the file would stay open for ever.
    """

    def __init__(self, folder: Path, *, small: bool) -> None:
        self._folder = folder
        self._file: io.BytesIO | io.BufferedRandom = io.BytesIO()
        if not small:
            self._file = self._moved(self._file)

    @classmethod
    def of(cls, folder: Path, content: bytes) -> Parcel:
        """One that holds what is in memory already, and stays there while nothing is written to it."""
        parcel = cls(folder, small=True)
        parcel._file = io.BytesIO(content)  # shares the bytes
        return parcel

    @property
    def size(self) -> int:
        """How many bytes it has; the position is its end then."""
        return self.seek(0, io.SEEK_END)

    def readable(self) -> bool:
        """It can be read."""
        return True

    def writable(self) -> bool:
        """It can be written."""
        return True

    def seekable(self) -> bool:
        """It has positions."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes from the position on, or all."""
        return self._file.read(size)

    def write(self, content: ReadableBuffer) -> int:
        """Unavailable, not OSError, when the disk is full: that one may come from the user's code."""
        if isinstance(self._file, io.BytesIO) and self._file.tell() + memoryview(content).nbytes > MEMORY_BYTES:
            self._file = self._moved(self._file)
        return self._file.write(content)

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; which it is."""
        return self._file.seek(position, whence)

    def tell(self) -> int:
        """The position."""
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        """Cut it off at `size`, or at the position."""
        return self._file.truncate(size)

    def flush(self) -> None:
        """Have the disk take what is buffered."""
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        """Let go of the bytes."""
        with contextlib.suppress(Unavailable):  # what did not fit is still in the buffer
            self._file.close()
        super().close()

    def _moved(self, small: io.BytesIO) -> io.BufferedRandom:
        try:
            with tempfile.TemporaryFile(dir=self._folder, buffering=0) as unnamed:
                large = io.BufferedRandom(_OnDisk(os.dup(unnamed.fileno()), "r+"))
        except OSError as fault:
            raise _no_room(fault) from fault
        large.write(small.getbuffer())
        large.seek(small.tell())
        return large


class _OnDisk(io.FileIO):
    def write(self, content: ReadableBuffer) -> int:
        try:
            return super().write(content)
        except OSError as fault:
            raise _no_room(fault) from fault


class Kept(NamedTuple):
    """An answer that waits to be fetched: `size` bytes in a parcel."""

    parcel: int
    size: int


def _no_room(fault: OSError) -> Unavailable:
    return Unavailable(f"There is no room beside the workspace: {fault.strerror}{limits.note(fault)}.")


def create(workspace: Workspace, number: int, *, small: bool = False) -> Parcel:
    """An empty parcel of that number; see `Parcel`."""
    drop(workspace, number)
    workspace.parcels[number] = parcel = Parcel(workspace.folder.parent, small=small)
    return parcel


def keep(workspace: Workspace, answer: bytes) -> Kept:
    """Keep an answer until it is fetched; CodeFailed if it is larger than any may be."""
    if len(answer) > MAX_ANSWER_BYTES:
        raise CodeFailed(f"The answer has {len(answer)} bytes; at most {MAX_ANSWER_BYTES} can be sent.")
    workspace.parcels[ANSWER] = Parcel.of(workspace.folder.parent, answer)
    return Kept(ANSWER, len(answer))


def find(workspace: Workspace, number: int) -> Parcel:
    """The parcel of that number, or NotFound."""
    try:
        return workspace.parcels[number]
    except KeyError:
        raise NotFound(f"There is no parcel {number} in this workspace.") from None


def put_chunk(workspace: Workspace, number: int, chunk: bytes) -> None:
    """Add to the end of a parcel; the first chunk makes it."""
    parcel = workspace.parcels.get(number) or create(workspace, number, small=True)
    parcel.seek(0, io.SEEK_END)
    parcel.write(chunk)


def read_chunk(workspace: Workspace, number: int, position: int) -> bytes:
    """Up to CHUNK_BYTES from a position on."""
    parcel = find(workspace, number)
    parcel.seek(position)
    return parcel.read(CHUNK_BYTES)


def drop(workspace: Workspace, number: int) -> None:
    """Forget a parcel; nothing happens if there is none of that number."""
    if parcel := workspace.parcels.pop(number, None):
        parcel.close()
