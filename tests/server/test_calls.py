"""Plain calls of a real server: endless senders and those who read nothing cost no memory; stopping cuts no answer."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.server.conftest import Server, Start

CODE = "import time\ntime.sleep(seconds)\ny = 'a' * size"
MB = 1_000_000
SOME = 12 * MB  # what two kernels' buffers and the server itself may hold of one connection


@pytest.fixture
def server(start: Start) -> Iterator[Server]:
    """One with a service that takes its time and gives as much as is asked for."""
    server = start(MLHOST_SERVER_DRAIN_SECONDS="10")
    server.publish(server.login(), "much", CODE, {"seconds": "numeric", "size": "integer"}, {"y": "character"})
    yield server


def connected(server: Server, seconds: float, size: int) -> tuple[socket.socket, bytes]:
    """A connection on which a call has been answered, so that the token is known; and the request of another one."""
    at, token = urlsplit(server.url), server.login()

    def request(seconds: float, size: int) -> bytes:
        body = json.dumps({"seconds": seconds, "size": size}).encode()
        head = f"POST /api/much/1 HTTP/1.1\r\nHost: {at.netloc}\r\nAuthorization: Bearer {token}\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    wire = socket.create_connection((at.hostname, at.port))
    for _ in range(2):
        wire.sendall(request(0, 1))
        assert wire.recv(65536).startswith(b"HTTP/1.1 200")
        time.sleep(0.1)  # aiohttp, which answered the first one, waits for nothing any more
    return wire, request(seconds, size)


def resident(server: Server) -> int:
    """Bytes."""
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096


def test_what_is_sent_during_a_call_is_not_taken_in_without_end(server: Server) -> None:
    wire, request = connected(server, 2, 1)
    before, sent = resident(server), 0
    with closing(wire):
        wire.sendall(request)
        wire.settimeout(0.5)
        time.sleep(0.2)
        with pytest.raises(TimeoutError):
            while sent < 100 * MB:
                sent += wire.send(b"x" * 65536)
        assert resident(server) - before < SOME


def test_answers_that_nobody_reads_are_not_piled_up(server: Server) -> None:
    wire, request = connected(server, 0, 4 * MB)
    before = resident(server)
    with closing(wire):
        wire.settimeout(0.5)
        for _ in range(30):
            wire.sendall(request)
            time.sleep(0.03)
        assert resident(server) - before < 30 * MB


def test_a_server_that_is_stopped_gives_a_large_answer_to_its_end(server: Server) -> None:
    wire, request = connected(server, 0.5, 10 * MB)
    with closing(wire):
        wire.sendall(request)
        time.sleep(0.2)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        time.sleep(0.6)  # the call is answered, and nothing of it read yet
        came = 0
        while piece := wire.recv(1 << 20):
            came += len(piece)
        assert came > 10 * MB
        stopping.join()
