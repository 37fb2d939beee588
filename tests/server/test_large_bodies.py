"""Calls with bodies too large for memory: they wait on the disk, and nothing of them is left behind."""

import hashlib
import json
import resource
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests

from tests.server.conftest import Server, eventually, serving
from tests.server.test_memory import growth

PATH = "/api/digest/1"
MOST_BODY_BYTES = 70_000_000
MOST_GROWTH_BYTES = 16 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with a service that tells the sha256 of a text, on a single worker."""
    with serving(tmp_path_factory.mktemp("server")) as start:
        server = start(MLHOST_POOL_WORKERS="1", MLHOST_SERVER_MAX_BODY_BYTES=str(MOST_BODY_BYTES))
        code = "import hashlib\ny = hashlib.sha256(x.encode()).hexdigest()"
        server.publish(server.login(), "digest", code, {"x": "character"}, {"y": "character"})
        yield server


@pytest.fixture(autouse=True)
def _nothing_is_left(server: Server) -> Iterator[None]:
    yield
    eventually(lambda: not server.unnamed_files())


def call(server: Server, token: str, text: str) -> None:
    answer = server.call("POST", PATH, token=token, data=json.dumps({"x": text}))
    assert answer["outputParameters"] == {"y": hashlib.sha256(text.encode()).hexdigest()}


def begun(server: Server, token: str, size: int, sent: int) -> socket.socket:
    """A call of which so many bytes of the body have been sent."""
    at = urlsplit(server.url)
    connection = socket.create_connection((at.hostname, at.port))
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: {at.netloc}\r\nAuthorization: Bearer {token}\r\nContent-Length: {size}\r\n\r\n"
    )
    connection.sendall(head.encode() + b" " * sent)
    return connection


def test_a_body_larger_than_the_server_passes_through_it_and_it_stays_small(server: Server) -> None:
    token = server.login()
    call(server, token, "x" * 2_000_000)
    assert growth(server, lambda: call(server, token, "x" * 64_000_000)) < MOST_GROWTH_BYTES


def test_several_at_once_are_each_answered_for_its_own(server: Server) -> None:
    token = server.login()
    with ThreadPoolExecutor(3) as callers:
        list(callers.map(lambda letter: call(server, token, letter * 10_000_000), "abc"))


def test_who_sends_slowly_keeps_nobody_waiting_and_who_goes_away_leaves_nothing(server: Server) -> None:
    token = server.login()
    with begun(server, token, 20_000_000, 10_000_000):
        eventually(lambda: bool(server.unnamed_files()))
        call(server, token, "small")
        call(server, token, "large" * 1_000_000)


def test_a_disk_that_is_full_is_told_and_calls_go_on_when_it_is_not(server: Server) -> None:
    token = server.login()
    unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (3_000_000, unlimited[1]))
    try:
        refused = server.call("POST", PATH, 503, token, data=json.dumps({"x": "x" * 10_000_000}))
        assert "no room" in refused["message"]
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
    call(server, token, "x" * 10_000_000)


def test_a_body_over_the_bound_is_refused_whether_or_not_it_says_its_length(server: Server) -> None:
    def unannounced() -> Iterator[bytes]:
        for _ in range(80):
            yield b" " * 1_000_000

    headers = {"Authorization": f"Bearer {server.login()}"}
    for body in (b" " * (MOST_BODY_BYTES + 1), unannounced()):
        answer = requests.post(f"{server.url}{PATH}", body, headers=headers, timeout=60)
        assert answer.status_code == 413


def test_what_does_not_fit_the_inputs_is_told_as_for_a_small_body(server: Server) -> None:
    body = json.dumps({"x": [0] * 1_000_000})
    refused = server.call("POST", PATH, 400, server.login(), data=body)
    assert "input 'x' must be of type character" in refused["message"]
