"""Tokens: a JWT to show with every request, and an opaque one to renew it (contract sections 1.1 and 8).

Each login is a grant kept on the server. An access token is good only while its grant names it, so renewing or
revoking ends the paired access token at once, whatever its signature and expiry say.

A refresh token is good once. Used again, it ends the whole grant, since one of the two who had it is a thief (RFC 9700
section 4.14.2), but for an answer that was lost: within ten seconds the same pair is given again, as long as nobody
used it. Its successor is derived from it with the server's key, so that only hashes need to be kept.
"""

from __future__ import annotations

import hmac
import logging
import sqlite3
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from secrets import token_bytes
from time import time
from typing import Any

import aiosqlite
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import GuestProtocol, OctKey

from mlhost.auth.keys import Keys, SigningKey
from mlhost.auth.known import Known
from mlhost.auth.principal import Principal
from mlhost.auth.users import GIVEN, Users
from mlhost.errors import Unauthenticated
from mlhost.names import new_id
from mlhost.store import Store

log = logging.getLogger(__name__)

ALGORITHM = "HS256"  # one party signs and verifies
KIND = "at+jwt"  # RFC 9068
ISSUER = AUDIENCE = "mlhost"
LEEWAY_SECONDS = 30  # allowed between clocks
GRACE_SECONDS = 10  # in which a renewal whose answer was lost may be repeated
REFRESH_BYTES = 48  # of randomness
MAX_TOKEN_LENGTH = 4096  # characters; longer ones are not even looked at

