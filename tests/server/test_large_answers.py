"""Calls with answers too large for memory: they wait on the disk to be read, and nothing of them is left behind."""

import json
import resource
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests

from tests.server.conftest import Server, eventually, serving
from tests.server.test_memory import growth

PATH = "/api/repeat/1"
MOST_GROWTH_BYTES = 20 << 20
BEGIN, END = b'"y":"', b'"},"consoleOutput":"said\\n"}'

Sent = Callable[[bytes], object]  # a body of a call as requests sends it
WAYS: dict[str, Sent] = {"a plain call": lambda body: body, "any other": lambda body: iter([body])}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with a service that repeats a text, on a single worker."""
    with serving(tmp_path_factory.mktemp("server")) as start:
        server = start(MLHOST_POOL_WORKERS="1", MLHOST_SERVER_MAX_BODY_BYTES="200000000")
        inputs = {"x": "character", "n": "integer"}
        server.publish(server.login(), "repeat", "print('said')\ny = x * n", inputs, {"y": "character"})
        yield server


@pytest.fixture(autouse=True)
def _nothing_is_left(server: Server) -> Iterator[None]:
    yield
    eventually(lambda: not server.unnamed_files())


def call(server: Server, token: str, text: str, times: int, way: Sent = WAYS["a plain call"]) -> None:
    """One call, whose answer is looked at as it comes."""
    headers = {"Authorization": f"Bearer {token}"}
    body = way(json.dumps({"x": text, "n": times}).encode())
    with requests.post(f"{server.url}{PATH}", body, headers=headers, stream=True, timeout=60) as answer:  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        size, first, last = 0, b"", b""
        for piece in answer.iter_content(1 << 20):
            first, last, size = first or piece[:200], (last + piece)[-200:], size + len(piece)
        assert size == int(answer.headers["Content-Length"])
    assert first.partition(BEGIN)[2].startswith(text[:10].encode())
    assert last.endswith(text[-10:].encode() + END)
    assert size == len(first.partition(BEGIN)[0] + BEGIN) + len(text) * times + len(END)


def begun(server: Server, token: str, size: int) -> socket.socket:
    """A call for so many bytes whose answer nobody reads."""
    at = urlsplit(server.url)
    connection = socket.create_connection((at.hostname, at.port))
    body = json.dumps({"x": "x", "n": size})
    head = f"POST {PATH} HTTP/1.1\r\nHost: {at.netloc}\r\nAuthorization: Bearer {token}\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    return connection


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("megabytes", [100, pytest.param(500, marks=pytest.mark.soak)], ids="{}MB".format)
def test_an_answer_larger_than_the_server_passes_through_it_and_it_stays_small(
    server: Server, way: str, megabytes: int
) -> None:
    token = server.login()
    call(server, token, "0123456789", 200_000, WAYS[way])
    assert growth(server, lambda: call(server, token, "0123456789", megabytes * 100_000, WAYS[way])) < MOST_GROWTH_BYTES


def test_both_a_body_and_its_answer_may_be(server: Server) -> None:
    token = server.login()
    call(server, token, "x" * 2_000_000, 2)
    assert growth(server, lambda: call(server, token, "x" * 40_000_000, 2)) < MOST_GROWTH_BYTES


def test_several_at_once_each_get_their_own(server: Server) -> None:
    token = server.login()
    with ThreadPoolExecutor(4) as callers:
        list(callers.map(lambda letter: call(server, token, letter * 10, 1_000_000), "abcd"))


def test_a_connection_is_kept_after_one(server: Server) -> None:
    token = server.login()
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"
        for times in (3_000_000, 1, 3_000_000):
            answer = session.post(f"{server.url}{PATH}", json={"x": "x", "n": times}, timeout=60)
            assert answer.json()["outputParameters"] == {"y": "x" * times}
        assert len(session.adapters["http://"].poolmanager.connection_from_url(server.url).pool.queue) >= 1  # type: ignore[attr-defined]


def test_who_reads_slowly_keeps_no_worker_and_who_goes_away_leaves_nothing(server: Server) -> None:
    token = server.login()
    with begun(server, token, 50_000_000) as slow:
        assert slow.recv(12) == b"HTTP/1.1 200"  # all of it is fetched
        call(server, token, "small", 1)
        call(server, token, "0123456789", 1_000_000)
        assert server.unnamed_files()


def test_who_goes_away_before_there_is_an_answer_leaves_nothing(server: Server) -> None:
    token = server.login()
    for _ in range(3):
        begun(server, token, 50_000_000).close()
    call(server, token, "small", 1)


@pytest.mark.parametrize("way", WAYS)
def test_a_disk_that_is_full_is_told_and_calls_go_on_when_it_is_not(server: Server, way: str) -> None:
    token = server.login()
    unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (3_000_000, unlimited[1]))
    body = WAYS[way](b'{"x": "x", "n": 10000000}')
    try:
        refused = server.call("POST", PATH, 503, token, data=body)
        assert "no room" in refused["message"]
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
    call(server, token, "0123456789", 1_000_000, WAYS[way])
