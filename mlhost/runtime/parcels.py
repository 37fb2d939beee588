"""Parcels: bytes on their way into or out of a worker, a chunk at a time, so that nobody holds all of them.

A parcel is an unnamed file beside the working directory. The host chooses its number, so it can drop a parcel even
when it never heard what became of the call that was to fill it.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from typing import TYPE_CHECKING

from mlhost.errors import NotFound, Unavailable
from mlhost.runtime.workspace import Workspace

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHUNK_BYTES = 1 << 20  # that travel with one call


class _File(io.FileIO):
    """A file whose disk has its own error, so that it is told from one of the user's code."""

    def write(self, content: ReadableBuffer) -> int:
        try:
            return super().write(content)
        except OSError as fault:
            raise Unavailable(f"There is no room for the snapshot beside the workspace: {fault.strerror}.") from fault


def create(workspace: Workspace, number: int) -> io.BufferedRandom:
    """An empty parcel of that number; Unavailable if there can be none."""
    try:
        with tempfile.TemporaryFile(dir=workspace.folder.parent, buffering=0) as unnamed:
            file = io.BufferedRandom(_File(os.dup(unnamed.fileno()), "r+"))
    except OSError as fault:
        raise Unavailable(f"No file can be made beside the workspace: {fault.strerror}.") from fault
    drop(workspace, number)
    workspace.parcels[number] = file
    return file


def find(workspace: Workspace, number: int) -> io.BufferedRandom:
    """The parcel of that number, or NotFound."""
    try:
        return workspace.parcels[number]
    except KeyError:
        raise NotFound(f"There is no parcel {number} in this workspace.") from None


def put_chunk(workspace: Workspace, number: int, chunk: bytes) -> None:
    """Add to the end of a parcel; the first chunk makes it."""
    file = workspace.parcels.get(number) or create(workspace, number)
    file.seek(0, io.SEEK_END)
    file.write(chunk)


def read_chunk(workspace: Workspace, number: int, position: int) -> bytes:
    """Up to CHUNK_BYTES from a position on."""
    file = find(workspace, number)
    file.seek(position)
    return file.read(CHUNK_BYTES)


def drop(workspace: Workspace, number: int) -> None:
    """Forget a parcel; nothing happens if there is none of that number."""
    if file := workspace.parcels.pop(number, None):
        with contextlib.suppress(Unavailable):  # what did not fit is still in the buffer
            file.close()
