"""Tokens: a JWT to show with every request, and an opaque one to renew it (contract sections 1.1 and 8).

Each login is a grant kept on the server. An access token is good only while its grant names it, so renewing or
revoking ends the paired access token at once, whatever its signature and expiry say. Checked tokens are remembered in
a bounded table that renewing and revoking edit: looking one up costs a microsecond, verifying one fifty.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from time import time
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from mlhost.auth.principal import Principal, Role
from mlhost.auth.users import Users
from mlhost.errors import Unauthenticated
from mlhost.names import new_id
from mlhost.store import Store

ALGORITHM = "HS256"  # one party signs and verifies
ISSUER = "mlhost"
LEEWAY_SECONDS = 30  # allowed between clocks
REFRESH_BYTES = 48  # of randomness
MAX_TOKEN_LENGTH = 4096  # characters; longer ones are not even looked at
MAX_REMEMBERED = 10_000  # checked tokens

INSERT = """
insert into grants (id, user, access_id, refresh_hash, created_at, refreshed_at)
values (:id, :user, :access_id, :refresh_hash, :created_at, :refreshed_at)
"""
FIND = """
select * from grants where refresh_hash = :hash and created_at >= :oldest and refreshed_at >= :idle
"""
CHECK = """
select users.name, users.role from grants join users on users.name = grants.user
where grants.id = ? and grants.access_id = ?
"""
SWEEP = """
delete from grants where created_at < :oldest or refreshed_at < :idle
"""
RENEW = """
update grants set access_id = :access_id, refresh_hash = :refresh_hash, refreshed_at = :refreshed_at where id = :id
"""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Of tokens, in seconds; the settings of section `auth`."""

    access_seconds: int = 3600
    refresh_idle_seconds: int = 14 * 86400
    refresh_max_seconds: int = 90 * 86400


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a login or renewal gives out."""

    access: str
    refresh: str
    expires_in: int  # seconds
    expires_on: int  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class _Known:
    who: Principal
    grant: str
    expires_on: float


class Tokens:
    """Issues, renews, revokes and checks tokens."""

    def __init__(self, store: Store, users: Users, key: bytes, lifetimes: Lifetimes) -> None:
        self._store = store
        self._users = users
        self._key = OctKey.import_key(key)
        self._lifetimes = lifetimes
        self._known: dict[str, _Known] = {}
        self._users_seen = users.changes
        self._ended = 0  # how many grants were renewed or revoked

    async def issue(self, who: Principal) -> TokenPair:
        """A new grant and its first pair."""
        now = time()
        pair, record = self._new_pair(new_id(), who.name, now)
        async with self._store.write() as db:
            await db.execute(INSERT, record | {"user": who.name, "created_at": now})
            await db.execute(SWEEP, self._bounds(now))
        return pair

    async def renew(self, refresh: str) -> TokenPair:
        """Exchange a refresh token for a new pair; both old tokens end. Unauthenticated if it does not hold."""
        now = time()
        async with self._store.write() as db:
            rows = await db.execute_fetchall(FIND, {"hash": _hash(refresh)} | self._bounds(now))
            grant = next(iter(rows), None)
            if grant is None:
                raise Unauthenticated("invalid or expired refresh token")
            pair, record = self._new_pair(grant["id"], grant["user"], now)
            await db.execute(RENEW, record)
        self._forget(grant["id"])
        return pair

    async def revoke(self, refresh: str) -> None:
        """End the grant of a refresh token, and with it the paired access token."""
        async with self._store.write() as db:
            query = "delete from grants where refresh_hash = ? returning id"
            ended = list(await db.execute_fetchall(query, (_hash(refresh),)))
        if not ended:
            raise Unauthenticated("invalid or expired refresh token")
        self._forget(ended[0]["id"])

    def remembered(self, access: str) -> Principal | None:
        """Who a token checked before belongs to; None if it must be checked."""
        if self._users.changes != self._users_seen:
            self._known.clear()
            self._users_seen = self._users.changes
        known = self._known.get(access)
        return known.who if known is not None and known.expires_on > time() else None

    async def check(self, access: str) -> Principal:
        """Who an access token belongs to: signature, expiry and grant hold, and the user exists; Unauthenticated."""
        claims = self._verified(access)
        ended, changes = self._ended, self._users.changes
        row = await self._store.read_one(CHECK, (claims["sid"], claims["jti"]))
        if row is None:
            raise Unauthenticated("The token has been renewed or revoked; log in again.")
        who = Principal(row["name"], Role.of(row["role"]))
        if (ended, changes) == (self._ended, self._users.changes):  # else it may have ended while we looked
            if len(self._known) >= MAX_REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[access] = _Known(who, claims["sid"], claims["exp"])
        return who

    def _verified(self, access: str) -> dict[str, Any]:
        if len(access) > MAX_TOKEN_LENGTH:
            raise Unauthenticated("The token is too long.")
        if not access.isascii():
            raise Unauthenticated("The token does not hold: none has letters beyond ASCII.")
        try:
            claims: dict[str, Any] = jwt.decode(access, self._key, algorithms=[ALGORITHM]).claims
            _RULES.validate(claims)
        except (JoseError, ValueError) as fault:
            raise Unauthenticated(f"The token does not hold: {fault}") from None
        return claims

    def _new_pair(self, grant: str, user: str, now: float) -> tuple[TokenPair, dict[str, Any]]:
        access_id, refresh = new_id(), b64encode(secrets.token_bytes(REFRESH_BYTES)).decode()
        expires_on = int(now) + self._lifetimes.access_seconds
        claims = {
            "iss": ISSUER,
            "sub": user,
            "sid": grant,
            "jti": access_id,
            "iat": int(now),
            "exp": expires_on,
        }
        access = jwt.encode({"alg": ALGORITHM, "typ": "at+jwt"}, claims, self._key)
        pair = TokenPair(access, refresh, self._lifetimes.access_seconds, expires_on)
        record = {"id": grant, "access_id": access_id, "refresh_hash": _hash(refresh), "refreshed_at": now}
        return pair, record

    def _forget(self, grant: str) -> None:
        self._ended += 1
        for token in [token for token, known in self._known.items() if known.grant == grant]:
            del self._known[token]

    def _bounds(self, now: float) -> dict[str, float]:
        return {
            "oldest": now - self._lifetimes.refresh_max_seconds,
            "idle": now - self._lifetimes.refresh_idle_seconds,
        }


_RULES = jwt.JWTClaimsRegistry(
    leeway=LEEWAY_SECONDS,
    iss={"essential": True, "value": ISSUER},
    sid={"essential": True},
    jti={"essential": True},
    exp={"essential": True},
)


def _hash(refresh: str) -> bytes:
    return sha256(refresh.encode("utf-8", "surrogatepass")).digest()
