"""A pickle that tells when it is opened, put into everything a Reader can send: nothing here opens it."""

import asyncio
import json
import pickle
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, get_args

import aiohttp
import dill
import msgspec
import pytest

from mlhost.auth.principal import Role
from mlhost.http.app import TOLD
from mlhost.http.guard import PERMISSIONS
from mlhost.http.server import serve
from tests.http.test_door import filled
from tests.parts import PASSWORD, Api, host_of_its_own, names_and_types, signed_in

pytestmark = pytest.mark.untraced

CONTENT_TYPES = (
    "application/octet-stream",
    "application/json",
    "application/x-pickle",
    "application/python-pickle",
    "application/vnd.bentoml+pickle",
    "application/x-python-serialize",
    "application/x-dill",
    "application/x-numpy",
    "application/x-msgpack",
    "application/x-www-form-urlencoded",
    "text/plain",
    "text/x-python",
)
HEADERS = (
    *("Accept", "Accept-Encoding", "Accept-Language", "Cookie", "Forwarded", "From", "If-Match", "If-None-Match"),
    *("Payload-Container", "Payload-Meta", "Pragma", "Referer", "Range", "TE", "User-Agent", "Via", "Warning"),
    *("X-Forwarded-For", "X-HTTP-Method-Override", "X-Method-Override", "X-Pickle", "X-Request-Id", "Traceparent"),
)


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.sign), "a")


@pytest.fixture
def sign(tmp_path: Path) -> Path:
    """Where it is to be seen that a canary was opened."""
    return tmp_path / "opened"


@pytest.fixture(scope="module")
async def reader(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """A server with a service named x in version x, and somebody who may only read."""
    async with host_of_its_own(tmp_path_factory.mktemp("canary")) as host, serve(host) as url:
        await host.users.add("rita", PASSWORD, Role.READER)
        kinds = names_and_types(a="character", b="vector", c="matrix", d="data.frame", e="numeric", f="logical")
        async with signed_in(url, "admin") as admin:
            await admin.publish("x", "x", "y = 1", inputParameterDefinitions=kinds)
        async with signed_in(url, "rita") as rita:
            yield rita


def pickles(sign: Path) -> list[bytes]:
    canary = Canary(sign)
    return [pickle.dumps(canary, protocol=0), pickle.dumps(canary), dill.dumps(canary)]


def fields(route: tuple[str, str]) -> list[str]:
    """The names of all properties a route's body may have, at every depth."""
    kinds = [told.operation.takes for table in TOLD for told in table.told if (told.method, told.path) == route]
    found = ["a", "b", "c", "d", "e", "f", "y", "model", "object", "pickle", "payload", "snapshot", "artifacts"]

    def collect(kind: Any) -> None:
        for inner in (kind, *get_args(kind)):
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                for field in msgspec.structs.fields(inner):
                    found.append(field.encode_name)
                    collect(field.type)
            elif inner is not kind:
                collect(inner)

    for kind in kinds:
        collect(kind)
    return list(dict.fromkeys(found))


def bodies(route: tuple[str, str], content: bytes) -> Iterator[tuple[Any, dict[str, str]]]:
    """Bodies with a canary in them, and their headers."""
    text = b64encode(content).decode()
    for kind in CONTENT_TYPES:
        yield content, {"Content-Type": kind}
    yield content, {}
    for encoding in ("pickle", "dill", "identity"):
        yield content, {"Content-Type": "application/json", "Content-Encoding": encoding}
    shapes: list[Any] = [
        text,
        [text],
        [[text]],
        {"v": text},
        {"v": [text]},
        content.decode("latin-1"),
        {"__reduce__": text},
    ]
    for shape in shapes:
        for given in ([shape], shape, dict.fromkeys(fields(route), shape)):
            yield json.dumps(given), {"Content-Type": "application/json"}
    for name in fields(route):  # one at a time, since the first that does not fit ends the reading
        yield json.dumps({name: text}), {"Content-Type": "application/json"}
    form = aiohttp.FormData()
    form.add_field("file", content, filename="canary.pkl", content_type="application/x-pickle")
    form.add_field("name", text)
    yield form, {}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_reader_can_have_no_pickle_opened(reader: Api, sign: Path, method: str) -> None:
    sent = 0
    for route in [each for each in PERMISSIONS if each[0] == method]:
        path = filled(route[1])
        for content in pickles(sign):
            text = b64encode(content).decode()
            for body, headers in bodies(route, content):
                sent += await send(reader, method, path, body, headers)
            for header in HEADERS:
                sent += await send(reader, method, path, b"{}", {header: text})
            query = dict.fromkeys((*fields(route), "refreshToken", "showPartialResults", "parallelCount"), text)
            sent += await send(reader, method, path, b"{}", {}, query)
        assert not sign.exists(), f"{method} {path} opened a pickle"
    await asyncio.sleep(0.2)
    assert not sign.exists()
    assert sent >= 100
    async with reader.http.get("/readyz") as answer:  # the workers live
        assert answer.status == 200


async def send(
    api: Api, method: str, path: str, body: Any, headers: dict[str, str], query: dict[str, str] | None = None
) -> int:
    mine = {"Authorization": f"Bearer {api.token}"} if not path.startswith("/login") else {}
    async with api.http.request(method, path, data=body, headers=mine | headers, params=query) as answer:
        assert answer.status < 500 or answer.status == 501, (method, path, await answer.text())
        await answer.read()
    return 1


def test_a_canary_that_is_opened_is_seen(sign: Path) -> None:
    for content in pickles(sign):
        pickle.loads(content).close()
        assert sign.exists()
        sign.unlink()
