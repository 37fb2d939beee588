"""The console inside a worker: Python's text streams over the descriptors 1 and 2.

The host holds the other end of these descriptors, so whatever Python, C code or a child process prints arrives there
in the order it was written. Reading, bounding and showing it is the host's part (`mlhost.executors.console`).
"""

from __future__ import annotations

import contextlib
import io
import sys


def install() -> None:
    """Point `sys.stdout` and `sys.stderr` at descriptors 1 and 2, a line at a time."""
    sys.stdout = _stream(1)
    sys.stderr = _stream(2)


def flush() -> None:
    """Write out what Python still buffers; a stream that user code closed is opened again."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if getattr(stream, "closed", False):
            setattr(sys, name, _stream(descriptor))
            continue
        with contextlib.suppress(Exception):  # it may be any object that user code put there
            stream.flush()


def _stream(descriptor: int) -> io.TextIOWrapper:
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True)
