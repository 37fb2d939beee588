"""Fixtures for the tests of projects that publish services; loaded by pytest wherever mlhost is installed.

`mlhost_server` is a real server for the whole run (one for each worker of pytest-xdist), `mlhost_client` a client that
is signed in there, `mlhost_service` publishes a function or model for one test. Importing this loads no server and no
client: only a test that asks for a fixture pays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mlhost.client import Client
    from mlhost.testing import Server

PROFILE = "mlhost_profile"
_numbers = count(1)


class ServiceUrl(str):
    """Where a service is called by POST, with the JSON object of its inputs and these `headers`."""

    __slots__ = ("headers",)
    headers: dict[str, str]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a project choose where the code of its services runs in tests."""
    parser.addini(PROFILE, "runtime.profile of mlhost_server: embedded or isolated.", default="embedded")


@pytest.fixture(scope="session")
def mlhost_server(pytestconfig: pytest.Config) -> Iterator[Server]:
    """A real mlhost server: its `url`, `user` and `password`, `connect()` and, for async tests, `connect_async()`.

    It listens on a free port of 127.0.0.1 and keeps its data in a temporary folder. All code runs in its one process;
    `mlhost_profile = isolated` in pytest's configuration runs it in worker processes, as a server does by itself.
    """
    from mlhost.testing import serve

    with serve(profile=pytestconfig.getini(PROFILE)) as server:
        yield server


@pytest.fixture
def mlhost_client(mlhost_server: Server) -> Iterator[Client]:
    """A client of mlhost_server, signed in as an Owner for one test."""
    with mlhost_server.connect() as client:
        yield client


@pytest.fixture
def mlhost_service(mlhost_client: Client) -> Iterator[Callable[[Any], ServiceUrl]]:
    """Publishes a typed function, or a fitted model, until the end of the test: `mlhost_service(fn)` is its URL.

    The URL's `headers` hold a token: `requests.post(url, json={"x": 1}, headers=url.headers)`.
    """
    services = []

    def publish(what: Any) -> ServiceUrl:
        title = getattr(what, "__name__", type(what).__name__).strip("<>")
        service = mlhost_client.publish(what, f"{title}-{next(_numbers)}", "1.0")
        services.append(service)
        url = ServiceUrl(service.url)
        url.headers = {"Authorization": f"Bearer {mlhost_client.bearer()}"}
        return url

    yield publish
    for service in services:
        service.delete()
