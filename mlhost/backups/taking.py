"""Taking a backup of a data folder that this process holds, also while a server works in it.

The database is copied under one read transaction of a connection of its own: writers go on, and the copy is as of one
moment. Its key never changes; the audit log, which only grows, is copied as far as it has come.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlhost import __version__
from mlhost.backups.archive import DATABASE, FORMAT, KEPT, PIECE_BYTES, Manifest, Member, written
from mlhost.errors import Invalid, Unavailable
from mlhost.store import copy_database
from mlhost.store.folder import DataFolder

SPARE_BYTES = 64 << 20  # that a server is left with on its disk, whatever a backup takes


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup that is ready to be written somewhere."""

    manifest: Manifest
    folder: Path  # of its members, gone at the end of the block

    @property
    def size(self) -> int:
        """Bytes of its file."""
        return self.manifest.size

    @property
    def name(self) -> str:
        """What its file may be called."""
        return f"mlhost-{self.manifest.created[:19].replace(':', '')}.tar"

    def pieces(self) -> Iterator[bytes]:
        """Its file, piece by piece."""
        return written(self.manifest, self.folder)


@contextmanager
def taken(folder: DataFolder) -> Iterator[Taken]:
    """A backup of the folder as it is now, until the block ends; blocks as long as copying takes.

    Unavailable if the disk has no room for the copy, Invalid if there is nothing to back up.
    """
    there = [path for path in sorted(folder.path.iterdir()) if KEPT.fullmatch(path.name) and path.is_file()]
    if not folder.database.stat().st_size:
        raise Invalid(f"There is nothing to back up in {folder.path}: no server has run there.")
    _check_room(folder.path, sum(path.stat().st_size for path in there))
    try:
        with tempfile.TemporaryDirectory(prefix="backup-", dir=folder.work) as copies:
            kept = Path(copies)
            schema = copy_database(folder.database, kept / DATABASE)
            for path in there:
                if path.name != DATABASE:  # opening that would let go of the locks SQLite has on it
                    shutil.copyfile(path, kept / path.name)
            members = {path.name: _member(path) for path in sorted(kept.iterdir())}
            yield Taken(Manifest(FORMAT, __version__, schema, datetime.now(UTC).isoformat(), members), kept)
    except OSError as fault:
        raise Unavailable(f"The backup cannot be made: {fault.filename or folder.path}: {fault.strerror}.") from fault


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise Unavailable(
            f"The disk of {folder} has {free >> 20} MiB left, and a backup is first copied there, which takes"
            f" {(needed + SPARE_BYTES) >> 20} MiB: free some space, or stop the server and copy the folder."
        )


def _member(path: Path) -> Member:
    hashed, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            hashed.update(piece)
            size += len(piece)
    return Member(size, hashed.hexdigest())
