"""Where things are kept on this machine: a server's data, the address it listens at, the logins of its users.

A login is kept per URL, in a file nobody else may read (mode 0600); whoever can read it can do what its user may.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from mlhost.errors import Unavailable

DEFAULT_URL = "http://127.0.0.1:12800"
ADDRESS = "address"  # the file of the data folder that tells where the server that holds it listens
LOCK = "lock"  # the file of the data folder that a running server has locked
ADMIN = "admin"
PASSWORD_FILE = "admin-password"  # noqa: S105 - the file's name, in the data folder
LOGINS = "logins.json"


def data_folder() -> Path:
    """Where a server keeps its data that is told no other place."""
    return Path(platformdirs.user_data_dir("mlhost", appauthor=False))


@dataclass(frozen=True, slots=True)
class Saved:
    """A login that was saved: a token of `user`'s at `url`."""

    url: str
    user: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Logins:
    """The saved logins of this user of the machine; `file` is made when the first is saved."""

    file: Path

    @classmethod
    def here(cls) -> Logins:
        """Those in the user's configuration folder."""
        return cls(Path(platformdirs.user_config_dir("mlhost", appauthor=False)) / LOGINS)

    def find(self, url: str | None = None) -> Saved | None:
        """The login at a URL, or the one saved last; Unavailable if others may read the file."""
        kept = self._read()
        url = url.rstrip("/") if url else next(reversed(kept), None)
        return None if url is None or url not in kept else Saved(url, kept[url]["user"], kept[url]["token"])

    def save(self, login: Saved) -> None:
        """Keep a login, in place of an older one at the same URL."""
        kept = self._read()
        kept.pop(login.url, None)
        self._write(kept | {login.url: {"user": login.user, "token": login.token}})

    def forget(self, url: str) -> None:
        """Keep the login at a URL no longer."""
        kept = self._read()
        if kept.pop(url.rstrip("/"), None) is not None:
            self._write(kept)

    def _read(self) -> dict[str, Any]:
        try:
            if self.file.stat().st_mode & 0o077:
                raise Unavailable(
                    f"{self.file} is open to other users, and has your tokens; run: chmod 600 {self.file}"
                )
            kept = json.loads(self.file.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as fault:
            raise Unavailable(f"{self.file} cannot be read: {fault}; run mlhost login after removing it.") from fault
        return kept if isinstance(kept, dict) else {}

    def _write(self, kept: dict[str, Any]) -> None:
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made with mode 0600, and there as a whole or not at all.
        descriptor, fresh = tempfile.mkstemp(dir=self.file.parent, prefix=f".{LOGINS}")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(kept, file, indent=1)
        Path(fresh).replace(self.file)


def local_server(folder: Path) -> tuple[str, str] | None:
    """URL and first password ("" if it is gone) of the server that holds this data folder now; None if none does.

    Nobody but the folder's owner can write there, so what listens at that address is the owner's server; what listens
    where a server that was killed used to is not.
    """
    if not _is_held(folder):
        return None
    try:
        url = (folder / ADDRESS).read_text("utf-8").strip()
    except OSError:
        return None
    try:
        return url, (folder / PASSWORD_FILE).read_text("utf-8").strip()
    except OSError:
        return url, ""


def _is_held(folder: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows, where no server runs
        return False
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
