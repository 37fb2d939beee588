"""One client, blocking or awaited, for the same tests."""

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from mlhost.testing import Server, serve


async def done(value: Any) -> Any:
    """The result of a verb of either client."""
    return await value if inspect.isawaitable(value) else value


@pytest.fixture(scope="session")
def isolated() -> Iterator[Server]:
    """A server whose services run in processes of their own, as they do by default."""
    with serve(profile="isolated") as server:
        yield server


@pytest.fixture(params=["blocking", "awaited"])
async def ml(request: pytest.FixtureRequest, mlhost_server: Server) -> AsyncIterator[Any]:
    client: Any = mlhost_server.connect() if request.param == "blocking" else mlhost_server.connect_async()
    await _clear(client)
    yield client
    await _clear(client)
    await done(client.close())


async def _clear(client: Any) -> None:
    """Whatever other tests have left at the server that all share."""
    for service in await done(client.services()):
        await done(service.delete())
    for snapshot in await done(client.snapshots()):
        await done(client.delete_snapshot(snapshot.id))
