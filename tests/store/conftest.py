"""A real database in a temporary folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mlhost.store import Store
from mlhost.store.blobs import Blobs


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "mlhost.sqlite"


@pytest.fixture
async def open_store(database: Path) -> AsyncIterator[Callable[[], Awaitable[Store]]]:
    """Opens stores on `database` and closes those a failing test leaves open: their threads would outlive the run."""
    opened = []

    async def open_store() -> Store:
        opened.append(await Store.open(database))
        return opened[-1]

    yield open_store
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store: Callable[[], Awaitable[Store]]) -> Store:
    return await open_store()


@pytest.fixture
def blobs(store: Store) -> Blobs:
    return Blobs(store, b"k" * 32)
