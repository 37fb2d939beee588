"""One `mlhost serve` for the clients of the whole run."""

from collections.abc import Iterator

import pytest

from tests.server.conftest import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("clients")) as start:
        yield start(preload="numpy,pandas,sklearn.svm,sklearn.datasets")
