"""Load on one address: as fast as so many connections go (wrk), or at a rate of its own (open loop)."""

from __future__ import annotations

import collections
import json
import random
import select
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

SCRIPT = """
wrk.method = "POST"
wrk.body = {body}
wrk.headers["Content-Type"] = "application/json"
{headers}
done = function(summary, latency, requests)
    local faults = summary.errors
    io.write(string.format('\\nFIGURES {{"rate": %f, "p50": %f, "p99": %f, "faults": %d}}\\n',
        summary.requests / summary.duration * 1e6, latency:percentile(50), latency:percentile(99),
        faults.connect + faults.read + faults.write + faults.status + faults.timeout))
end
"""


@dataclass(frozen=True)
class Target:
    """What is asked: a POST of JSON."""

    url: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Figures:
    """What came of it; times in microseconds."""

    rate: float  # answers a second
    p50: float
    p99: float


def closed(target: Target, connections: int, seconds: float, cpu: int) -> Figures:
    """Each connection asks again as soon as it is answered; SystemExit if any answer is not a 200."""
    wrk = shutil.which("wrk") or _missing()
    headers = "\n".join(
        f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in target.headers.items()
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT.format(body=json.dumps(target.body.decode()), headers=headers))
        script.flush()
        command = [
            wrk,
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--timeout",
            "30s",
            "-s",
            script.name,
        ]
        done = subprocess.run(
            ["taskset", "-c", str(cpu), *command, target.url], capture_output=True, text=True, check=True
        )
    figures = json.loads(done.stdout.rpartition("FIGURES ")[2])
    if figures["faults"] or not figures["rate"]:
        raise SystemExit(
            f"{target.url}: {figures['faults']} requests failed, {figures['rate']:.0f} a second were answered\n{done.stdout}"
        )
    return Figures(figures["rate"], figures["p50"], figures["p99"])


def _missing() -> str:
    raise SystemExit("The load comes from wrk, which is not installed: apt-get install wrk")


class _Connection:
    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self.socket = socket.create_connection((parts.hostname, parts.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0


def open_loop(target: Target, rate: float, seconds: float, connections: int = 64) -> Figures:
    """Requests at random moments, `rate` a second; each is timed from when it was due, sent late or not.

    It never sleeps, which it could only do for whole milliseconds: it is to have a CPU of its own.
    """
    parts = urlsplit(target.url)
    lines = {"Host": parts.netloc, "Content-Type": "application/json", "Content-Length": str(len(target.body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in (lines | target.headers).items())
    request = f"POST {parts.path} HTTP/1.1\r\n{head}\r\n".encode() + target.body
    free = collections.deque(_Connection(target) for _ in range(connections))
    waiting: collections.deque[float] = collections.deque()
    taken: list[float] = []
    with select.epoll() as poll:
        by_descriptor = {connection.socket.fileno(): connection for connection in free}
        for descriptor in by_descriptor:
            poll.register(descriptor, select.EPOLLIN)
        began = due = time.perf_counter()
        while due < began + seconds or len(free) < connections:
            now = time.perf_counter()
            while due <= now and due < began + seconds:
                waiting.append(due)
                due += random.expovariate(rate)
            while waiting and free:
                connection = free.pop()
                connection.due = waiting.popleft()
                connection.socket.sendall(request)
            for descriptor, _ in poll.poll(0):
                connection = by_descriptor[descriptor]
                assert connection.socket.recv(65536).endswith(b"}"), "an answer came in pieces, or none"
                taken.append(time.perf_counter() - connection.due)
                free.append(connection)
    cuts = statistics.quantiles(taken, n=100)
    return Figures(len(taken) / seconds, cuts[49] * 1e6, cuts[98] * 1e6)


def resident_mb(pid: int) -> float:
    """Memory of one process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6
