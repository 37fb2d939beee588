"""What publishing takes, and what the start of a server takes until it answers, beside what they may take.

Every figure is a median of servers of their own, started on one folder one after the other; nothing is pinned to a
processor. What a folder's first start makes anew, its keys and its database, has been made.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from figures import HEAD, Figure
from load import resident_mb
from machine import Server, describe, running

PASSWORD = "bench password"
READY_SECONDS = 30.0  # until a server that says it is ready shows a living worker
# About 1 MB, which no compression makes smaller.
SNAPSHOT = """
import numpy
from sklearn.datasets import load_iris
from sklearn.svm import SVC
weights = numpy.random.default_rng(1).random(125_000)
svc = SVC().fit(*load_iris(return_X_y=True))
"""
PLAIN = {
    "runtimeType": "Python",
    "code": "y = 2 * x",
    "inputParameterDefinitions": [{"name": "x", "type": "integer"}],
    "outputParameterDefinitions": [{"name": "y", "type": "integer"}],
}
SVC = PLAIN | {"code": "y = int(svc.predict([[5.1, 3.5, 1.4, 0.2]])[0]) + x"}


@contextmanager
def started(folder: str, preload: str | None = None) -> Iterator[Server]:
    """A server on that folder, with nothing but `preload` imported ahead of need, if it is given."""
    environment = {"MLHOST_ADMIN_PASSWORD": PASSWORD}
    if preload is not None:
        environment["MLHOST_RUNTIME_PRELOAD"] = preload
    command = [sys.executable, "-m", "mlhost", "serve", "--port", "0", "--data", folder]
    with running(command, environment=environment) as server:
        yield server


def ask(server: Server, method: str, path: str, token: str = "", body: Any = None) -> Any:
    """The JSON of one answer."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def prepare(folder: str, rounds: int) -> tuple[str, list[float]]:
    """Publish what is called later, the one with a snapshot several times: a token, and what that took in ms."""
    with started(folder) as server:
        token = ask(server, "POST", "/login", "", {"username": "admin", "password": PASSWORD})["access_token"]
        session = ask(server, "POST", "/sessions", token, {"runtimeType": "Python"})["sessionId"]
        assert ask(server, "POST", f"/sessions/{session}/execute", token, {"code": SNAPSHOT})["success"]
        snapshot = ask(server, "POST", f"/sessions/{session}/snapshot", token, {"name": "large"})["snapshotId"]
        ask(server, "POST", "/services/plain/1", token, PLAIN)
        took = []
        for number in range(rounds):
            definition = SVC | {"snapshotId": snapshot}
            begins = time.perf_counter()
            ask(server, "POST", f"/services/svc/{number}", token, definition)
            took.append((time.perf_counter() - begins) * 1000)
            time.sleep(0.2)  # a worker for the next one is started meanwhile
        return token, took


def call(server: Server, token: str, path: str) -> float:
    """Milliseconds of one call."""
    begins = time.perf_counter()
    answer = ask(server, "POST", f"/api/{path}", token, {"x": 1})
    assert answer["success"], answer
    return (time.perf_counter() - begins) * 1000


def settle(server: Server) -> None:
    """Wait until a worker lives, and a moment more for the one in reserve."""
    latest = time.monotonic() + READY_SECONDS
    while True:
        try:
            ask(server, "GET", "/readyz")
        except urllib.error.HTTPError:
            if time.monotonic() > latest:
                raise
            time.sleep(0.1)
        else:
            time.sleep(0.5)
            return


def to_first_answer(folder: str, token: str, path: str, preload: str | None) -> float:
    """Seconds from the start of the process to the answer of a call that is sent as soon as it listens."""
    begins = time.perf_counter()
    with started(folder, preload) as server:
        call(server, token, path)
        return time.perf_counter() - begins


def first_calls(folder: str, token: str) -> tuple[float, float, float]:
    """Milliseconds of the first call of a plain service and of one with a snapshot, once started; MB resident then."""
    with started(folder) as server:
        settle(server)
        plain, large = call(server, token, "plain/1"), call(server, token, "svc/0")
        return plain, large, resident_mb(server.pid)


def measure(rounds: int) -> Iterator[Figure]:
    """All figures, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        token, took = prepare(folder, rounds)
        yield Figure("publish with a snapshot of 1 MB, trial run included", took, "ms", 150)
        seconds = [to_first_answer(folder, token, "plain/1", "") for _ in range(rounds)]
        yield Figure("start to first answer, nothing preloaded", seconds, "s", 1.5)
        seconds = [to_first_answer(folder, token, "svc/0", None) for _ in range(rounds)]
        yield Figure("start to first answer, of an SVC, scikit-learn preloaded", seconds, "s", 3)
        plain, large, resident = zip(*(first_calls(folder, token) for _ in range(rounds)), strict=True)
        yield Figure("first call after a restart, of a plain service", list(plain), "ms", 60)
        yield Figure("first call after a restart, with a snapshot of 1 MB", list(large), "ms", 60)
        yield Figure("resident memory of the server process then", list(resident), "MB", 70)


def main() -> None:
    """Parse, measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench starting", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="of each figure")
    arguments = parser.parse_args()
    print(describe())
    print(HEAD)
    for figure in measure(arguments.rounds):
        print(figure, flush=True)


main()
