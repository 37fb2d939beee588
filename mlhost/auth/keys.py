"""The keys that sign access tokens: each has a name, its `kid`; every thirty days a new one takes over.

The store holds their names only. The keys are derived from the server's own, so a copy of the database signs nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from joserfc.jwk import OctKey

from mlhost.names import new_id
from mlhost.store import Store

ROTATE_SECONDS = 30 * 86400.0
MIN_KEPT_SECONDS = 7200.0  # that a key still verifies after it signed its last token


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key."""

    id: str
    created_at: float  # seconds since the epoch, UTC
    secret: OctKey


class Keys:
    """The signing keys of one server; `load` comes first."""

    def __init__(self, store: Store, master: bytes, token_seconds: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._master = master
        self._good_seconds = ROTATE_SECONDS + max(MIN_KEPT_SECONDS, token_seconds)
        self._clock = clock
        self._keys: dict[str, SigningKey] = {}
        self._newest: SigningKey | None = None

    async def load(self) -> None:
        """Read the names of the keys."""
        for row in await self._store.read("select id, created_at from signing_keys order by created_at, rowid"):
            self._add(row["id"], row["created_at"])

    async def current(self) -> SigningKey:
        """The key to sign with; those that are too old to verify anything are forgotten when a new one is made."""
        now = self._clock()
        if self._newest is None or self._newest.created_at <= now - ROTATE_SECONDS:
            self._newest = self._add(new_id(), now)  # at once, so that another login does not make one more
            too_old = now - self._good_seconds
            async with self._store.write() as db:
                await db.execute("insert into signing_keys values (?, ?)", (self._newest.id, now))
                await db.execute("delete from signing_keys where created_at < ?", (too_old,))
            self._keys = {name: key for name, key in self._keys.items() if key.created_at >= too_old}
        return self._newest

    def find(self, name: object) -> SigningKey | None:
        """The key of that name, if it may still verify."""
        key = self._keys.get(name) if isinstance(name, str) else None
        return key if key is not None and key.created_at >= self._clock() - self._good_seconds else None

    def _add(self, name: str, created_at: float) -> SigningKey:
        secret = hmac.digest(self._master, b"sign " + name.encode(), "sha256")
        self._newest = self._keys[name] = SigningKey(name, created_at, OctKey.import_key(secret))
        return self._newest
