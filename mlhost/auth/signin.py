"""The doors by which a name and a password come in, in order: users of this server first, then those of a directory.

A name that has a password here is never asked of the directory, so nobody there can take it over. Who comes in by the
directory gets a user here without a password; whether they are still there is asked again when they renew, and from
time to time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from mlhost.auth.passwords import Passwords
from mlhost.auth.principal import Principal
from mlhost.auth.tokens import TokenPair, Tokens
from mlhost.auth.users import Users
from mlhost.errors import Throttled, Unauthenticated, Unavailable

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
    """All of them; `reserved` are names that no directory gives, in whatever capitals."""

    def __init__(
        self,
        users: Users,
        tokens: Tokens,
        passwords: Passwords,
        directory: Directory | None = None,
        *,
        reserved: Collection[str] = (),
        on_gone: Callable[[str], None] | None = None,
    ) -> None:
        self._users = users
        self._tokens = tokens
        self._passwords = passwords
        self._directory = directory
        self._reserved = reserved
        self._on_gone = on_gone  # told the name of a user who is no longer in the directory
        self._watching: asyncio.Task[None] | None = None

    async def sign_in(self, name: str, password: str) -> Principal:
        """The principal behind a name and password; Unauthenticated, or Unavailable if the directory does not answer.

        A wrong name takes as long as a right one, as long as the directory answers sooner than a hash is computed: who
        is looked for there has one computed meanwhile.
        """
        if self._directory is None or name in self._reserved or await self._users.has_password(name):
            return await self._users.sign_in(name, password)
        found, _ = outcome = await asyncio.gather(
            self._directory.sign_in(name, password), self._passwords.verify(None, password), return_exceptions=True
        )
        for fault in outcome:
            if isinstance(fault, BaseException):
                raise fault
        assert isinstance(found, Entry)
        return await self.admit(found.name, found.groups)

    async def admit(self, name: str, groups: tuple[str, ...], as_of: float | None = None) -> Principal:
        """The principal of a user whom a directory vouches for, as `Users.admit`; no name is one of the reserved."""
        if name.casefold() in self._reserved:
            log.warning("the directory has a user %s, a name that is this server's own: refused", name)
            raise Unauthenticated("invalid credentials")
        return await self._users.admit(name, groups, as_of)

    async def renew(self, refresh: str, client: str = "") -> TokenPair:
        """Exchange a refresh token for a new pair; a user of the directory must still be there, else all theirs ends.

        Unauthenticated, or Unavailable if the directory does not answer: then the token is as good as it was.
        """
        user = await self._tokens.user_of(refresh)
        if user is not None:
            if not self._users.may_come(user):
                raise Unauthenticated("invalid or expired refresh token")
            if user["password_hash"] is None:
                await self._look_up(user["name"])
        return await self._tokens.renew(refresh, client)

    async def look_up_all(self) -> None:
        """Do what a renewal does for every user of the directory who holds tokens: personal ones are not renewed."""
        for name in await self._users.vouched():
            try:
                with suppress(Unauthenticated):  # of this server since a moment ago
                    await self._look_up(name)
            except (Throttled, Unavailable) as fault:  # later, then
                log.warning("the users of the directory could not be looked up: %s", fault.message)
                return

    def watch(self, seconds: float) -> None:
        """From now on look them up every so many seconds, until `close`."""
        if self._directory is not None:
            self._watching = asyncio.get_running_loop().create_task(self._watch(seconds))

    async def close(self) -> None:
        """Look nobody up any more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def _watch(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.look_up_all()
            except Exception:
                log.exception("the users of the directory could not be looked up")

    async def _look_up(self, name: str) -> None:
        """The groups of a user are then as in the directory; of one who is no longer there every token has ended."""
        if self._directory is None:
            return
        found = await self._directory.find(name)
        if found is None:
            await self._users.revoke(name)
            if self._on_gone is not None:
                self._on_gone(name)
            log.warning("%s is no longer in the directory: every token of theirs has ended", name)
        else:
            await self._users.admit(name, found.groups)  # as they are known here, however it is spelled there now
