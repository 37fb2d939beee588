"""The bound on all workers, over a whole host: what nobody calls makes room for what somebody asks for."""

from pathlib import Path

import pytest

from mlhost.auth.principal import Principal, Role
from mlhost.errors import Busy
from mlhost.host import open_host
from mlhost.scoring import score
from mlhost.services import Draft
from mlhost.store.folder import DataFolder
from tests.parts import cheap_passwords, config_for_tests

ANNA = Principal("anna", Role.OWNER)


async def test_resting_services_make_room_for_sessions_and_other_services(tmp_path: Path) -> None:
    config = config_for_tests(pool={"initial": 0, "max": 3}, runtime={"preload": ()})
    with DataFolder.open(tmp_path) as folder:
        async with open_host(config, folder, cheap_passwords()) as host:
            for version in ("1", "2", "3", "4"):
                await host.services.publish(ANNA, "Small", version, Draft(code="x = 1"))
            sessions = [await host.sessions.open(ANNA) for _ in range(2)]
            for version in ("1", "2", "3", "4"):  # one place is left for all four
                assert b'"success":true' in await score(host.services.ready("Small", version), b"{}")
            sessions.append(await host.sessions.open(ANNA))
            with pytest.raises(Busy, match=r"pool\.max"):
                await host.sessions.open(ANNA)
            with pytest.raises(Busy, match=r"pool\.max"):
                await score(host.services.ready("Small", "1"), b"{}")
            await host.sessions.close(ANNA, sessions[0].id)
            assert b'"success":true' in await score(host.services.ready("Small", "1"), b"{}")
