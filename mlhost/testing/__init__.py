"""A real server for tests: on a free port, with temporary data, gone at the end of a `with`.

    from mlhost.testing import serve

    with serve() as server, server.connect() as ml:
        ...

It is a process of its own, so that nothing of it is in the way of coverage, of captured output or of an event loop, and
so that what is published there is what a server elsewhere would get. pytest has it as fixtures: `mlhost.pytest_plugin`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from mlhost.client import AsyncClient, Client, connect, connect_async
from mlhost.errors import Unavailable

READY_SECONDS = 30.0  # a server that takes longer is given up
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, and who may do everything there."""

    url: str
    user: str
    password: str = field(repr=False)

    def connect(self, **options: Any) -> Client:
        """A client that is signed in; options are those of `mlhost.client.connect`."""
        return connect(self.url, **({"user": self.user, "password": self.password} | options))

    def connect_async(self, **options: Any) -> AsyncClient:
        """The same for an event loop."""
        return connect_async(self.url, **({"user": self.user, "password": self.password} | options))


@contextmanager
def serve(
    settings: Mapping[str, Any] | None = None, *, profile: Literal["embedded", "isolated"] = "embedded"
) -> Iterator[Server]:
    """A server inside the block; `settings` by their dotted names, such as {"sessions.max": 3}.

    With the profile `embedded` all code runs in the server's one process, which starts fastest; `isolated` is what a
    server does by itself. No settings are taken from files or the environment. Unavailable says why it did not start.
    """
    asked = json.dumps({"runtime.profile": profile} | dict(settings or {}))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "mlhost.testing", asked],  # -P: what is in the current folder is not installed
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the tests, which close the server
    )
    try:
        yield Server(**_ready(process))
    finally:
        _stop(process)


def _ready(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    timer = threading.Timer(READY_SECONDS, process.kill)
    timer.start()
    try:
        said = process.stdout.readline()
    finally:
        timer.cancel()
    told: dict[str, str] = json.loads(said or '{"fault": "it ended before it was ready"}')
    if "fault" in told:
        raise Unavailable(f"The server did not start: {told['fault']}")
    return told


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()  # its end is the server's, however it comes
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
