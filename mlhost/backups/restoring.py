"""Making a data folder of a backup: all is read, verified and on disk before the folder that is there is touched.

The new folder is made beside the old one and then takes its place in one step of the file system, so that a kill or a
power failure leaves the one or the other. POSIX only, as the data folder is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from mlhost.backups.archive import DATABASE, Manifest, read
from mlhost.errors import Conflict, Invalid, Unavailable
from mlhost.store.folder import hold, sync
from mlhost.store.migrate import newest

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of renameat2(2)


def verified(file: Path) -> Manifest:
    """What a backup holds; Invalid if it is not whole. Nothing is written."""
    with _words(file), file.open("rb") as archive, Path(os.devnull).open("wb") as nowhere:

        @contextmanager
        def put(_name: str) -> Iterator[IO[bytes]]:
            yield nowhere

        return read(archive, put)


def restored(file: Path, target: Path, *, force: bool) -> tuple[Manifest, Path | None]:
    """Make `target` the data folder that a backup holds; what it held, and where the folder is now that was there.

    Conflict if `target` has something in it and `force` is not set, or if a server runs in it; Invalid if the backup is
    not whole or was made by a newer mlhost; Unavailable if the disk does not take it. In all these cases the folder
    that is there stays as it is.
    """
    target = target.resolve()
    is_there = target.exists() and any(target.iterdir())
    with ExitStack() as held:
        if is_there:
            if not force:
                raise Conflict(f"{target} is not empty: restore into another folder with --data, or --force it.")
            held.callback(os.close, hold(target))
        with _words(target.parent):
            fresh = _fresh_beside(target)
            try:
                manifest = _unpacked(file, fresh)
                old = _put(fresh, target, is_there=is_there)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
    return manifest, old


def _fresh_beside(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.restoring")
    shutil.rmtree(fresh, ignore_errors=True)  # of a restore that was killed
    fresh.mkdir(mode=0o700)
    return fresh


def _unpacked(file: Path, folder: Path) -> Manifest:
    @contextmanager
    def put(name: str) -> Iterator[IO[bytes]]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(folder / name, flags, 0o600), "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())

    with file.open("rb") as archive:
        manifest = read(archive, put)
    _check_database(folder / DATABASE, manifest.schema)
    sync(folder)
    return manifest


def _check_database(path: Path, schema: int) -> None:
    """Invalid unless SQLite finds it whole and this mlhost knows its schema; leaves no files beside it."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            (version,) = database.execute("pragma user_version").fetchone()
            (verdict,) = database.execute("pragma quick_check(1)").fetchone()
    except sqlite3.Error as fault:
        raise Invalid(f"The backup's database is damaged: {fault}.") from fault
    if verdict != "ok" or version != schema:
        raise Invalid("The backup's database is damaged.")
    if version > newest():
        raise Invalid(
            f"The backup's database has version {version}, this mlhost knows versions up to {newest()}:"
            " restore it with the mlhost that made it, or a newer one."
        )


def _put(fresh: Path, target: Path, *, is_there: bool) -> Path | None:
    """Into the place of a folder, which is moved aside, unless it is free or empty; where the old one is now."""
    aside = target.with_name(f"{target.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
    if not is_there:
        fresh.rename(target)
    elif _exchanged(fresh, target):
        fresh.rename(aside)
    else:  # a system that cannot: for a moment there is no folder, but nothing is lost
        target.rename(aside)
        fresh.rename(target)
    sync(target.parent)
    return aside if is_there else None


def _exchanged(one: Path, other: Path) -> bool:
    """Whether the two have changed places, in one step; False where the system has no such step."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    if renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


@contextmanager
def _words(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise Unavailable(
            f"{fault.filename or place}: {fault.strerror}; what was there before is as it was."
        ) from fault
