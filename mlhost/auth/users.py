"""Local users: a name, a password hash and a role, kept in the store."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from time import time

from mlhost.auth.passwords import Passwords
from mlhost.auth.principal import Principal, Role
from mlhost.errors import Conflict, Invalid, NotFound, Unauthenticated
from mlhost.store import Store

MAX_NAME_LENGTH = 128  # characters

INSERT = """
insert into users (name, password_hash, role, created_at)
values (:name, :password_hash, :role, :created_at)
"""


@dataclass(frozen=True, slots=True)
class User:
    """A local user."""

    name: str
    role: Role
    created_at: float  # seconds since the epoch, UTC


class Users:
    """The local users of one server."""

    def __init__(self, store: Store, passwords: Passwords) -> None:
        self._store = store
        self._passwords = passwords
        self.changes = 0  # how often a password or role was changed; what was checked before then no longer holds

    async def sign_in(self, name: str, password: str) -> Principal:
        """The principal behind a name and password, or Unauthenticated; a wrong name takes as long as a right one."""
        row = await self._store.read_one("select password_hash, role from users where name = ?", (name,))
        if not await self._passwords.verify(row["password_hash"] if row else None, password) or row is None:
            raise Unauthenticated("invalid credentials")
        return Principal(name, Role.of(row["role"]))

    async def add(self, name: str, password: str, role: Role) -> None:
        """Create a user; Conflict if the name is taken."""
        if not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise Invalid(f"{name!r} cannot name a user.", field="name")
        hashed = await self._passwords.hash(password)
        record = {"name": name, "password_hash": hashed, "role": role.title, "created_at": time()}
        try:
            async with self._store.write() as db:
                await db.execute(INSERT, record)
        except sqlite3.IntegrityError:
            raise Conflict(f"There is a user {name!r} already.") from None

    async def list(self) -> list[User]:
        """All users by name."""
        rows = await self._store.read("select name, role, created_at from users order by name")
        return [User(row["name"], Role.of(row["role"]), row["created_at"]) for row in rows]

    async def set_password(self, name: str, password: str) -> None:
        """Change a password; every token given out under the old one ends."""
        hashed = await self._passwords.hash(password)
        await self._update("password_hash", name, hashed)

    async def set_role(self, name: str, role: Role) -> None:
        """Change a role; tokens given out before end, so that the next login has the new one."""
        await self._update("role", name, role.title)

    async def _update(self, column: str, name: str, value: str) -> None:
        async with self._store.write() as db:
            changed = await db.execute(f"update users set {column} = ? where name = ?", (value, name))  # noqa: S608
            if changed.rowcount == 0:
                raise NotFound(f"There is no user {name!r}.")
            await db.execute("delete from grants where user = ?", (name,))
        self.changes += 1
