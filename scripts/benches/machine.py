"""What it was measured on, and servers to measure."""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Server:
    """A running server."""

    pid: int
    url: str
    token: str  # the bearer token it printed, or ""


@contextmanager
def running(
    command: list[str], cpus: set[int] | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server process, on these CPUs only if any are named."""
    with launched(command, cpus, environment, out=subprocess.PIPE) as process:
        said = ""
        while "Ready." not in said or "http://" not in said:
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{command[0]} ended: {said}")
            said += line
        token = re.search(r"Bearer ([^']+)'", said)
        yield Server(process.pid, re.search(r"http://[\d.]+:\d+", said)[0], token[1] if token else "")


@contextmanager
def launched(
    command: list[str],
    cpus: set[int] | None = None,
    environment: Mapping[str, str] | None = None,
    out: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[str]]:
    """A process and all it starts, on these CPUs only if any are named; what it logs is not kept."""
    process = subprocess.Popen(
        command,
        stdout=out,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | (environment or {}),
        start_new_session=True,
        preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(ProcessLookupError):  # what it started and left behind
            os.killpg(process.pid, signal.SIGKILL)


def describe() -> str:
    """The machine in one line; the load tells how far it had other things to do."""
    load = f"load {os.getloadavg()[0]:.1f}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{_processor()}, {platform.machine()}, {os.cpu_count()} CPUs, {load}; Linux {platform.release()}, {python}"


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else "unknown processor"
