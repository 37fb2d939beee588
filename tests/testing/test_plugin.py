"""The fixtures of the pytest plugin, as tests of a project use them, and the server without pytest."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import aiohttp
import pytest
import requests
from sklearn.linear_model import LinearRegression

from mlhost.client import Client
from mlhost.errors import Busy, Invalid, Unavailable
from mlhost.pytest_plugin import ServiceUrl
from mlhost.testing import Server, serve

START_SECONDS, SERVICE_SECONDS = 0.8, 0.05


def doubled(x: float) -> float:
    return 2 * x


@pytest.fixture(scope="module")
def published() -> list[str]:
    return []


def test_a_service_is_called_by_its_url(
    mlhost_service: Callable[[object], ServiceUrl], mlhost_client: Client, published: list[str]
) -> None:
    url = mlhost_service(doubled)
    assert requests.post(url, json={"x": 2}, headers=url.headers).json()["outputParameters"] == {"answer": 4}
    assert requests.post(url, json={"x": 2}).status_code == 401
    model = mlhost_service(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]))
    answer = requests.post(model, json={"rows": [[2.0]]}, headers=model.headers).json()
    assert answer["outputParameters"]["answer"] == pytest.approx([4.0])
    published += [url, model]


def test_a_service_is_gone_with_the_test_that_made_it(mlhost_client: Client, published: list[str]) -> None:
    assert len(published) == 2
    left = {f"{mlhost_client.url}/api/{each.name}/{each.version}" for each in mlhost_client.services()}
    assert not left & set(published)


async def test_async_tests_use_the_same_fixtures(
    mlhost_service: Callable[[object], ServiceUrl], mlhost_server: Server
) -> None:
    url = mlhost_service(doubled)
    async with aiohttp.ClientSession() as http, http.post(url, json={"x": 2}, headers=url.headers) as response:
        assert (await response.json())["outputParameters"] == {"answer": 4}
    async with mlhost_server.connect_async() as ml:
        assert [each for each in await ml.services() if url.endswith(f"/api/{each.name}/{each.version}")]


def test_settings_of_a_server_are_its_own_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLHOST_SESSIONS_MAX", "nonsense")
    with serve({"sessions.max_per_user": 1}) as server, server.connect() as ml:
        ml.session()
        with pytest.raises(Busy, match=r"sessions\.max_per_user"):
            ml.session()
    with pytest.raises(Unavailable, match=r"did not start: sessions\.mx: no such setting"), serve({"sessions.mx": 1}):
        pass


def test_a_server_ends_with_the_program_that_started_it() -> None:
    program = "import os\nfrom mlhost.testing import serve\nwith serve() as s:\n print(s.url, flush=True)\n os._exit(1)"
    url = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            requests.get(f"{url}/livez", timeout=1)
        except requests.ConnectionError:
            return
        time.sleep(0.02)
    pytest.fail(f"{url} still answers")


def test_what_the_worker_refuses_is_told(mlhost_service: Callable[[object], ServiceUrl]) -> None:
    def untyped(x):  # type: ignore[no-untyped-def]
        return x

    with pytest.raises(Invalid, match="'x' has no type"):
        mlhost_service(untyped)


@pytest.mark.untraced
def test_a_server_and_a_service_are_there_as_soon_as_promised() -> None:
    starts, services = [], []
    for _ in range(2):
        began = time.perf_counter()
        with serve() as server:
            starts.append(time.perf_counter() - began)
            with server.connect() as ml:
                for name in "abcde":
                    began = time.perf_counter()
                    ml.publish(doubled, name, "1.0")
                    services.append(time.perf_counter() - began)
    load = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # a promise about a machine that is free
    assert min(starts) <= START_SECONDS * load
    assert min(services) <= SERVICE_SECONDS * load
