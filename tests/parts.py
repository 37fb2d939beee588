"""What tests are made of: a configuration, a worker to run code in, a user who sends requests."""

import asyncio
import functools
import gc
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from hypothesis import strategies as st

from mlhost.auth.passwords import Passwords
from mlhost.config import Config
from mlhost.executors import Executor, Worker
from mlhost.executors.pool import Pool
from mlhost.executors.trains import Awaited
from mlhost.host import Host, ensure_admin, open_host
from mlhost.http.app import documents
from mlhost.runtime import program
from mlhost.store import Store
from mlhost.store.blobs import Blobs
from mlhost.store.folder import DataFolder
from tests.conformance import Contract

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
PRELOAD = ("numpy", "pandas", "sklearn.datasets", "sklearn.svm", "sklearn.linear_model")
COVERAGE = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "COVERAGE_FILE")
PASSWORD = "correct horse battery"


def config_for_tests(**sections: dict[str, Any]) -> Config:
    """The defaults, but a free port, a small preload and coverage in workers; `sections` change single settings."""
    config = Config()
    changes: dict[str, dict[str, Any]] = {
        "server": {"port": 0, "drain_seconds": 5.0},
        "runtime": {"preload": PRELOAD, "environment": COVERAGE},
    }
    for section, values in sections.items():
        changes[section] = changes.get(section, {}) | values
    return replace(config, **{name: replace(getattr(config, name), **values) for name, values in changes.items()})


def answered(answer: object) -> Any:
    """What a call of a service came to whose answer travels in one piece."""
    assert isinstance(answer, bytes)
    return json.loads(answer)


def open_descriptors() -> int:
    """How many this process has; without those of earlier tests, which might be closed before this is asked again."""
    gc.collect()
    return len(os.listdir("/dev/fd"))


async def run_on(pool: Pool, call: Awaited) -> Any:
    """What a call comes to on a pool's workers, whose caller may go away."""
    pool.start(call)
    try:
        return await call.reply
    except asyncio.CancelledError:
        pool.abandon(call)
        raise


def cheap_passwords() -> Passwords:
    return Passwords(PasswordHasher.from_parameters(CHEAPEST))


@asynccontextmanager
async def host_of_its_own(folder: Path, **sections: dict[str, Any]) -> AsyncIterator[Host]:
    """A host that no other test shares, without a preload; `sections` change single settings."""
    sections = {"runtime": {"preload": ()}} | sections
    with DataFolder.open(folder) as opened:
        async with open_host(config_for_tests(**sections), opened, cheap_passwords()) as host:
            await ensure_admin(host, PASSWORD)
            yield host


@dataclass
class Cell:
    """A worker to run blocks of code in."""

    worker: Worker

    async def run(self, code: str, *outputs: str, **inputs: bytes) -> Any:
        return await self.worker.call(program.execute, code, list(inputs.items()), list(outputs))


async def open_cell(executor: Executor, deadline_seconds: float = 30) -> Cell:
    return Cell(await executor.open(deadline_seconds=deadline_seconds))


@functools.cache
def contract() -> Contract:
    """What the server's OpenAPI document promises."""
    return Contract(json.loads(documents().openapi))


@dataclass
class Api:
    """Requests as one user; each must be answered with the expected status, and its JSON or bytes come back.

    Every answer is held against the server's own OpenAPI document.
    """

    http: aiohttp.ClientSession
    token: str = ""
    refresh: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    async def __call__(self, method: str, path: str, expect: int = 200, json: Any = None, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= options.pop("headers", {})
        async with self.http.request(method, path, json=json, headers=headers, **options) as response:
            body = await response.read()
            assert response.status == expect, f"{method} {path}: {response.status} {body[:400]!r}"
            contract().check(method, response.url.path, response.status, response.content_type, body)
            self.headers = dict(response.headers)
            return await response.json() if response.content_type == "application/json" else body

    async def login(self, name: str, password: str = PASSWORD) -> "Api":
        pair = await self("POST", "/login", json={"username": name, "password": password})
        self.token, self.refresh = pair["access_token"], pair["refresh_token"]
        return self

    async def session(self, **fields: Any) -> str:
        opened = await self("POST", "/sessions", 201, {"runtimeType": "Python"} | fields)
        return f"/sessions/{opened['sessionId']}"

    async def execute(self, session: str, code: str, *outputs: str, expect: int = 200, **inputs: Any) -> Any:
        bound = [{"name": name, "value": value} for name, value in inputs.items()]
        request = {"code": code, "inputParameters": bound, "outputParameters": list(outputs)}
        return await self("POST", f"{session}/execute", expect, request)

    async def publish(self, name: str, version: str, code: str, expect: int = 201, **fields: Any) -> Any:
        body = {"runtimeType": "Python", "code": code} | fields
        return await self("POST", f"/services/{name}/{version}", expect, body)

    async def clear(self) -> None:
        """End the user's sessions and delete the snapshots."""
        for session in await self("GET", "/sessions"):
            await self("DELETE", f"/sessions/{session['id']}/force")
        for snapshot in await self("GET", "/snapshots"):
            await self("DELETE", f"/snapshots/{snapshot['id']}")


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    """Bytes as they come in from elsewhere."""
    for piece in content:
        yield piece


async def keep(store: Store, blobs: Blobs, *content: bytes) -> str:
    """Write a blob that nothing names yet; its sha256."""
    async with blobs.receive(pieces(*content)) as sealed:
        await blobs.write_ahead(sealed)
        async with store.write() as db:
            await blobs.keep(db, sealed)
    return sealed.sha256


@asynccontextmanager
async def signed_in(url: str, name: str) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(url) as http:
        yield await Api(http).login(name)


async def until(condition: Any, seconds: float = 10.0) -> None:
    """Wait until `condition()` holds; a test that waits in vain fails."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def names_and_types(**parameters: str) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in parameters.items()]


# Parts of names that try to lead elsewhere, or that some system or layer takes for more than a name.
HOSTILE = (
    *("..", "../", "/", "//", "\\", "..\\", "./", ".", "~", "~root", ";", ":", "%", "%2e%2e", "%2f", "%252f", "%5c"),
    *("%00", "..;/", "....//", "-rf", "*", "$HOME", "`", "<", '"', "'", " ", "x" * 256, "CON", "NUL", "C:", "file:"),
    *("__class__", "__builtins__", "import", "bait", "inside", "inside-not", "link", "links", "link/", "links/bait"),
    *("\0", "\n", "\r\n", "\t", "\u2215", "\uff0f", "\u2024\u2024", "\u202e", "\ud800", "\u0301", "/etc/passwd"),
)


def hostile_names(folder: Path) -> st.SearchStrategy[str]:
    """Names that try to lead out of a folder, and any other text."""
    here = [str(folder), str(folder.parent), str(folder.parent / "bait"), f"{folder}-not/bait"]
    part = st.sampled_from([*HOSTILE, *here])
    return st.lists(part | st.text(max_size=3), min_size=1, max_size=6).map("".join) | st.text(max_size=40) | part
