"""Users and tokens on a real store, with a clock that is told how late it is."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlhost.auth.principal import Role
from mlhost.auth.roles import GroupRoles
from mlhost.auth.tokens import Lifetimes, Tokens
from mlhost.auth.users import Users
from mlhost.store import Store
from tests.parts import PASSWORD, cheap_passwords

GROUPS = GroupRoles(owners=("bosses",), contributors=("analysts",))
MASTER = bytes(32)


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Parts:
    store: Store
    users: Users
    clock: Clock
    tokens: Tokens
    reused: list[tuple[str, str]]  # users and grants whose refresh token came again

    async def restarted(self) -> Tokens:
        """The tokens of a next run of the server."""
        tokens = Tokens(self.store, self.users, MASTER, Lifetimes(), clock=self.clock)
        await tokens.load()
        return tokens


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    store, passwords, clock = await Store.open(tmp_path / "db"), cheap_passwords(), Clock()
    users = Users(store, passwords, GROUPS)
    await users.add("anna", PASSWORD, Role.CONTRIBUTOR)
    reused: list[tuple[str, str]] = []

    def on_reuse(user: str, grant: str) -> None:
        reused.append((user, grant))

    tokens = Tokens(store, users, MASTER, Lifetimes(), on_reuse=on_reuse, clock=clock)
    await tokens.load()
    yield Parts(store, users, clock, tokens, reused)
    passwords.close()
    await store.close()
