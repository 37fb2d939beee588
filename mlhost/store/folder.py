"""The one folder a server lives in: its lock, its key, its database, its workers' working directories.

POSIX only; on a network file system the lock is as good as that system's `flock`.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from mlhost.errors import Conflict, Unavailable
from mlhost.places import ADDRESS, LOCK

DATABASE = "mlhost.sqlite"
WORK = "work"
KEY = "server.key"
KEY_BYTES = 32  # as many as the HMAC-SHA256 made with it


class DataFolder:
    """An open data folder, held until `close` or the end of the process, however that comes."""

    def __init__(self, path: Path, server_key: bytes, at_close: ExitStack) -> None:
        self.path = path
        self.database = path / DATABASE
        self.work = path / WORK
        self._server_key = server_key
        self._at_close = at_close

    @classmethod
    def open(cls, path: Path) -> Self:
        """Hold the folder, made if need be; Conflict if a server has it, Unavailable if it cannot be used."""
        return cls._open(path.absolute(), ExitStack())

    @classmethod
    def ephemeral(cls) -> Self:
        """Hold a fresh temporary folder, which `close` removes."""
        path = Path(tempfile.mkdtemp(prefix="mlhost-"))
        at_close = ExitStack()
        at_close.callback(_remove, path)
        return cls._open(path, at_close)

    @classmethod
    def _open(cls, path: Path, at_close: ExitStack) -> Self:
        with at_close, _os_errors_in_words(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            at_close.callback(os.close, hold(path))
            (path / ADDRESS).unlink(missing_ok=True)  # of a server that was killed
            at_close.callback((path / ADDRESS).unlink, missing_ok=True)
            server_key = _server_key(path)
            (path / DATABASE).touch(mode=0o600)  # made by SQLite, it would be everybody's to read
            _remove(path / WORK)
            (path / WORK).mkdir(mode=0o700, exist_ok=True)
            return cls(path, server_key, at_close.pop_all())

    def key(self, purpose: str) -> bytes:
        """The key for one purpose ("blobs", "tokens"): 32 bytes, the same at every start."""
        return hmac.digest(self._server_key, purpose.encode(), "sha256")

    def tell_address(self, url: str) -> None:
        """Leave word, for clients of the same user, where the server that holds this folder listens."""
        file = self.path / ADDRESS
        file.touch(mode=0o600)
        file.write_text(f"{url}\n", "utf-8")

    def close(self) -> None:
        """Let go of the folder."""
        self._at_close.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _os_errors_in_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"{error.filename or folder}: {error.strerror}; the data folder must belong to the server's user"
            " and have space left"
        ) from error


def hold(folder: Path) -> int:
    """The descriptor that holds the folder's lock; it is closed on exec, so a child process does not keep it.

    Conflict if a server has it.
    """
    with ExitStack() as undo:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        undo.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(lock, 20).decode() or "unknown"
            raise Conflict(
                f"{folder} is in use by another server, process {pid}; stop that one,"
                " or give this one another data folder"
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        undo.pop_all()
        return lock


def _server_key(folder: Path) -> bytes:
    path = folder / KEY
    if not path.exists():
        if (folder / DATABASE).exists():
            raise Unavailable(
                f"{path} is missing, and what {DATABASE} beside it holds is sealed with it;"
                f" bring the key back from a backup, or move {DATABASE} away to start anew"
            )
        _create_key(path)
    return _read_key(path)


def _create_key(path: Path) -> None:
    """Either no key or a whole one, even if the power fails; the lock keeps others out meanwhile."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)  # left by a start that was killed
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Wait until the disk has what was made, renamed or removed in a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_key(path: Path) -> bytes:
    if path.stat().st_mode & 0o077:
        raise Unavailable(f"{path} is open to other users, who could forge tokens and snapshots; run: chmod 600 {path}")
    server_key = path.read_bytes()
    if len(server_key) != KEY_BYTES:
        raise Unavailable(f"{path} holds {len(server_key)} bytes, not {KEY_BYTES}; bring the key back from a backup")
    return server_key


def _remove(folder: Path) -> None:
    """Remove a tree as far as possible; user code may have left folders in it that nobody can enter."""
    for parent, names, _ in os.walk(folder):
        for inner in (Path(parent, name) for name in names):
            if not inner.is_symlink():
                with suppress(OSError):
                    inner.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
