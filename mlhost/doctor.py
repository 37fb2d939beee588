"""The doctor: looks at a data folder, the versions and the store, and says what is wrong."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import platform
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlhost import __version__
from mlhost.auth.oidc import check_provider
from mlhost.config import Config
from mlhost.errors import Conflict, MlhostError
from mlhost.host import open_directory
from mlhost.http.tls import Certificate, last_day
from mlhost.store import Store
from mlhost.store.blobs import Blobs
from mlhost.store.folder import DataFolder

PACKAGES = (
    "aiohttp",
    "uvloop",
    "aiosqlite",
    "msgpack",
    "msgspec",
    "cloudpickle",
    "dill",
    "joserfc",
    "cryptography",
    "argon2-cffi",
)
SCORING_PACKAGES = ("numpy", "pandas", "scikit-learn")
# From 3.51.3 on a race of two writers in WAL mode can no longer damage a database; mlhost never has two.
SAFE_SQLITE = (3, 51, 3)
LOW_SPACE_BYTES = 1 << 30
RENEWAL_DAYS = 14  # before its end a certificate should have been renewed


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    subject: str
    told: str
    is_problem: bool = False

    def line(self) -> str:
        """As it is printed."""
        return f"{'PROBLEM' if self.is_problem else 'ok':<8}{self.subject}: {self.told}"


async def examine(config: Config, path: Path) -> list[Finding]:
    """Everything worth telling, problems among it."""
    return [
        *_versions(),
        *_preload(config),
        *_door(config),
        *(await _directory(config)),
        *_space(path),
        *(await _folder(path)),
    ]


def _versions() -> Iterator[Finding]:
    yield Finding("mlhost", __version__)
    yield Finding("Python", platform.python_version())
    note = "" if sqlite3.sqlite_version_info >= SAFE_SQLITE else " (never open the database with a second writer)"
    yield Finding("SQLite", sqlite3.sqlite_version + note)
    for package in PACKAGES:
        yield _version(package, "it is missing: reinstall mlhost", is_problem=True)
    for package in SCORING_PACKAGES:
        yield _version(package, "not installed: pip install 'mlhost[ml]' if your code needs it", is_problem=False)


def _version(package: str, if_missing: str, *, is_problem: bool) -> Finding:
    try:
        return Finding(package, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return Finding(package, if_missing, is_problem)


def _preload(config: Config) -> Iterator[Finding]:
    tops = {module.partition(".")[0] for module in config.runtime.preload}
    missing = sorted(top for top in tops if importlib.util.find_spec(top) is None)
    told = f"not installed and skipped: {', '.join(missing)}" if missing else "all installed"
    yield Finding("runtime.preload", told)


def _door(config: Config) -> Iterator[Finding]:
    where = f"{config.server.host} port {config.server.port}"
    try:
        certificate = Certificate.of(config.server)
    except MlhostError as fault:
        yield Finding("door", fault.message, is_problem=True)
        return
    if certificate is None:
        yield Finding("door", f"{where}, without TLS")
        return
    ends = last_day(Path(config.server.tls_cert))
    left = (ends - datetime.now(UTC)).days
    told = f"{where}, TLS; the certificate ends on {ends:%Y-%m-%d}"
    hint = "; renew it and send the server SIGHUP" if left < RENEWAL_DAYS else ""
    yield Finding("door", told + hint, is_problem=left < RENEWAL_DAYS)


async def _directory(config: Config) -> list[Finding]:
    if not config.has_directory:
        return []
    findings = []
    with ExitStack() as stack:
        try:
            directory = open_directory(stack, config)
            if directory is not None:
                await directory.check()
                findings.append(Finding("directory", f"{directory.url} answers"))
        except MlhostError as fault:
            findings.append(Finding("directory", fault.message, is_problem=True))
    if config.oidc.issuer:
        findings.append(await _provider(config))
    told = "does not sign in (auth.keep_admin = false)" if config.shuts_admin_out else "signs in too (auth.keep_admin)"
    findings.append(Finding("admin", told))
    if config.shuts_admin_out and not config.auth.owner_groups:
        findings.append(Finding("auth.owner_groups", "empty: nobody of the directory is an Owner by group"))
    return findings


async def _provider(config: Config) -> Finding:
    try:
        keys = await check_provider(config.oidc)
    except MlhostError as fault:
        return Finding("identity provider", fault.message, is_problem=True)
    return Finding("identity provider", f"{config.oidc.issuer} answers; public keys that sign: {keys}")


def _space(path: Path) -> Iterator[Finding]:
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    yield Finding("free space", f"{free / 2**30:.1f} GiB", is_problem=free < LOW_SPACE_BYTES)


async def _folder(path: Path) -> list[Finding]:
    if not await asyncio.to_thread(path.exists):
        return [Finding("data folder", f"{path} does not exist yet; the first start makes it")]
    try:
        with DataFolder.open(path) as folder:
            return [Finding("data folder", f"{path} is free and its key is in order"), *(await _store(folder))]
    except Conflict as held:
        return [Finding("data folder", f"{held.message}; the store is checked when that server is stopped")]
    except MlhostError as fault:
        return [Finding("data folder", fault.message, is_problem=True)]


async def _store(folder: DataFolder) -> list[Finding]:
    store = await Store.open(folder.database)
    try:
        faults = await store.check()
        damaged = await Blobs(store, folder.key("blobs")).check()
    finally:
        await store.close()
    findings = [Finding("store", fault, is_problem=True) for fault in faults]
    findings += [Finding("snapshot bytes", fault, is_problem=True) for fault in damaged]
    return findings or [Finding("store", "whole, and every snapshot's bytes verify")]
