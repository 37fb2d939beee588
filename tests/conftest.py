"""Real parts for all tests: one template process, one host, one listening server for the whole run."""

import signal
from collections.abc import AsyncIterator, Generator, Iterator

import aiohttp
import pytest

from mlhost.auth.principal import Role
from mlhost.executors.forking import ProcessSettings
from mlhost.executors.process import ProcessExecutor, ProcessWorker
from mlhost.host import Host, ensure_admin, open_host
from mlhost.http.server import serve
from mlhost.store.folder import DataFolder
from tests import oidc, slapd
from tests.parts import COVERAGE, PASSWORD, PRELOAD, Api, Cell, cheap_passwords, config_for_tests, signed_in


def pytest_configure() -> None:
    """Ctrl-C is heard, as some tests send it; a shell has those who run in the background ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What was logged goes to the first process as UTF-8, which has no halves of surrogate pairs."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
async def executor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessExecutor]:
    settings = ProcessSettings(preload=PRELOAD, environment=COVERAGE, memory_bytes=4 << 30, accept_1d_samples=True)
    executor = ProcessExecutor(tmp_path_factory.mktemp("work"), settings)
    await executor.start()
    yield executor
    await executor.close()


@pytest.fixture
async def worker(executor: ProcessExecutor) -> AsyncIterator[ProcessWorker]:
    worker = await executor.open(deadline_seconds=30)
    yield worker
    await worker.close()


@pytest.fixture
def cell(worker: ProcessWorker) -> Cell:
    return Cell(worker)


@pytest.fixture(scope="session")
async def host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    with DataFolder.open(tmp_path_factory.mktemp("data")) as folder:
        async with open_host(config_for_tests(), folder, cheap_passwords()) as host:
            await ensure_admin(host, PASSWORD)
            for name, role in (("carol", Role.CONTRIBUTOR), ("rita", Role.READER), ("norman", Role.NONE)):
                await host.users.add(name, PASSWORD, role)
            yield host


@pytest.fixture(scope="session")
async def url(host: Host) -> AsyncIterator[str]:
    async with serve(host) as url:
        yield url


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slapd.Slapd]:
    with slapd.running(tmp_path_factory.mktemp("slapd")) as running:
        yield running


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[oidc.Provider]:
    with oidc.running(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture
async def anonymous(url: str) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(url) as http:
        yield Api(http)


@pytest.fixture
async def admin(url: str) -> AsyncIterator[Api]:
    async with signed_in(url, "admin") as api:
        yield api


@pytest.fixture
async def carol(url: str) -> AsyncIterator[Api]:
    async with signed_in(url, "carol") as api:
        yield api


@pytest.fixture
async def rita(url: str) -> AsyncIterator[Api]:
    async with signed_in(url, "rita") as api:
        yield api


@pytest.fixture
async def norman(url: str) -> AsyncIterator[Api]:
    async with signed_in(url, "norman") as api:
        yield api


@pytest.fixture
async def session(admin: Api) -> AsyncIterator[str]:
    """An open session of admin's, as its path."""
    path = await admin.session()
    yield path
    await admin("DELETE", path)
