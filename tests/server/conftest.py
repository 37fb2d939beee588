"""Real `mlhost serve` processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import requests

from tests.parts import COVERAGE, PASSWORD, names_and_types

READY_SECONDS = 60

Parameters = Mapping[str, str]  # names and types
ONE_NUMBER: Parameters = MappingProxyType({"x": "numeric"})
ANOTHER: Parameters = MappingProxyType({"y": "numeric"})


@dataclass
class Server:
    """A running `mlhost serve`."""

    process: subprocess.Popen[str]
    url: str
    said: str  # what it printed until it was ready

    def call(self, method: str, path: str, expect: int = 200, token: str = "", **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = requests.request(method, self.url + path, headers=headers, timeout=60, **options)
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        return answer.json() if "json" in answer.headers.get("Content-Type", "") else answer.content

    def login(self, password: str = PASSWORD) -> str:
        pair = self.call("POST", "/login", json={"username": "admin", "password": password})
        return str(pair["access_token"])

    def publish(
        self, token: str, name: str, code: str, inputs: Parameters = ONE_NUMBER, outputs: Parameters = ANOTHER
    ) -> None:
        """Version 1 of a service that makes a number y of a number x, or whatever it takes and gives."""
        definition = {
            "runtimeType": "Python",
            "code": code,
            "inputParameterDefinitions": names_and_types(**inputs),
            "outputParameterDefinitions": names_and_types(**outputs),
        }
        self.call("POST", f"/services/{name}/1", 201, token, json=definition)

    def unnamed_files(self) -> list[str]:
        """Files that it and its workers hold and that have no name."""
        folder = f"{Path(f'/proc/{self.process.pid}/cwd').readlink()}/data/work/"
        found = []
        for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
            try:
                found.append(str(descriptor.readlink()))
            except OSError:  # closed meanwhile
                continue
        return [file for file in found if file.startswith(folder) and file.endswith("(deleted)")]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=10)

    def stop(self) -> tuple[int, str]:
        """SIGTERM: the exit status and what was printed after the server was ready."""
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=30)
        return self.process.returncode, said


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers; those still running at the test's end are killed."""
    with serving(tmp_path) as start:
        yield start


@contextmanager
def serving(tmp_path: Path) -> Iterator[Start]:
    """Starts servers on a folder; those still running at the end are killed."""
    servers = []

    def start(
        *arguments: str,
        preload: str = "",
        password: str | None = PASSWORD,
        drain_seconds: float = 20,
        log: Path = Path(os.devnull),
        **settings: str,
    ) -> Server:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MLHOST_")}
        environment |= {"MLHOST_RUNTIME_PRELOAD": preload, "MLHOST_RUNTIME_ENVIRONMENT": ",".join(COVERAGE)}
        if password is not None:
            environment["MLHOST_ADMIN_PASSWORD"] = password
        environment["MLHOST_SERVER_DRAIN_SECONDS"] = str(drain_seconds)
        environment |= settings
        place = [] if "--ephemeral" in arguments else ["--data", str(tmp_path / "data")]
        command = [sys.executable, "-m", "mlhost", "serve", "--port", "0", *place, *arguments]
        with log.open("ab") as told:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=told, text=True, env=environment, cwd=tmp_path
            )
        servers.append(process)
        url, said = until_ready(process)
        return Server(process, url, said)

    yield start
    for process in servers:
        if process.poll() is None:
            process.kill()
            process.communicate()


def until_ready(process: subprocess.Popen[str]) -> tuple[str, str]:
    assert process.stdout
    said, deadline = "", time.monotonic() + READY_SECONDS
    while "Ready." not in said:
        line = process.stdout.readline()
        assert line, f"the server ended: {said}"
        assert time.monotonic() < deadline, f"the server is not ready: {said}"
        said += line
    return said.split(" at ")[1].split()[0], said


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not come to pass"
        time.sleep(0.02)
