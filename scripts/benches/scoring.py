"""Round trips of one Iris row with keep-alive: mlhost beside a bare aiohttp handler that calls the same model inline.

Both servers run in one go and are asked in turn, so that the machine's mood is the same for both; the figure to look at
is the ratio of the medians. Where it can be, servers run on one CPU and the client on another.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

from machine import Server, describe, running

BARE = """
import json, sys
import uvloop
from aiohttp import web
from sklearn.datasets import load_iris
from sklearn.svm import SVC

iris = load_iris()
names, model = list(iris.target_names), SVC().fit(iris.data, iris.target)

async def consume(request):
    body = await request.json()
    species = names[model.predict([body["flower_data"]])[0]]
    return web.json_response({
        "success": True, "errorMessage": "", "changedFiles": [], "outputFiles": {},
        "outputParameters": {"iris_species": species}, "consoleOutput": "",
    })

async def make():
    app = web.Application()
    app.router.add_post("/api/Iris/1.0", consume)
    return app

def say(line):
    print("Ready. at", line, flush=True)

web.run_app(make(), host="127.0.0.1", port=0, loop=uvloop.new_event_loop(), access_log=None, print=say)
"""
BODY = json.dumps({"flower_data": [5.1, 3.5, 1.4, 0.2]}).encode()


class Client:
    """One kept connection."""

    def __init__(self, server: Server) -> None:
        parts = urlsplit(server.url)
        self._socket = socket.create_connection((parts.hostname, parts.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"POST /api/Iris/1.0 HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {server.token}\r\nContent-Length: {len(BODY)}\r\n\r\n"
        self._request = head.encode() + BODY

    def ask(self) -> float:
        """Seconds of one round trip; the answer must be right."""
        start = time.perf_counter()
        self._socket.sendall(self._request)
        said = self._socket.recv(65536)
        while not (said.endswith(b"}") and b"\r\n\r\n" in said):
            said += self._socket.recv(65536)
        seconds = time.perf_counter() - start
        assert b"setosa" in said, said
        return seconds


def scoring(rounds: int, requests: int) -> None:
    """Print the medians and their ratio."""
    cpus = sorted(os.sched_getaffinity(0))
    servers, own = ({cpus[0]}, {cpus[-1]})
    mlhost = [sys.executable, "-m", "mlhost", "serve", "--demo", "--ephemeral", "--port", "0"]
    with ExitStack() as stack:
        bare = Client(stack.enter_context(running([sys.executable, "-c", BARE], servers)))
        ours = Client(stack.enter_context(running(mlhost, servers)))
        os.sched_setaffinity(0, own)
        times: dict[str, list[float]] = {"bare aiohttp, model inline": [], "mlhost": []}
        for number in range(rounds + 1):
            for name, client in zip(times, (bare, ours), strict=True):
                taken = [client.ask() for _ in range(requests)]
                if number:  # the first round warms up
                    times[name] += taken
    print(f"Iris SVC, one row, one kept connection; {rounds} x {requests} requests each in turn")
    print(describe())
    for name, taken in times.items():
        p99 = statistics.quantiles(taken, n=100)[98]
        print(f"{name:<28} median {statistics.median(taken) * 1e6:7.0f} us   p99 {p99 * 1e6:7.0f} us")
    ratio = statistics.median(times["mlhost"]) / statistics.median(times["bare aiohttp, model inline"])
    print(f"ratio of the medians {ratio:.2f}")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="scripts/bench scoring", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=300)
    arguments = parser.parse_args()
    scoring(arguments.rounds, arguments.requests)


main()
