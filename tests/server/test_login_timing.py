"""How long a login takes says nothing about whether there is such a user."""

import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mlhost.auth.ldap import LdapDirectory
from mlhost.auth.passwords import Passwords
from mlhost.auth.principal import Role
from mlhost.auth.signin import Doors
from mlhost.auth.tokens import Lifetimes, Tokens
from mlhost.auth.users import Users
from mlhost.errors import Unauthenticated
from mlhost.store import Store
from mlhost.store.folder import DataFolder
from tests.parts import PASSWORD
from tests.slapd import Slapd

LOGINS = 1000
MOST_APART = 0.05


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_unknown_users_take_as_long_as_known_ones(tmp_path: Path) -> None:
    async with users_of_its_own(tmp_path) as (users, _):
        await same_time(users.sign_in, "amy", "nobody")


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_so_they_do_where_some_are_in_a_directory(tmp_path: Path, directory: Slapd) -> None:
    async with users_of_its_own(tmp_path) as (users, passwords):
        ldap = LdapDirectory(directory.settings())
        doors = Doors(users, Tokens(users._store, users, bytes(32), Lifetimes()), passwords, ldap)
        await same_time(doors.sign_in, "amy", "bob", "nobody")  # of this server, of the directory, of neither
        ldap.close()


@asynccontextmanager
async def users_of_its_own(folder: Path) -> AsyncIterator[tuple[Users, Passwords]]:
    """Amy, with passwords as dear as in earnest."""
    with DataFolder.open(folder) as data:
        store, passwords = await Store.open(data.database), Passwords()
        users = Users(store, passwords)
        await users.add("amy", PASSWORD, Role.READER)
        yield users, passwords
        passwords.close()
        await store.close()


async def same_time(sign_in: Callable[[str, str], Awaitable[object]], *names: str) -> None:
    """Sign in with a wrong password, in turn: the medians are close to each other."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for n in range(len(names) * (LOGINS + 10)):  # the first few warm up
        name = names[n % len(names)]
        begun = time.perf_counter()
        with pytest.raises(Unauthenticated):
            await sign_in(name, "a wrong password")
        if n >= 10 * len(names):
            seconds[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    apart = (max(medians.values()) - min(medians.values())) / medians[names[0]]
    told = ", ".join(f"{name} {median * 1e3:.2f} ms" for name, median in medians.items())
    print(f"\nmedian of {LOGINS} logins: {told}, {apart:.1%} apart")
    assert apart < MOST_APART
