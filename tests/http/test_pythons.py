"""Workers that run another Python than the server (`runtime.python`)."""

import platform
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mlhost.errors import Invalid
from mlhost.executors import pythons
from mlhost.host import ensure_admin, open_host
from mlhost.http.server import serve
from mlhost.store.folder import DataFolder
from tests.clients.environments import environment, find_python
from tests.parts import PASSWORD, Api, cheap_passwords, config_for_tests, names_and_types, signed_in

OTHER = "3.13" if sys.version_info[:2] != (3, 13) else "3.12"


@pytest.fixture(scope="module")
def other() -> str:
    """The path of another Python that has what workers need, and nothing else."""
    return str(environment(find_python(OTHER), *pythons.NEEDS))


@asynccontextmanager
async def server(path: Path, python: str = "") -> AsyncIterator[Api]:
    with DataFolder.open(path) as folder:
        config = config_for_tests(runtime={"python": python, "preload": ()})
        async with open_host(config, folder, cheap_passwords()) as host:
            await ensure_admin(host, PASSWORD)
            async with serve(host) as url, signed_in(url, "admin") as api:
                yield api


async def test_sessions_and_services_run_the_other_python_and_say_so(tmp_path: Path, other: str) -> None:
    async with server(tmp_path, other) as api:
        session = await api.session()
        code = "import platform, sys\nversion, path = platform.python_version(), sys.executable"
        ran = await api.execute(session, f"{code}\ndef half(x): return x / 2", "version", "path")
        version, path = (each["value"] for each in ran["outputParameters"])
        assert version.startswith(f"{OTHER}.")
        assert path == other
        assert (await api("GET", "/sessions"))[0]["pythonVersion"] == version
        snapshot = (await api("POST", f"{session}/snapshot", 201, {}))["snapshotId"]
        await api.publish(
            "Other",
            "1",
            "import platform\ny, v = half(x), platform.python_version()",
            snapshotId=snapshot,
            inputParameterDefinitions=names_and_types(x="numeric"),
            outputParameterDefinitions=names_and_types(y="numeric", v="character"),
        )
        answer = await api("POST", "/api/Other/1", json={"x": 3})
        assert answer["outputParameters"] == {"y": 1.5, "v": version}
        assert (await api("GET", "/services/Other/1"))[0]["pythonVersion"] == version
    async with server(tmp_path) as api:
        fault = await api("POST", "/api/Other/1", 503, json={"x": 3})
        assert "Other 1 does not start any more" in fault["message"]
        assert f"taken under Python {version}; this worker runs {platform.python_version()}" in fault["message"]


async def test_a_python_without_what_workers_need_stops_the_start_and_says_what_to_do(tmp_path: Path) -> None:
    bare = str(environment(find_python(OTHER), "msgpack"))
    with pytest.raises(Invalid, match=r"lacks .*cloudpickle.*; run: .* -m pip install .*cloudpickle"):
        await pythons.find(bare, tmp_path)


async def test_what_is_no_python_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be started: No such file"):
        await pythons.find("/nowhere/python", tmp_path)
    with pytest.raises(Invalid, match="does not run as a Python"):
        await pythons.find("/bin/true", tmp_path)


async def test_a_python_that_is_too_old_is_told(tmp_path: Path) -> None:
    old = find_python("3.9")
    with pytest.raises(Invalid, match=r"is Python 3\.9\.\d+; workers need 3\.11 or later"):
        await pythons.find(old, tmp_path)
