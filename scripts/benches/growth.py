"""What mlhost's server process grows by: with published services, with the size of a call, with kept connections.

Memory is what the process has resident. Each figure is taken on a server of its own that has been started for it.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from load import resident_mb
from machine import Server, describe, running

SERVICES = (1, 10, 100, 1000)
SIZES = (100, 10_000, 1_000_000, 10_000_000, 100_000_000)  # of a body or an answer, bytes
CONNECTIONS = (1, 10, 100, 1000, 10_000)
PIECE_BYTES = 1 << 18  # of an answer that are read at once
ECHO = {
    "runtimeType": "Python",
    "code": "y = len(x)",
    "inputParameterDefinitions": [{"name": "x", "type": "character"}],
    "outputParameterDefinitions": [{"name": "y", "type": "integer"}],
}
REPEAT = {
    "runtimeType": "Python",
    "code": "y = 'a' * x",
    "inputParameterDefinitions": [{"name": "x", "type": "integer"}],
    "outputParameterDefinitions": [{"name": "y", "type": "character"}],
}


@contextmanager
def started(folder: str, **settings: str) -> Iterator[tuple[Server, float]]:
    """A server on that folder, and the seconds until it was ready."""
    environment = {"MLHOST_RUNTIME_PRELOAD": "", "MLHOST_SERVER_MAX_BODY_BYTES": str(200_000_000)} | settings
    command = [sys.executable, "-m", "mlhost", "serve", "--demo", "--port", "0", "--data", folder]
    begins = time.perf_counter()
    with running(command, None, environment) as server:
        yield server, time.perf_counter() - begins


def call(server: Server, method: str, path: str, body: Any = None) -> Any:
    with ask(server, method, path, body) as answer:
        return json.loads(answer.read() or b"null")


def ask(server: Server, method: str, path: str, body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, content, headers, method=method)
    return urllib.request.urlopen(request, timeout=120)


def services(most: int) -> None:
    """Memory with so many published services, none of which is called; and what the next start takes with all."""
    with tempfile.TemporaryDirectory() as folder:
        with started(folder) as (server, _):
            before, published = resident_mb(server.pid), 0
            print(f"started: {before:.1f} MB")
            for count in (each for each in SERVICES if each <= most):
                begins = time.perf_counter()
                for number in range(published, count):
                    call(server, "POST", f"/services/echo{number}/1", ECHO)
                took, published = (time.perf_counter() - begins) / max(1, count - published), count
                call(server, "GET", "/services")
                print(f"{count:>6} services: {resident_mb(server.pid):.1f} MB; {took * 1000:.0f} ms to publish one")
        with started(folder) as (server, seconds):
            begins = time.perf_counter()
            call(server, "POST", "/api/echo0/1", {"x": "a"})
            first = (time.perf_counter() - begins) * 1000
            print(f"started again: {seconds:.2f} s, {resident_mb(server.pid):.1f} MB; first call {first:.0f} ms")


def bodies() -> None:
    """The time of a call with a body of so many bytes, and the most memory the server has had."""
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder, started(folder) as (server, _):
            call(server, "POST", "/services/echo/1", ECHO)
            body = json.dumps({"x": "a" * size}).encode()
            call(server, "POST", "/api/echo/1", {"x": "a"})
            with _measured(server, f"a body of {size:,} bytes"):
                assert call(server, "POST", "/api/echo/1", body)["outputParameters"]["y"] == size


def answers() -> None:
    """The same with an answer of so many bytes."""
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder, started(folder) as (server, _):
            call(server, "POST", "/services/repeat/1", REPEAT)
            call(server, "POST", "/api/repeat/1", {"x": 1})
            with _measured(server, f"an answer of {size:,} bytes"):
                with ask(server, "POST", "/api/repeat/1", {"x": size}) as answer:
                    assert sum(map(len, iter(lambda: answer.read(PIECE_BYTES), b""))) > size


@contextmanager
def _measured(server: Server, title: str) -> Iterator[None]:
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak from now on
    before, begins = _peak_mb(server.pid), time.perf_counter()
    yield
    took = (time.perf_counter() - begins) * 1000
    print(f"{title}: {took:.1f} ms, peak of the server +{_peak_mb(server.pid) - before:.1f} MB")


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("This system does not tell the peak of a process.")


def connections() -> None:
    """Memory with so many kept connections, each of which has made one call."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder, started(folder) as (server, _):
        call(server, "POST", "/services/echo/1", ECHO)
        at, kept, before = urlsplit(server.url), [], resident_mb(server.pid)
        body = json.dumps({"x": "a"}).encode()
        head = f"POST /api/echo/1 HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {server.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        for count in (each for each in CONNECTIONS if each < hard - 100):
            while len(kept) < count:
                kept.append(socket.create_connection((at.hostname, at.port)))
                kept[-1].sendall(head.encode() + body)
                assert kept[-1].recv(65536).startswith(b"HTTP/1.1 200")
            grown = resident_mb(server.pid) - before
            print(f"{count:>7,} connections: +{grown:.1f} MB, {grown * 1000 / count:.1f} kB each")
        for each in kept:
            each.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="scripts/bench growth", description=__doc__)
    parser.add_argument("--services", type=int, default=1000, help="at most")
    arguments = parser.parse_args()
    print(describe())
    services(arguments.services)
    bodies()
    answers()
    connections()


main()
