"""What published versions are made of: the workspace one was published with, or what its model says of itself."""

from __future__ import annotations

import io
import json
from dataclasses import asdict

import msgspec

from mlhost import realtime
from mlhost.auth.principal import Principal
from mlhost.errors import NotFound
from mlhost.realtime import Header
from mlhost.runtime.freeze import Manifest
from mlhost.services import Service
from mlhost.store import Store
from mlhost.store.blobs import Blobs

MANIFEST = "select manifest from services where name = ? and version = ?"
HEAD_BYTES = len(realtime.MAGIC) + realtime.LENGTHS.size  # of a model, before its header


class Contents:
    """Of the versions of one server."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs

    async def manifest(self, who: Principal, service: Service) -> Manifest | None:
        """What the workspace held that a version starts with.

        None if it starts with none, for a model, and for those who may not see the version's code either: it shows what
        the objects hold.
        """
        if service.definition.is_realtime or not service.is_open_to(who):
            return None
        row = await self._store.read_one(MANIFEST, (service.name, service.version))
        manifest: Manifest | None = json.loads(row["manifest"]) if row and row["manifest"] else None
        return manifest

    async def header(self, service: Service) -> Header | None:
        """What a model says of itself, as its publisher made it; None for a version with code, or without its model."""
        if service.blob is None or not service.definition.is_realtime:
            return None
        try:
            header = realtime.read_header(io.BytesIO(await self._head(service.blob)))
            return msgspec.convert(asdict(header), Header)
        except (NotFound, msgspec.ValidationError):  # deleted meanwhile, or made by hand
            return None

    async def _head(self, blob: str) -> bytes:
        """The beginning of a model, with all of its header."""
        head, wanted = b"", HEAD_BYTES
        async for chunk in self._blobs.read(blob):
            head += chunk
            if wanted == HEAD_BYTES <= len(head):
                wanted += realtime.LENGTHS.unpack_from(head, len(realtime.MAGIC))[1]
            if len(head) >= wanted:
                break
        return head
