"""The audit log: who did what, one JSON object a line, in a file of the data folder that is only ever appended to.

What it tells is on disk when the operating system writes it, not before the answer. It holds no secrets: what is
hidden in logs is hidden here.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any, Self

from mlhost.config import Audit as Settings
from mlhost.logs import redacted

log = logging.getLogger(__name__)

STEM = "audit"
LONGEST_TEXT = 256  # characters of a value; names may come from anybody
# Lines in a minute about people nobody knows: more are counted only, or they would drive out all others.
MAX_UNKNOWN_A_MINUTE = 600
KNOWN = ("time", "user", "route", "status", "address", "claimed")  # what an entry has a place for


class Audit:
    """An open audit log; each of its methods writes at most one line, or none if it is switched off."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings
        self._file = -1
        self._size = 0
        self._is_torn = False  # the last line has no end
        self._minute = 0
        self._unknown = 0  # lines in this minute about people nobody knows

    @classmethod
    @contextmanager
    def open(cls, folder: Path, settings: Settings) -> Iterator[Self]:
        """The log in a data folder, until the block ends."""
        audit = cls(folder, settings)
        if settings.enabled:
            audit._open()
        try:
            yield audit
        finally:
            audit._close()

    def write(self, user: str | None, route: str, about: Mapping[str, object], **fields: Any) -> None:
        """One line; `user` is None if nobody known asks, `about` what it was done to."""
        if self._file < 0 or (user is None and not self._may_tell_of_unknown()):
            return
        self._append({"user": user or "-", "route": route, "object": about, **fields})

    def _may_tell_of_unknown(self) -> bool:
        minute = int(time() / 60)
        if minute != self._minute:
            left_out = self._unknown - MAX_UNKNOWN_A_MINUTE
            self._minute, self._unknown = minute, 0
            if left_out > 0:
                self._append({"user": "-", "route": "-", "object": {}, "left_out": left_out})
        self._unknown += 1
        return self._unknown <= MAX_UNKNOWN_A_MINUTE

    def _append(self, fields: Mapping[str, object]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"time": now} | redacted(_cut(fields))).encode() + b"\n"
        try:
            if self._size and self._size + len(line) > self._settings.file_bytes:
                self._put_aside()
            self._write(line)
        except OSError as fault:  # a full disk stops nobody from closing a session
            log.error("audit.jsonl cannot be written (%s): %s", fault.strerror, line.decode().rstrip())  # noqa: TRY400

    def _write(self, line: bytes) -> None:
        if self._is_torn:  # by a full disk or a kill: what comes now is no part of it
            line = b"\n" + line
        written = os.write(self._file, line)
        self._size += written
        self._is_torn = written < len(line)
        if self._is_torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self) -> None:
        path = self._folder / f"{STEM}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._size = os.fstat(self._file).st_size
        with path.open("rb") as written:
            written.seek(max(0, self._size - 1))
            self._is_torn = written.read(1) not in (b"", b"\n")

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _put_aside(self) -> None:
        """Begin a new file; the others move on by one."""
        for number in range(self._settings.files - 1, -1, -1):
            path = _path(self._folder, number)
            if path.exists():
                path.replace(_path(self._folder, number + 1))
        full = self._file
        self._open()
        os.close(full)


def lines(folder: Path) -> Iterator[str]:
    """All there are, oldest first; also while a server writes."""
    numbered = {_number(path): path for path in folder.glob(f"{STEM}*.jsonl")}
    for number in sorted(numbered, reverse=True):
        with numbered[number].open(encoding="utf-8") as file:
            yield from (line.rstrip("\n") for line in file)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line, taken apart; one that was torn is all in `rest`."""

    time: str
    user: str
    route: str
    status: str
    address: str
    claimed: str  # the name that somebody failed to sign in with; "": none
    about: dict[str, str]
    rest: str

    def is_about(self, user: str) -> bool:
        """Whether it tells what the user did, or somebody who said to be them."""
        return user in (self.user, self.claimed) if self.route else user in self.rest


def latest(folder: Path, most_bytes: int) -> Iterator[Entry]:
    """The last entries, newest first, from no more than so many bytes of the log; also while a server writes."""
    numbered = {_number(path): path for path in folder.glob(f"{STEM}*.jsonl")}
    for number in sorted(numbered):
        text = _end(numbered[number], most_bytes)
        most_bytes -= len(text)
        yield from (_entry(line) for line in reversed(text.decode("utf-8", "replace").splitlines()) if line)


def in_words(line: str) -> str:
    """A line for people: time, user, route, then the rest as name=value; one that was torn as it is."""
    rest = _parsed(line)
    if rest is None:
        return line
    first = (rest.pop(name, "-") for name in ("time", "user", "route"))
    about = rest.pop("object", {})
    return "  ".join((*first, *(f"{name}={value!r}" for name, value in (about | rest).items())))


def is_about(line: str, user: str) -> bool:
    """Whether the line tells what the user did, or somebody who said to be them."""
    told = _parsed(line)
    return user in line if told is None else user in (told["user"], told.get("claimed"))


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return told


def _end(path: Path, most_bytes: int) -> bytes:
    """The last whole lines of a file within so many bytes."""
    with path.open("rb") as file:
        begin = max(0, file.seek(0, os.SEEK_END) - max(0, most_bytes))
        file.seek(begin)
        text = file.read()
    return text.partition(b"\n")[2] if begin else text


def _entry(line: str) -> Entry:
    told = _parsed(line)
    if told is None:
        return Entry(**dict.fromkeys(KNOWN, ""), about={}, rest=line)
    about = {name: str(value) for name, value in told.pop("object", {}).items()}
    known = {name: str(told.pop(name, "")) for name in KNOWN}
    return Entry(**known, about=about, rest=", ".join(f"{name} {value}" for name, value in told.items()))


def _path(folder: Path, number: int) -> Path:
    return folder / (f"{STEM}.{number}.jsonl" if number else f"{STEM}.jsonl")


def _number(path: Path) -> int:
    _, _, number = path.stem.partition(".")
    return int(number) if number.isdecimal() else 0


def _cut(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _cut(inner) for name, inner in value.items()}
    return value if value is None or isinstance(value, int | float) else str(value)[:LONGEST_TEXT]
