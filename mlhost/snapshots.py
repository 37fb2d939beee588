"""Snapshots: workspaces frozen to bytes, kept for the user who took them (contract section 4)."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from time import time
from typing import Any

from mlhost.auth.principal import Principal
from mlhost.errors import NotFound
from mlhost.names import new_id
from mlhost.runtime.freeze import freeze, thaw
from mlhost.sessions import Session, Sessions
from mlhost.store import Store
from mlhost.store.blobs import Blobs

INSERT = """
insert into snapshots (id, owner, name, blob, size, manifest, created_at)
values (:id, :owner, :name, :blob, :size, :manifest, :created_at)
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A frozen workspace."""

    id: str
    owner: str
    name: str
    blob: str  # sha256 of the zip
    size: int  # bytes of the zip
    manifest: dict[str, Any]  # see `mlhost.runtime.freeze.Manifest`
    created_at: float  # seconds since the epoch, UTC

    @property
    def is_empty(self) -> bool:
        """Whether it holds no objects and no files."""
        return not self.manifest["objects"] and not self.manifest["files"]


class Snapshots:
    """The snapshots of one server; another user's snapshot does not exist for the one who asks."""

    def __init__(self, store: Store, blobs: Blobs, sessions: Sessions) -> None:
        self._store = store
        self._blobs = blobs
        self._sessions = sessions

    async def create(self, who: Principal, session_id: str, name: str | None = None) -> Snapshot:
        """Freeze the workspace of one of the caller's sessions, which stays open."""
        frozen = await self._sessions.call(who, session_id, freeze)
        sealed = await self._blobs.seal(frozen["archive"])
        snapshot_id, manifest = new_id(), dict(frozen["manifest"])
        snapshot = Snapshot(snapshot_id, who.name, name or snapshot_id, sealed.sha256, sealed.size, manifest, time())
        async with self._store.write() as db:
            await self._blobs.keep(db, sealed)
            await db.execute(INSERT, _to_row(snapshot))
        return snapshot

    async def load(self, who: Principal, session_id: str, snapshot_id: str) -> None:
        """Merge a snapshot into one of the caller's sessions."""
        await self._sessions.call(who, session_id, thaw, await self.content(who, snapshot_id))

    async def resume(self, who: Principal, name: str | None, snapshot_id: str, placement: str | None = None) -> Session:
        """A new session that starts with a snapshot's workspace."""
        archive = await self.content(who, snapshot_id)
        session = await self._sessions.open(who, name, placement)
        try:
            await self._sessions.call(who, session.id, thaw, archive)
        except BaseException:
            await self._sessions.close(who, session.id, force=True)
            raise
        return session

    async def list(self, who: Principal) -> list[Snapshot]:
        """The caller's snapshots, oldest first."""
        rows = await self._store.read("select * from snapshots where owner = ? order by created_at, rowid", (who.name,))
        return [_from_row(row) for row in rows]

    async def get(self, who: Principal, snapshot_id: str) -> Snapshot:
        """One of the caller's snapshots, or NotFound."""
        row = await self._store.read_one("select * from snapshots where id = ? and owner = ?", (snapshot_id, who.name))
        if row is None:
            raise NotFound(f"There is no snapshot {snapshot_id!r}.")
        return _from_row(row)

    async def content(self, who: Principal, snapshot_id: str) -> bytes:
        """The snapshot as a zip."""
        return await self._blobs.read((await self.get(who, snapshot_id)).blob)

    async def delete(self, who: Principal, snapshot_id: str) -> None:
        """Remove a snapshot; what was published from it keeps its own reference to the bytes."""
        async with self._store.write() as db:
            gone = await db.execute("delete from snapshots where id = ? and owner = ?", (snapshot_id, who.name))
            if gone.rowcount == 0:
                raise NotFound(f"There is no snapshot {snapshot_id!r}.")
            await self._blobs.sweep(db)


def _to_row(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "id": snapshot.id,
        "owner": snapshot.owner,
        "name": snapshot.name,
        "blob": snapshot.blob,
        "size": snapshot.size,
        "manifest": json.dumps(snapshot.manifest),
        "created_at": snapshot.created_at,
    }


def _from_row(row: sqlite3.Row) -> Snapshot:
    return Snapshot(**(dict(row) | {"manifest": json.loads(row["manifest"])}))
