"""How long a login takes says nothing about whether there is such a user."""

import statistics
import time
from pathlib import Path

import pytest

from mlhost.auth.passwords import Passwords
from mlhost.auth.principal import Role
from mlhost.auth.users import Users
from mlhost.errors import Unauthenticated
from mlhost.store import Store
from mlhost.store.folder import DataFolder
from tests.parts import PASSWORD

LOGINS = 1000
MOST_APART = 0.05


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_unknown_users_take_as_long_as_known_ones(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path) as folder:
        store, passwords = await Store.open(folder.database), Passwords()
        users = Users(store, passwords)
        await users.add("amy", PASSWORD, Role.READER)
        seconds: dict[str, list[float]] = {"amy": [], "nobody": []}
        for n in range(2 * LOGINS + 20):  # interleaved; the first few warm up
            name = ("amy", "nobody")[n % 2]
            begun = time.perf_counter()
            with pytest.raises(Unauthenticated):
                await users.sign_in(name, "a wrong password")
            if n >= 20:
                seconds[name].append(time.perf_counter() - begun)
        passwords.close()
        await store.close()
    known, unknown = (statistics.median(each) for each in seconds.values())
    apart = abs(known - unknown) / known
    print(f"\nmedian of {LOGINS} logins: known {known * 1e3:.2f} ms, unknown {unknown * 1e3:.2f} ms, {apart:.1%} apart")
    assert apart < MOST_APART