INSERT = """
insert into grants (id, user, client, access_id, created_at, refreshed_at)
values (:id, :user, :client, :access_id, :now, :now)
"""
FIND = """
select grants.*, refreshes.retired_at,
    exists (select 1 from refreshes where hash = :successor and retired_at is null) as successor_is_unused
from refreshes join grants on grants.id = refreshes.grant_id
where refreshes.hash = :hash and grants.client = :client and created_at >= :oldest and refreshed_at >= :idle
"""
CHECK = f"""
select users.name, users.password_hash, users.role, users.groups, ({GIVEN}) as given, grants.client
from grants join users on users.name = grants.user
where grants.id = ? and grants.access_id = ?
"""  # noqa: S608
DESCRIBE = """
select grants.*, users.name, users.password_hash
from refreshes join grants on grants.id = refreshes.grant_id join users on users.name = grants.user
where refreshes.hash = :hash and retired_at is null and grants.created_at >= :oldest and refreshed_at >= :idle
"""
USER_OF = """
select users.name, users.password_hash
from refreshes join grants on grants.id = refreshes.grant_id join users on users.name = grants.user
where refreshes.hash = ?
"""
SWEEP = """
delete from grants where created_at < :oldest or refreshed_at < :idle
"""
RENEW = """
update grants set access_id = :access_id, refreshed_at = :now where id = :id
"""
END = """
delete from grants where id in (select grant_id from refreshes where hash = ?) returning id
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


class Tokens:
    """Issues, renews, revokes and checks tokens; `load` comes first."""

    def __init__(
        self,
        store: Store,
        users: Users,
        master: bytes,
        lifetimes: Lifetimes,
        *,
        on_reuse: Callable[[str, str], None] | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._store = store
        self._users = users
        self._on_reuse = on_reuse  # told the user and the grant when a refresh token comes again
        self._clock = clock
        self._lifetimes = lifetimes
        self._refresh_key = hmac.digest(master, b"refresh", "sha256")
        self._keys = Keys(store, master, lifetimes.access_seconds, clock)
        self.known = Known(users, clock)

    async def load(self) -> None:
        """Get ready to check what an earlier run has signed."""
        await self._keys.load()

    async def issue(self, who: Principal, client: str = "") -> TokenPair:
        """A new grant and its first pair; `client` is who asks on the user's behalf, "" the user themselves."""
        now, key = self._clock(), await self._keys.current()
        refresh = b64encode(token_bytes(REFRESH_BYTES)).decode()
        grant: dict[str, Any] = {"id": new_id(), "user": who.name, "client": client, "access_id": new_id(), "now": now}
        async with self._store.write() as db:
            await db.execute(INSERT, grant)
            await _keep(db, refresh, grant["id"])
            await db.execute(SWEEP, self._bounds(now))
        return self._pair(key, grant, refresh, now)

    async def renew(self, refresh: str, client: str = "") -> TokenPair:
        """Exchange a refresh token for a new pair; both old tokens end. Unauthenticated if it does not hold."""
        now, key = self._clock(), await self._keys.current()
        successor = self._successor(refresh)
        wanted = {"hash": _hash(refresh), "successor": _hash(successor), "client": client}
        async with self._store.write() as db:
            grant = await _first(db, FIND, wanted | self._bounds(now))
            if grant is None:
                raise Unauthenticated("invalid or expired refresh token")
            renewed = await self._advance(db, grant, refresh, successor, now)
        self.known.forget(grant["id"])
        if renewed is None:
            if self._on_reuse is not None:
                self._on_reuse(grant["user"], grant["id"])
            log.warning("a refresh token of %s was used twice; its grant has ended", grant["user"])
            raise Unauthenticated("This refresh token was used before, so its login has ended; log in again.")
        return self._pair(key, renewed, successor, renewed["now"])

    async def user_of(self, refresh: str) -> sqlite3.Row | None:
        """Whose a refresh token is, or was: `name` and `password_hash`; None if it is nobody's."""
        return await self._store.read_one(USER_OF, (_hash(refresh),))

    async def revoke(self, refresh: str) -> None:
        """End the grant of a refresh token, and with it the paired access token; one that was used does it too."""
        async with self._store.write() as db:
            ended = await _first(db, END, (_hash(refresh),))
        if ended is None:
            raise Unauthenticated("invalid or expired refresh token")
        self.known.forget(ended["id"])

    async def revoke_access(self, access: str) -> None:
        """End the grant of an access token; Unauthenticated if it does not hold."""
        claims = self._verified(access)
        async with self._store.write() as db:
            await db.execute("delete from grants where id = ? and access_id = ?", (claims["sid"], claims["jti"]))
        self.known.forget(claims["sid"])

    def remembered(self, token: str) -> Principal | None:
        """Who a token checked before belongs to, personal ones included; None if it must be checked."""
        return self.known.get(token)

    async def check(self, access: str) -> Principal:
        """Who an access token belongs to: signature, expiry and grant hold, and the user exists; Unauthenticated."""
        claims, mark = self._verified(access), self.known.mark()
        row = await self._store.read_one(CHECK, (claims["sid"], claims["jti"]))
        if row is None:
            raise Unauthenticated("The token has been renewed or revoked; log in again.")
        if not self._users.may_come(row):
            raise Unauthenticated(f"{row['name']} is not let in any more.")
        who = Principal(row["name"], self._users.role(row))
        self.known.remember(access, who, claims["sid"], claims["exp"], mark)
        return who

    def grant_of(self, access: str) -> str:
        """The id of the login that an access token is of, the same after a renewal; Unauthenticated as in `check`."""
        return str(self._verified(access)["sid"])

    async def describe(self, token: str) -> dict[str, Any] | None:
        """What an access or refresh token is, in the words of RFC 7662 section 2.2; None if it does not hold."""
        if token.count(".") != 2:
            row = await self._store.read_one(DESCRIBE, {"hash": _hash(token)} | self._bounds(self._clock()))
            told = {"exp": self._ends_at(row)} if row else {}
        else:
            try:
                claims = self._verified(token)
            except Unauthenticated:
                return None
            row = await self._store.read_one(CHECK, (claims["sid"], claims["jti"]))
            told = {name: claims[name] for name in ("iss", "aud", "jti", "iat", "exp")} | {"token_type": "Bearer"}
        if row is None or not self._users.may_come(row):
            return None
        return told | {"username": row["name"], "sub": row["name"], "client_id": row["client"], "scope": "all"}

    # --- how -------------------------------------------------------------------------------------------------------

    async def _advance(
        self, db: aiosqlite.Connection, grant: sqlite3.Row, refresh: str, successor: str, now: float
    ) -> dict[str, Any] | None:
        """The grant after the renewal, or None if it ended because its token was used before."""
        if grant["retired_at"] is None:
            renewed = dict(grant) | {"access_id": new_id(), "now": now}
            await db.execute("update refreshes set retired_at = ? where hash = ?", (now, _hash(refresh)))
            await _keep(db, successor, grant["id"])
            await db.execute(RENEW, {name: renewed[name] for name in ("id", "access_id", "now")})
            return renewed
        if grant["successor_is_unused"] and now - grant["retired_at"] <= GRACE_SECONDS:
            return dict(grant) | {"now": grant["refreshed_at"]}
        await db.execute("delete from grants where id = ?", (grant["id"],))
        return None

    def _verified(self, access: str) -> dict[str, Any]:
        if len(access) > MAX_TOKEN_LENGTH:
            raise Unauthenticated("The token is too long.")
        if not access.isascii():
            raise Unauthenticated("The token does not hold: none has letters beyond ASCII.")
        try:
            token = jwt.decode(access, self._key_of, algorithms=[ALGORITHM])
            _rules(int(self._clock())).validate(token.claims)
        except (JoseError, ValueError) as fault:
            raise Unauthenticated(f"The token does not hold: {fault}") from None
        return token.claims

    def _key_of(self, token: GuestProtocol) -> OctKey:
        """The key a token names; never one it brings along (`jwk`, `jku`, `x5u`)."""
        header = token.headers()
        key = self._keys.find(header.get("kid")) if header.get("typ") == KIND else None
        if key is None:
            raise ValueError("its key or its type is unknown")
        return key.secret

    def _pair(self, key: SigningKey, grant: dict[str, Any], refresh: str, now: float) -> TokenPair:
        """The pair of a grant made or renewed at `now`; the same for the same moment."""
        expires_on = int(now) + self._lifetimes.access_seconds
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": grant["user"],
            "sid": grant["id"],
            "jti": grant["access_id"],
            "iat": int(now),
            "exp": expires_on,
        }
        access = jwt.encode({"alg": ALGORITHM, "typ": KIND, "kid": key.id}, claims, key.secret)
        return TokenPair(access, refresh, self._lifetimes.access_seconds, expires_on)

    def _successor(self, refresh: str) -> str:
        digest = hmac.digest(self._refresh_key, refresh.encode("utf-8", "surrogatepass"), "sha512")
        return b64encode(digest[:REFRESH_BYTES]).decode()

    def _ends_at(self, grant: sqlite3.Row) -> int:
        idle = grant["refreshed_at"] + self._lifetimes.refresh_idle_seconds
        return int(min(idle, grant["created_at"] + self._lifetimes.refresh_max_seconds))

    def _bounds(self, now: float) -> dict[str, float]:
        return {
            "oldest": now - self._lifetimes.refresh_max_seconds,
            "idle": now - self._lifetimes.refresh_idle_seconds,
        }


def _rules(now: int) -> jwt.JWTClaimsRegistry:
    return jwt.JWTClaimsRegistry(
        now=now,
        leeway=LEEWAY_SECONDS,
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        sid={"essential": True},
        jti={"essential": True},
        exp={"essential": True},
    )


async def _keep(db: aiosqlite.Connection, refresh: str, grant: str) -> None:
    await db.execute("insert into refreshes (hash, grant_id) values (?, ?)", (_hash(refresh), grant))


async def _first(db: aiosqlite.Connection, sql: str, parameters: Any) -> sqlite3.Row | None:
    return next(iter(await db.execute_fetchall(sql, parameters)), None)


def _hash(refresh: str) -> bytes:
    return sha256(refresh.encode("utf-8", "surrogatepass")).digest()
