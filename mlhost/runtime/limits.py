"""The limits that the system holds this worker to, so that an error which comes of one can name it.

Only a process worker has limits of its own: where a workspace lives in the server, nothing is claimed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

given: dict[str, int] = {}  # setting -> bytes or count; filled when the worker is made
room: list[Callable[[], None]] = []  # what `make_room` calls, made before there is no memory to make it

_OF_ERRORS = {errno.EMFILE: "limits.open_files", errno.EFBIG: "limits.file_bytes"}


def make_room(failure: BaseException) -> None:
    """After a MemoryError: let this worker use the little more that is kept for telling of it."""
    if room and isinstance(failure, MemoryError):
        room[0]()


def note(failure: BaseException) -> str:
    """ "" or, in parentheses, the limit that the failure comes of."""
    if isinstance(failure, MemoryError):
        return _told("limits.memory_bytes") or " (no memory is left)"
    if isinstance(failure, OSError):
        return _told(_OF_ERRORS.get(failure.errno or 0, ""))
    return ""


def _told(setting: str) -> str:
    limit = given.get(setting)
    if limit is None:
        return ""
    if setting == "limits.open_files":
        return f" (this worker may have {limit} files open: {setting})"
    may = "use" if setting == "limits.memory_bytes" else "write files of"
    return f" (this worker may {may} {in_words(limit)}: {setting})"


def in_words(count: int) -> str:
    """A number of bytes for people: "1.5 GiB", "10.0 MiB", "900 bytes"."""
    for power, unit in ((30, "GiB"), (20, "MiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return f"{count} bytes"
