"""Snapshots: frozen workspaces that the server keeps, what is in them, and their zips (contract section 4)."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from mlhost.client.steps import Sink, Steps
from mlhost.client.transport import Transport, path
from mlhost.errors import NotFound, Unavailable

MANIFEST = "manifest.json"  # as `mlhost.runtime.freeze` writes it
FILES = "files/"
MEMORY_BYTES = 1 << 20  # of a zip that is only looked into; a larger one waits on disk

Tell = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A frozen workspace."""

    id: str
    name: str
    size: int  # bytes
    created: str = ""  # ISO 8601, UTC


@dataclass(frozen=True, slots=True)
class Contents:
    """What a snapshot holds."""

    python: str  # "3.11.7"
    packages: dict[str, str]  # that its objects refer to -> version
    objects: dict[str, dict[str, Any]]  # name -> type, shape, bytes, repr; what is not known is left out
    files: dict[str, tuple[int, int]]  # name -> bytes, CRC-32
    skipped: dict[str, str]  # object that could not be kept -> why


NOTHING = Contents("", {}, {}, {}, {})  # of a version that was published without a snapshot


def every(transport: Transport) -> Steps[list[Snapshot]]:
    """Those of whoever is signed in, the oldest first."""
    told = (yield from transport.ask("GET", "/snapshots")).json()
    return [Snapshot(each["id"], each["name"], each["contentSize"], each["creationTime"]) for each in told]


def found(transport: Transport, snapshot: str) -> Steps[Snapshot]:
    """One by its id, or by its name if only one has it; NotFound if there is none."""
    there = yield from every(transport)
    named = [each for each in there if each.id == snapshot] or [each for each in there if each.name == snapshot]
    if len(named) > 1:
        raise NotFound(f"{len(named)} snapshots are named {snapshot!r}: say which by its id.")
    if not named:
        raise NotFound(f"There is no snapshot {snapshot!r}.")
    return named[0]


def downloaded(transport: Transport, snapshot: str, file: IO[bytes], tell: Tell | None) -> Steps[None]:
    """Its zip, written to a file as it comes."""
    into = Sink(file, tell) if tell else Sink(file)
    yield from transport.ask("GET", path("snapshots", snapshot), into=into)


def contents(transport: Transport, snapshot: str) -> Steps[Contents]:
    """What it holds, as its manifest tells; nothing of it is opened."""
    with tempfile.SpooledTemporaryFile(MEMORY_BYTES) as file:
        yield from downloaded(transport, snapshot, file, None)
        try:
            with zipfile.ZipFile(file) as frozen:
                manifest = json.loads(frozen.read(MANIFEST))
                files = {
                    each.filename.removeprefix(FILES): (each.file_size, each.CRC)
                    for each in frozen.infolist()
                    if each.filename.startswith(FILES) and not each.is_dir()
                }
            return Contents(
                manifest["python"], manifest["packages"], manifest["objects"], files, manifest.get("skipped", {})
            )
        except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as fault:
            raise Unavailable(f"What came is no snapshot: {type(fault).__name__}: {fault}") from fault
