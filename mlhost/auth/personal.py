"""Personal access tokens: for scripts and CI, named, for a purpose, for a time; shown once and kept hashed.

One is worth what its owner may do at the moment it is shown, and no more than its scope. A new password or role does
not end it, `Users.revoke` does.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from secrets import token_urlsafe
from time import time

from mlhost.auth.known import Known
from mlhost.auth.principal import Principal, Scope
from mlhost.auth.users import GIVEN, Users
from mlhost.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from mlhost.names import new_id
from mlhost.store import Store

PREFIX = "mlh_"  # by which people and scanners of repositories tell what it is
SECRET_BYTES = 32  # of randomness: 43 characters
MAX_NAME_LENGTH = 100  # characters
MAX_DAYS = 366
MAX_PER_USER = 100
DAY_SECONDS = 86400

_FORM = re.compile(PREFIX + r"[\w-]{43}", re.ASCII)

INSERT = """
insert into personal_tokens (id, user, name, scope, hash, created_at, expires_at)
values (:id, :user, :name, :scope, :hash, :created_at, :expires_at)
"""
LIST = """
select id, name, scope, created_at, expires_at from personal_tokens where user = ? order by created_at, rowid
"""
CHECK = f"""
select personal_tokens.id, personal_tokens.scope, personal_tokens.expires_at, users.name, users.password_hash,
    users.role, users.groups, ({GIVEN}) as given
from personal_tokens join users on users.name = personal_tokens.user
where personal_tokens.hash = ? and personal_tokens.expires_at > ?
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class PersonalToken:
    """One, without its secret."""

    id: str
    name: str
    scope: str
    created_at: float  # seconds since the epoch, UTC
    expires_at: float


class PersonalTokens:
    """The personal access tokens of one server."""

    def __init__(self, store: Store, users: Users, known: Known, *, clock: Callable[[], float] = time) -> None:
        self._store = store
        self._users = users
        self._known = known
        self._clock = clock

    async def create(self, who: Principal, name: str, scope: str, days: int) -> tuple[PersonalToken, str]:
        """A new token and what to show of it, which nobody can tell again; Conflict if the owner has one of that name.

        Expired ones make room.
        """
        if who.scope is not None:
            raise Forbidden("A personal access token cannot make another; log in.")
        if not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise Invalid(f"name: 1 to {MAX_NAME_LENGTH} printable characters", field="name")
        if not 1 <= days <= MAX_DAYS:
            raise Invalid(f"expiresInDays: 1 to {MAX_DAYS}", field="expiresInDays")
        now, secret = self._clock(), PREFIX + token_urlsafe(SECRET_BYTES)
        token = PersonalToken(new_id(), name, str(Scope.of(scope)), now, now + days * DAY_SECONDS)
        async with self._store.write() as db:
            await db.execute("delete from personal_tokens where user = ? and expires_at <= ?", (who.name, now))
            taken = [row["name"] for row in await db.execute_fetchall(LIST, (who.name,))]
            if name in taken:
                raise Conflict(f"You have a personal access token {name!r} already; revoke it or choose another name.")
            if len(taken) >= MAX_PER_USER:
                raise Conflict(f"You have {MAX_PER_USER} personal access tokens, which is all one may have.")
            await db.execute(INSERT, asdict(token) | {"user": who.name, "hash": _hash(secret)})
        return token, secret

    async def list(self, who: Principal) -> list[PersonalToken]:
        """The caller's, oldest first."""
        return [PersonalToken(**dict(row)) for row in await self._store.read(LIST, (who.name,))]

    async def revoke(self, who: Principal, token_id: str) -> None:
        """End one of the caller's; NotFound if it is not theirs."""
        async with self._store.write() as db:
            gone = await db.execute("delete from personal_tokens where id = ? and user = ?", (token_id, who.name))
            if gone.rowcount == 0:
                raise NotFound(f"You have no personal access token {token_id!r}.")
        self._known.forget(token_id)

    async def end(self, secret: str) -> None:
        """End the one that is shown; nothing happens if there is none."""
        async with self._store.write() as db:
            query = "delete from personal_tokens where hash = ? returning id"
            for row in await db.execute_fetchall(query, (_hash(secret),)):
                self._known.forget(row["id"])

    async def check(self, secret: str) -> Principal:
        """Who a token belongs to, with the role they have now within its scope; Unauthenticated if it does not hold."""
        mark = self._known.mark()
        row = await self.find(secret)
        if row is None:
            raise Unauthenticated("The personal access token is unknown, revoked or expired.")
        scope = Scope.of(row["scope"])
        who = Principal(row["name"], min(self._users.role(row), scope.most), scope)
        self._known.remember(secret, who, row["id"], row["expires_at"], mark)
        return who

    async def find(self, secret: str) -> sqlite3.Row | None:
        """What is kept of a token that holds."""
        if not _FORM.fullmatch(secret):
            return None
        row = await self._store.read_one(CHECK, (_hash(secret), self._clock()))
        return row if row is not None and self._users.may_come(row) else None


def _hash(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()
