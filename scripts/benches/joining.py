"""A costly estimator that is not compiled, as a realtime service: one call after the other, and 32 at once.

Calls that find no worker free are run together; one at a time, each has its run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.request

from load import Target, closed
from machine import describe, running
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier

from mlhost.realtime import serialize

FORM = b'--part\r\nContent-Disposition: form-data; name="model"; filename="model"\r\n\r\n%b\r\n--part--\r\n'


def ask(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> object:
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=120) as answer:
        return json.loads(answer.read())


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="scripts/bench joining", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="of load for each figure")
    arguments = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    print(describe())
    iris = load_iris(as_frame=True)
    model = serialize(HistGradientBoostingClassifier().fit(iris.data, iris.target), columns=iris.data)
    row = {name: [value] for name, value in zip(iris.data, [7.0, 3.2, 4.7, 1.4], strict=True)}
    command = [sys.executable, "-m", "mlhost", "serve", "--demo", "--ephemeral", "--port", "0"]
    with running(command, {cpus[0]}) as server:
        headers = {"Authorization": f"Bearer {server.token}"}
        kind = {"Content-Type": "multipart/form-data; boundary=part"}
        ask("POST", f"{server.url}/realtime-services/boosted/1", FORM % model, headers | kind)
        [service] = ask("GET", f"{server.url}/services/boosted/1", None, headers)
        print(service["engine"], "-", service["engineReason"])
        target = Target(f"{server.url}/api/boosted/1", json.dumps({"inputData": row}).encode(), headers)
        for connections in (1, 8, 32):
            closed(target, connections, 1, cpus[-1])
            figures = closed(target, connections, arguments.seconds, cpus[-1])
            told = f"{figures.rate:,.0f} answers a second, p50 {figures.p50 / 1000:.1f} ms, p99 {figures.p99 / 1000:.1f}"
            print(f"{connections:>3} connections: {told} ms")


main()
