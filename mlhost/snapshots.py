"""Snapshots: workspaces frozen to bytes, kept for the user who took them (contract section 4)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from time import time
from typing import Any

from mlhost.auth.principal import Principal
from mlhost.errors import NotFound
from mlhost.executors import parcels
from mlhost.names import new_id
from mlhost.runtime.freeze import Manifest, freeze
from mlhost.sessions import Session, Sessions
from mlhost.store import Store
from mlhost.store.blobs import Blobs, SealedBlob

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

    async def create(
        self, who: Principal, session_id: str, name: str | None = None, *, strict: bool = False
    ) -> Snapshot:
        """Freeze the workspace of one of the caller's sessions, which stays open.

        What cannot be frozen is named on the session's console; if `strict`, in Invalid, and nothing is stored.
        """
        async with self._frozen(who, session_id, strict) as (manifest, sealed):
            snapshot_id = new_id()
            snapshot = Snapshot(
                snapshot_id, who.name, name or snapshot_id, sealed.sha256, sealed.size, dict(manifest), time()
            )
            await self._blobs.write_ahead(sealed)
            async with self._store.write() as db:
                await self._blobs.keep(db, sealed)
                await db.execute(INSERT, _to_row(snapshot))
        return snapshot

    async def load(self, who: Principal, session_id: str, snapshot_id: str) -> None:
        """Merge a snapshot into one of the caller's sessions."""
        snapshot = await self.get(who, snapshot_id)
        await self._sessions.load(
            who, session_id, lambda call: parcels.thaw_into(call, self._blobs.read(snapshot.blob))
        )

    async def resume(self, who: Principal, name: str | None, snapshot_id: str, placement: str | None = None) -> Session:
        """A new session that starts with a snapshot's workspace."""
        await self.get(who, snapshot_id)
        session = await self._sessions.open(who, name, placement)
        try:
            await self.load(who, session.id, snapshot_id)
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

    async def content(self, who: Principal, snapshot_id: str) -> tuple[Snapshot, AsyncIterator[bytes]]:
        """A snapshot and its zip in chunks, verified already; Unavailable if it is damaged."""
        snapshot = await self.get(who, snapshot_id)
        await self._blobs.verify(snapshot.blob)
        return snapshot, self._blobs.read(snapshot.blob)

    async def delete(self, who: Principal, snapshot_id: str) -> None:
        """Remove a snapshot; what was published from it keeps its own reference to the bytes."""
        async with self._store.write() as db:
            gone = await db.execute("delete from snapshots where id = ? and owner = ?", (snapshot_id, who.name))
            if gone.rowcount == 0:
                raise NotFound(f"There is no snapshot {snapshot_id!r}.")
            await self._blobs.sweep(db)

    @asynccontextmanager
    async def _frozen(
        self, who: Principal, session_id: str, strict: bool
    ) -> AsyncIterator[tuple[Manifest, SealedBlob]]:
        """A session's workspace, frozen and out of its worker; the session is free again."""
        async with AsyncExitStack() as held:
            async with self._sessions.borrow(who, session_id) as call, parcels.lent(call) as parcel:
                frozen = await call(freeze, parcel, strict)
                chunks = parcels.chunks(call, parcel, frozen["size"])
                sealed = await held.enter_async_context(self._blobs.receive(chunks))
            yield frozen["manifest"], sealed


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
