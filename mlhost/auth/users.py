"""Users: a name, a password hash, a role and groups, kept in the store; one without a hash is a directory's."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from time import time

import aiosqlite

from mlhost.auth.passwords import Passwords
from mlhost.auth.principal import Principal, Role
from mlhost.auth.roles import GroupRoles, Standing
from mlhost.errors import Conflict, Invalid, NotFound, Unauthenticated
from mlhost.store import Store

log = logging.getLogger(__name__)

MAX_NAME_LENGTH = 128  # characters
UNASSIGNED = "Default"  # how people write that somebody has no role of their own

INSERT = """
insert into users (name, password_hash, role, created_at)
values (:name, :password_hash, :role, :created_at)
"""
GIVEN = "select group_concat(distinct role) from users"  # the roles that anybody has by name
FIND = f"""
select name, password_hash, role, groups, groups_at, ({GIVEN}) as given from users where name = ?
"""  # noqa: S608
VOUCHED = """
select name from users where password_hash is null and (
    exists (select 1 from grants where grants.user = users.name)
    or exists (select 1 from personal_tokens where personal_tokens.user = users.name)
) order by name
"""
REGROUP = "update users set groups = ?, groups_at = ? where name = ?"
EVERYBODY = f"select name, password_hash, role, groups, created_at, ({GIVEN}) as given from users"  # noqa: S608


@dataclass(frozen=True, slots=True)
class User:
    """A user, as they were entered."""

    name: str
    role: Role | None  # None: not given any, so that groups or the default rule decide
    groups: tuple[str, ...]
    created_at: float  # seconds since the epoch, UTC
    standing: Standing  # what comes of that


class Users:
    """The users of one server."""

    def __init__(
        self,
        store: Store,
        passwords: Passwords,
        group_roles: GroupRoles | None = None,
        *,
        shut_out: Collection[str] = (),
        takes_vouched: bool = True,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._group_roles = group_roles or GroupRoles()
        self._shut_out = shut_out  # names that do not come in
        self._takes_vouched = takes_vouched  # whether there is a directory that can vouch for those without a password
        self.changes = 0  # how often anything about users was changed; what was checked before then no longer holds

    async def sign_in(self, name: str, password: str) -> Principal:
        """The principal behind a name and password, or Unauthenticated; a wrong name takes as long as a right one."""
        row = await self._store.read_one(FIND, (name,))
        if not await self._passwords.verify(row["password_hash"] if row else None, password) or row is None:
            raise Unauthenticated("invalid credentials")
        if not self.may_come(row):
            raise Unauthenticated(f"{name} does not sign in here: users are those of a directory (auth.keep_admin).")
        return Principal(name, self.role(row))

    def may_come(self, row: sqlite3.Row) -> bool:
        """Whether a user as in `FIND` is let in at all; what they were given before counts again when they are."""
        return row["name"] not in self._shut_out and (self._takes_vouched or row["password_hash"] is not None)

    async def has_password(self, name: str) -> bool:
        """Whether there is such a user and their password is kept here, not in a directory."""
        row = await self._store.read_one("select 1 from users where name = ? and password_hash is not null", (name,))
        return row is not None

    async def vouched(self) -> Sequence[str]:
        """The names of those without a password who hold tokens."""
        return [row["name"] for row in await self._store.read(VOUCHED)]

    async def admit(self, name: str, groups: Collection[str], as_of: float | None = None) -> Principal:
        """The principal of a user whom a directory vouches for, with the groups they have there.

        `as_of` is when it said so, now if not given (seconds since the epoch): groups of before then do not come back,
        not even after a restart. They get a user here when they first come, without a password and a role of their own.
        Unauthenticated if the name is that of a user with a password, who is somebody else.
        """
        if not _can_be_a_name(name):
            log.warning("the directory has a user %r, which cannot name a user here: refused", name)
            raise Unauthenticated("invalid credentials")
        as_of = time() if as_of is None else as_of
        async with self._store.write() as db:
            row = await _first(db, name)
            if row is not None and row["password_hash"] is not None:
                log.warning("the directory has a user %s as this server has: that one was refused", name)
                raise Unauthenticated("invalid credentials")
            if row is None:
                record = {"name": name, "password_hash": None, "role": None, "created_at": time()}
                await db.execute(INSERT, record)
            known = json.loads(row["groups"]) if row else None
            if row is None or as_of >= row["groups_at"]:
                await db.execute(REGROUP, (json.dumps(list(groups)), as_of, name))
                self.changes += known != list(groups)
            row = await _first(db, name)
        assert row is not None
        return Principal(name, self.role(row))

    def role(self, row: sqlite3.Row) -> Role:
        """The role of a user as in `FIND`: what they were given by name or by group, or else by the default rule."""
        return self._standing(row).role

    def _standing(self, row: sqlite3.Row) -> Standing:
        given = [Role.of(title) for title in (row["given"] or "").split(",") if title]
        return self._group_roles.standing(_own(row), json.loads(row["groups"]), given)

    async def add(self, name: str, password: str, role: Role | None) -> None:
        """Create a user, without a role of their own if it is None; Conflict if the name is taken."""
        if not _can_be_a_name(name):
            raise Invalid(f"{name!r} cannot name a user.", field="name")
        hashed = await self._passwords.hash(password)
        record = {"name": name, "password_hash": hashed, "role": _title(role), "created_at": time()}
        try:
            async with self._store.write() as db:
                await db.execute(INSERT, record)
        except sqlite3.IntegrityError:
            raise Conflict(f"There is a user {name!r} already.") from None
        self.changes += 1  # a first Reader takes the default role from others

    async def list(self) -> list[User]:
        """All users by name."""
        return [self._from_row(row) for row in await self._store.read(f"{EVERYBODY} order by name")]

    async def get(self, name: str) -> User:
        """One user, or NotFound."""
        row = await self._store.read_one(f"{EVERYBODY} where name = ?", (name,))
        if row is None:
            raise NotFound(f"There is no user {name!r}.")
        return self._from_row(row)

    async def set_password(self, name: str, password: str) -> None:
        """Change a password; every token given out under the old one ends. A directory's user becomes one of ours."""
        hashed = await self._passwords.hash(password)
        await self._update("password_hash", name, hashed)

    async def set_role(self, name: str, role: Role | None) -> None:
        """Change a role, or take it away; tokens given out before end, so that the next login has the new one.

        Conflict if nobody would be an Owner any more; the same goes for groups.
        """
        await self._update("role", name, _title(role))

    async def set_groups(self, name: str, groups: Collection[str]) -> None:
        """Change the groups of a user; tokens given out before end."""
        await self._update("groups", name, json.dumps(list(groups)))

    async def revoke(self, name: str) -> None:
        """End every token a user has, personal ones included."""
        async with self._store.write() as db:
            if not list(await db.execute_fetchall("select 1 from users where name = ?", (name,))):
                raise NotFound(f"There is no user {name!r}.")
            await db.execute("delete from grants where user = ?", (name,))
            await db.execute("delete from personal_tokens where user = ?", (name,))
        self.changes += 1

    async def _update(self, column: str, name: str, value: str | None) -> None:
        async with self._store.write() as db:
            had_owner = await self._has_owner(db)
            changed = await db.execute(f"update users set {column} = ? where name = ?", (value, name))  # noqa: S608
            if changed.rowcount == 0:
                raise NotFound(f"There is no user {name!r}.")
            if had_owner and not await self._has_owner(db):
                raise Conflict(f"{name} is the last Owner; make somebody else one first.")
            await db.execute("delete from grants where user = ?", (name,))
        self.changes += 1

    def _from_row(self, row: sqlite3.Row) -> User:
        standing = self._standing(row)
        if not self.may_come(row):
            because = "shut out: users are those of a directory (auth.keep_admin, ldap.url, oidc.issuer)"
            standing = Standing(Role.NONE, because)
        return User(row["name"], _own(row), tuple(json.loads(row["groups"])), row["created_at"], standing)

    async def _has_owner(self, db: aiosqlite.Connection) -> bool:
        return any(self.role(row) is Role.OWNER for row in await db.execute_fetchall(EVERYBODY))


def role_of(title: str) -> Role | None:
    """The role of that name, None for "Default", or Invalid."""
    return None if title.lower() == UNASSIGNED.lower() else Role.of(title)


def title_of(role: Role | None) -> str:
    """As people write it."""
    return UNASSIGNED if role is None else role.title


def _title(role: Role | None) -> str | None:
    return None if role is None else role.title


def _own(row: sqlite3.Row) -> Role | None:
    return None if row["role"] is None else Role.of(row["role"])


def _can_be_a_name(name: str) -> bool:
    return bool(name.strip()) and len(name) <= MAX_NAME_LENGTH and name.isprintable()


async def _first(db: aiosqlite.Connection, name: str) -> sqlite3.Row | None:
    return next(iter(await db.execute_fetchall(FIND, (name,))), None)
