"""The doors by which a name and a password come in, in order: users of this server first, then those of a directory.

A name that has a password here is never asked of the directory, so nobody there can take it over. Who comes in by the
directory gets a user here without a password; whether they are still there is asked again whenever they renew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from mlhost.auth.passwords import Passwords
from mlhost.auth.principal import Principal
from mlhost.auth.tokens import TokenPair, Tokens
from mlhost.auth.users import Users
from mlhost.errors import Unauthenticated

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A user, as a directory has them."""

    name: str
    groups: tuple[str, ...]


class Directory(Protocol):
    """Where users are that this server has no passwords of; its methods raise Unavailable if it cannot be asked."""

    async def sign_in(self, name: str, password: str) -> Entry:
        """The user behind a name and password; Unauthenticated if there is none."""
        ...

    async def find(self, name: str) -> Entry | None:
        """The user of that name, exactly; None if there is none any more."""
        ...


class Doors:
    """All of them; `shut` are names of this server that do not come in here, `reserved` ones no directory gives."""

    def __init__(
        self,
        users: Users,
        tokens: Tokens,
        passwords: Passwords,
        directory: Directory | None = None,
        *,
        shut: Collection[str] = (),
        reserved: Collection[str] = (),
    ) -> None:
        self._users = users
        self._tokens = tokens
        self._passwords = passwords
        self._directory = directory
        self._shut = shut
        self._reserved = reserved

    async def sign_in(self, name: str, password: str) -> Principal:
        """The principal behind a name and password; Unauthenticated, or Unavailable if the directory does not answer.

        A wrong name takes as long as a right one: who is looked for in the directory has a hash computed meanwhile.
        """
        if name in self._shut:
            raise Unauthenticated(f"{name} does not sign in here: users are those of a directory (auth.keep_admin).")
        if self._directory is None or await self._users.has_password(name):
            return await self._users.sign_in(name, password)
        padding = self._passwords.verify(None, password)
        found, _ = outcome = await asyncio.gather(
            self._directory.sign_in(name, password), padding, return_exceptions=True
        )
        for fault in outcome:
            if isinstance(fault, BaseException):
                raise fault
        assert isinstance(found, Entry)
        return await self._admit(found)

    async def renew(self, refresh: str, client: str = "") -> TokenPair:
        """Exchange a refresh token for a new pair; a user of the directory must still be there, else all theirs ends.

        Unauthenticated, or Unavailable if the directory does not answer: then the token is as good as it was.
        """
        name = await self._tokens.user_of(refresh)
        if self._directory is not None and name is not None and not await self._users.has_password(name):
            found = await self._directory.find(name)
            if found is None:
                await self._users.revoke(name)
                log.warning("%s is no longer in the directory: every token of theirs has ended", name)
                raise Unauthenticated("invalid or expired refresh token")
            await self._admit(found)
        return await self._tokens.renew(refresh, client)

    async def _admit(self, found: Entry) -> Principal:
        if found.name in self._reserved:
            log.warning("the directory has a user %s, a name that is this server's own: refused", found.name)
            raise Unauthenticated("invalid credentials")
        return await self._users.admit(found.name, found.groups)
