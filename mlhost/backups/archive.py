"""The form of a backup: a tar file of a manifest, the manifest's sha256, and the files it names with theirs.

Any `tar` unpacks one, and `sha256sum -c` checks its manifest. It is read more strictly than `tar` would: the manifest
first, then exactly its files in its order, plain files of known names, and nothing behind them; so that what is cut
off, changed or added is seen.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from mlhost.errors import Invalid

FORMAT = 1
MANIFEST, SUM = "manifest.json", "manifest.json.sha256"
MAX_MANIFEST_BYTES = 1 << 20
DATABASE, KEY = "mlhost.sqlite", "server.key"
NEEDED = {DATABASE, KEY}
# What of a data folder belongs into a backup. The rest is of a running server (work, lock, address), or a copy.
KEPT = re.compile(r"mlhost\.sqlite|server\.key|admin-password|audit(\.\d+)?\.jsonl|tls-(cert|key)\.pem")
PIECE_BYTES = 1 << 18
BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)  # of a tar file

Open = Callable[[str], AbstractContextManager[IO[bytes]]]


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a backup."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds."""

    format: int
    mlhost: str  # the version that made it
    schema: int  # version of the database
    created: str  # ISO 8601, UTC
    members: dict[str, Member]

    def text(self) -> bytes:
        """As it is written."""
        return json.dumps(asdict(self), indent=1).encode()

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        text = self.text()
        lengths = [len(text), len(_sum(text)), *(member.bytes for member in self.members.values())]
        return sum(BLOCK + _padded(length) for length in lengths) + len(END)


def written(manifest: Manifest, folder: Path) -> Iterator[bytes]:
    """The file piece by piece, none of them empty, from the members in a folder."""
    text = manifest.text()
    for name, content in ((MANIFEST, text), (SUM, _sum(text))):
        yield _header(name, len(content)) + content + _padding(len(content))
    for name, member in manifest.members.items():
        yield _header(name, member.bytes)
        with (folder / name).open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
        if padding := _padding(member.bytes):
            yield padding
    yield END


def read(file: IO[bytes], put: Open) -> Manifest:
    """Read a backup from its beginning to its end, each member into what `put` opens for its name; what it holds.

    Invalid if anything about it is not as it was written: then nothing of what was put may be used.
    """
    reader = _Reader(file)
    text = reader.member(MANIFEST)
    if reader.member(SUM) != _sum(text):
        raise Invalid("The backup is damaged: its manifest does not have the sha256 it should.")
    manifest = _manifest(text)
    for name, member in manifest.members.items():
        with put(name) as out:
            reader.copy(name, member, out)
    if reader.take(len(END)) != END or file.read(1):
        raise Invalid("The backup goes on behind its end: it was added to.")
    return manifest


class _Reader:
    """Takes a tar file apart, one member after the other."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.read = 0  # bytes

    def take(self, count: int) -> bytes:
        """Exactly so many bytes."""
        piece = self._file.read(count)
        self.read += len(piece)
        if len(piece) < count:
            raise Invalid(f"The backup is cut off after {self.read} bytes.")
        return piece

    def member(self, name: str) -> bytes:
        """The content of a small member."""
        size = self._head(name)
        if size > MAX_MANIFEST_BYTES:
            raise Invalid(f"{name} of the backup is too large to be one.")
        content = self.take(size)
        self._pass_padding(size)
        return content

    def copy(self, name: str, member: Member, out: IO[bytes]) -> None:
        """Copy a member out; Invalid at its end if it is not what the manifest says."""
        if self._head(name) != member.bytes:
            raise Invalid(f"{name} of the backup does not have the size its manifest says.")
        hashed, left = hashlib.sha256(), member.bytes
        while left:
            piece = self.take(min(left, PIECE_BYTES))
            hashed.update(piece)
            out.write(piece)
            left -= len(piece)
        self._pass_padding(member.bytes)
        if hashed.hexdigest() != member.sha256:
            raise Invalid(f"{name} of the backup is damaged: its sha256 is not the one its manifest says.")

    def _head(self, name: str) -> int:
        """The size of the member that begins here and must have this name."""
        try:
            head = tarfile.TarInfo.frombuf(self.take(BLOCK), "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as fault:
            raise Invalid("The file is no backup of mlhost, or it is damaged.") from fault
        if head.type != tarfile.REGTYPE or head.name != name or head.size < 0:
            raise Invalid(f"The backup has {head.name!r} where the file {name} should be.")
        return head.size

    def _pass_padding(self, size: int) -> None:
        if any(self.take(len(_padding(size)))):
            raise Invalid("The backup is damaged: there is something between its files.")


def _manifest(text: bytes) -> Manifest:
    try:
        told: dict[str, Any] = json.loads(text)
        if told["format"] != FORMAT:
            raise Invalid(f"The backup has the format {told['format']!r}; this mlhost reads {FORMAT}: use a newer one.")
        members = {name: Member(int(each["bytes"]), str(each["sha256"])) for name, each in told["members"].items()}
        manifest = Manifest(FORMAT, str(told["mlhost"]), int(told["schema"]), str(told["created"]), members)
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as fault:
        raise Invalid("The backup's manifest cannot be read.") from fault
    for name, member in members.items():
        if not KEPT.fullmatch(name) or member.bytes < 0:
            raise Invalid(f"The backup holds {name!r}, which is no file of a data folder; nothing of it was written.")
    if missing := NEEDED - members.keys():
        raise Invalid(f"The backup lacks {', '.join(sorted(missing))}.")
    return manifest


def _sum(text: bytes) -> bytes:
    return f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode()


def _header(name: str, size: int) -> bytes:
    head = tarfile.TarInfo(name)
    head.size, head.mode = size, 0o600
    return head.tobuf(tarfile.GNU_FORMAT)


def _padded(length: int) -> int:
    return -(-length // BLOCK) * BLOCK


def _padding(length: int) -> bytes:
    return bytes(_padded(length) - length)
