"""Whether the server's process could become the wall: the processor time it takes for a call, and what follows.

Workers run beside it, on whatever CPUs there are, so with enough of them it is the server's own share of a call that
bounds all calls of a second. Four workers with 1 ms of computing each make 4,000.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from load import Target, closed
from machine import Server, describe, running

WANTED = 4_000  # calls a second
CODES = {
    "nothing": "y = x",
    "1 ms": "import time\nends = time.process_time() + 0.001\nwhile time.process_time() < ends:\n    pass\ny = x",
}
DEFINITION = {
    "runtimeType": "Python",
    "inputParameterDefinitions": [{"name": "x", "type": "integer"}],
    "outputParameterDefinitions": [{"name": "y", "type": "integer"}],
}
TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid: int) -> float:
    """What the process has used, its threads included and its workers not."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def publish(server: Server, name: str, code: str) -> Target:
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    body = json.dumps(DEFINITION | {"code": code}).encode()
    request = urllib.request.Request(f"{server.url}/services/{name}/1", body, headers, method="POST")
    urllib.request.urlopen(request, timeout=60).close()
    return Target(f"{server.url}/api/{name}/1", b'{"x": 1}', headers)


def show(server: Server, work: str, target: Target, seconds: float, cpu: int) -> None:
    closed(target, 32, 1, cpu)
    used, begins = processor_seconds(server.pid), time.perf_counter()
    figures: Any = closed(target, 32, seconds, cpu)
    share = (processor_seconds(server.pid) - used) / (time.perf_counter() - begins)
    each = share / figures.rate
    most = 1 / each
    told = f"{figures.rate:>8,.0f} a second; the server's process {each * 1e6:.0f} us each: {most:,.0f} a second at most"
    print(f"{work:<10}{told}, {most / WANTED:.1f} x the {WANTED:,} of four workers at 1 ms")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="scripts/bench wall", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="of load for each figure")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    print(describe())
    environment = {"MLHOST_POOL_WORKERS": str(arguments.workers), "MLHOST_RUNTIME_PRELOAD": ""}
    command = [sys.executable, "-m", "mlhost", "serve", "--demo", "--ephemeral", "--port", "0"]
    with running(command, environment=environment) as server:
        for number, (work, code) in enumerate(CODES.items()):
            show(server, work, publish(server, f"wall{number}", code), arguments.seconds, cpus[-1])


main()
