"""Plain calls of services, which overtake the general machinery: they are answered as that answers them."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from mlhost.host import Host
from mlhost.http import heads
from mlhost.http.scoring import Calls
from mlhost.http.server import serve
from tests.parts import Api, host_of_its_own, names_and_types, signed_in

BODY = b'{"x": 3}'
GOOD = b'"outputParameters":{"y":6}'


@dataclass
class Wire:
    """One connection, byte for byte."""

    url: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def request(self, path: str, token: str = "", body: bytes = BODY, *lines: str, method: str = "POST") -> bytes:
        head = [f"{method} {path} HTTP/1.1", f"Host: {urlsplit(self.url).netloc}", f"Content-Length: {len(body)}"]
        head += [f"Authorization: Bearer {token}"] if token else []
        return "\r\n".join([*head, *lines, "", ""]).encode() + body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, header, body."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            fields = dict(line.split(": ", 1) for line in lines)
            return int(first.split()[1]), fields, await self.reader.readexactly(int(fields["Content-Length"]))

    async def ask(self, *args: object, **options: str) -> tuple[int, dict[str, str], bytes]:
        await self.send(self.request(*args, **options))  # type: ignore[arg-type]
        return await self.answer()


async def wired(url: str) -> Wire:
    at = urlsplit(url)
    return Wire(url, *await asyncio.open_connection(at.hostname, at.port))


@pytest.fixture
async def wire(url: str) -> AsyncIterator[Wire]:
    wire = await wired(url)
    yield wire
    wire.writer.close()


@pytest.fixture
async def double(carol: Api) -> AsyncIterator[str]:
    """The path of a service that doubles."""
    code = "import time\ntime.sleep(0.3 if x == 300 else 0)\nprint(x) if x == 2 else 1 / (x - 9)\ny = 2 * x"
    io = {"inputs": names_and_types(x="integer"), "outputs": names_and_types(y="integer")}
    await carol.publish(
        "double", "1", code, inputParameterDefinitions=io["inputs"], outputParameterDefinitions=io["outputs"]
    )
    await carol("POST", "/api/double/1", json={"x": 1})  # it has a worker, and the token is known
    yield "/api/double/1"
    await carol("DELETE", "/services/double/1")


@contextmanager
def counted() -> Iterator[mock.Mock]:
    """How many calls overtook the rest."""
    with mock.patch.object(Calls, "begin", autospec=True, side_effect=Calls.begin) as begin:
        yield begin


# --- the same answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [BODY, b'{"x": 2}', b'{"x": 9}', b'{"x": "three"}', b"{}", b"", b"[", b"\xff"])
async def test_a_plain_call_is_answered_as_any_other(wire: Wire, double: str, carol: Api, body: bytes) -> None:
    await wire.ask(double, carol.token)
    with counted() as plain:
        status, header, content = await wire.ask(double, carol.token, body)
        assert plain.call_count == 1
        other_status, other_header, other_content = await wire.ask(double, carol.token, body, "TE: trailers")
        assert plain.call_count == 1
    assert (status, content) == (other_status, other_content)
    assert header | {"Date": ""} == other_header | {"Date": ""}


async def test_what_is_to_be_refused_is_left_to_the_general_way(wire: Wire, double: str, carol: Api, rita: Api) -> None:
    scoped = await carol("POST", "/tokens", 201, {"name": "other", "scope": "consume:another"})
    asked = {
        "no token": (wire.request(double), 401),
        "a token nobody has": (wire.request(double, "x.y.z"), 401),
        "a token for another service": (wire.request(double, scoped["token"]), 403),
        "no such service": (wire.request("/api/double/2", carol.token), 404),
        "an encoded name": (wire.request("/api/doubl%65/1", carol.token), 200),
        "another's name": (wire.request(double, carol.token).replace(b"127.0.0.1", b"evil.example"), 421),
        "a page of elsewhere": (wire.request(double, carol.token, BODY, "Origin: https://evil.example"), 403),
        "another method": (wire.request(double, carol.token, method="PUT"), 405),
    }
    for case, (request, status) in asked.items():
        for _ in range(2):
            with counted() as plain:
                await wire.send(request)
                assert (await wire.answer())[0] == status, case
                assert plain.call_count == 0, case
    assert (await wire.ask(double, rita.token))[0] == 200


async def test_a_revoked_token_opens_nothing_from_the_next_call_on(
    wire: Wire, double: str, carol: Api, url: str
) -> None:
    new = await carol("POST", "/tokens", 201, {"name": "short", "scope": "consume:double"})
    for _ in range(2):
        assert (await wire.ask(double, new["token"]))[0] == 200
    await carol("DELETE", f"/tokens/{new['id']}")
    assert (await wire.ask(double, new["token"]))[0] == 401


# --- one after the other -------------------------------------------------------------------------------------------


async def test_whatever_comes_on_one_connection_is_answered_in_order(wire: Wire, double: str, carol: Api) -> None:
    slow, quick = (wire.request(double, carol.token, body) for body in (b'{"x": 300}', BODY))
    other = wire.request("/livez", method="GET", body=b"")
    await wire.ask(double, carol.token)
    sent = [slow, quick, other, slow, other, quick, quick]
    await wire.send(slow)
    await asyncio.sleep(0.05)  # it is under way
    await wire.send(b"".join(sent[1:]))
    answers = [(await wire.answer())[2] for _ in sent]
    assert [re.findall(rb'"y":(\d+)|(alive)', answer)[0] for answer in answers] == [
        (b"600", b""), (b"6", b""), (b"", b"alive"), (b"600", b""), (b"", b"alive"), (b"6", b""), (b"6", b"")
    ]  # fmt: skip


async def test_a_body_may_come_apart_from_its_head(wire: Wire, double: str, carol: Api) -> None:
    request = wire.request(double, carol.token)
    with counted() as plain:
        await wire.ask(double, carol.token)
        for cuts in ([-8], [-8, -3], [-1]):
            edges = [0, *(len(request) + cut for cut in cuts), len(request)]
            for start, end in itertools.pairwise(edges):
                await wire.send(request[start:end])
                await asyncio.sleep(0.02)
            assert GOOD in (await wire.answer())[2]
        assert plain.call_count == 4


async def test_after_a_slow_or_divided_request_plain_calls_go_on(wire: Wire, double: str, carol: Api) -> None:
    await wire.ask(double, carol.token)
    login = wire.request("/login", "", b'{"username": "carol", "password": "wrong"}')
    with counted() as plain:
        for request, pause, status in ((wire.request(double, carol.token), 0.2, 200), (login, 0.0, 401)):
            await wire.send(request[:-4])
            await asyncio.sleep(pause or 0.02)
            await wire.send(request[-4:])
            assert (await wire.answer())[0] == status
            assert plain.call_count == 0
            assert (await wire.ask(double, carol.token))[0] == 200
            assert plain.call_count == 1
            plain.reset_mock()


async def test_who_goes_away_during_a_call_leaves_the_service_as_it_was(
    url: str, double: str, carol: Api, wire: Wire
) -> None:
    await wire.ask(double, carol.token)
    for _ in range(3):
        other = await wired(url)
        await other.send(other.request(double, carol.token, b'{"x": 300}'))
        await asyncio.sleep(0.05)
        other.writer.transport.abort()
    assert GOOD in (await wire.ask(double, carol.token))[2]


async def test_a_call_that_takes_longer_than_an_idle_connection_may_is_answered(
    host: Host, wire: Wire, double: str, carol: Api
) -> None:
    await wire.ask(double, carol.token)
    with mock.patch("mlhost.http.connection.Connection.keepalive_timeout", 0.1):
        for _ in range(3):
            assert (await wire.ask(double, carol.token, b'{"x": 300}'))[0] == 200


async def test_a_connection_that_only_makes_plain_calls_is_closed_when_it_is_idle(tmp_path: Path) -> None:
    async with (
        host_of_its_own(tmp_path, server={"keepalive_seconds": 0.3}) as host,
        serve(host) as url,
        signed_in(url, "admin") as admin,
    ):
        await admin.publish(
            "double",
            "1",
            "import time\ntime.sleep(0.5 if x else 0)",
            inputParameterDefinitions=names_and_types(x="integer"),
        )
        await admin("POST", "/api/double/1", json={"x": 0})
        wire = await wired(url)
        with counted() as plain:
            for body in (b'{"x": 1}', b'{"x": 0}', b'{"x": 1}'):
                assert (await wire.ask("/api/double/1", admin.token, body))[0] == 200
            assert plain.call_count == 3
            async with asyncio.timeout(2):
                assert await wire.reader.read() == b""
        wire.writer.close()


# --- heads ---------------------------------------------------------------------------------------------------------

HEAD = b"POST /api/a/1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3"
FIELDS = [b"Host: h", b"Content-Length: 3", b"Accept: */*", b"Authorization: Bearer x", b"Connection: keep-alive"]


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"\r\nTransfer-Encoding: chunked",
        HEAD + b"".join(b"\r\nX%d: a" % number for number in range(128)),
        HEAD + b"\r\nContent-Length: 3",
        HEAD + b"\r\ncontent-length: 4",
        HEAD + b"\r\nHost: other",
        HEAD + b"\r\nConnection: close",
        HEAD + b"\r\nConnection: keep-alive, Upgrade",
        HEAD + b"\r\nUpgrade: websocket",
        HEAD + b"\r\nExpect: 100-continue",
        HEAD + b"\r\nContent-Encoding: gzip",
        HEAD + b"\r\nX: a\r\n b",
        HEAD + b"\r\nX : a",
        HEAD + b"\r\n: a",
        HEAD + b"\r\nX: a\nY: b",
        HEAD + b"\r\nX: \xc3\xa9",
        HEAD + b"\r\nX: a\x00b",
        HEAD.replace(b": 3", b": +3"),
        HEAD.replace(b": 3", b": 3,3"),
        HEAD.replace(b": 3", b": 0x3"),
        HEAD.replace(b": 3", b": "),
        HEAD.replace(b": 3", b": 9999999999"),
        HEAD.replace(b"1.1", b"1.0"),
        HEAD.replace(b"1.1", b"1.2"),
        HEAD.replace(b"POST ", b"POST  "),
        HEAD.replace(b"/api", b"http://h/api"),
        HEAD.replace(b"POST", b"post"),
        b"\r\n" + HEAD,
        b"",
    ],
)
def test_a_head_that_says_more_or_less_than_a_plain_one_is_not_plain(head: bytes) -> None:
    assert heads.read(HEAD) == heads.Head(3, ("a", "1"), "h", "", has_origin=False)
    assert heads.read(head) is None


def test_a_head_of_blanks_is_no_more_work_than_another() -> None:
    for _ in range(2000):  # each of which would take a tenth of a second if every blank were looked at from every other
        assert heads.read(HEAD + b"\r\nX:" + b" " * 8000 + b"\x01") is None


BYTES = st.sampled_from(
    [b" ", b"\t", b"\r", b"\n", b"\r\n", b":", b"\0", b"3", b"-", b"\x85", b"chunked", b"\xff", b","]
)
NAMES = [b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection", b"Host", b"Upgrade", b"X"]


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A head with a line too many and a few bytes put in somewhere."""
    lines = draw(st.permutations(FIELDS)) + draw(st.lists(st.sampled_from(NAMES).map(lambda name: name + b": 3")))
    head = b"\r\n".join([b"POST /api/a/1 HTTP/1.1", *lines])
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(head)))
        head = head[:at] + draw(BYTES) + head[at:]
    return head


@given(mangled())
def test_no_head_is_read_in_two_ways(head: bytes) -> None:
    read = heads.read(head)
    if read is None or heads.END in head:
        return
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop, None), loop, 2**16)  # type: ignore[arg-type]
        sent = head + heads.END + b"a" * read.body_bytes
        [(message, payload)], upgraded, tail = parser.feed_data(sent)
        assert (message.method, message.should_close, upgraded, tail) == ("POST", False, False, b"")
        assert payload.is_eof()
        assert payload.total_bytes == read.body_bytes
        assert message.headers.getall("Host", [""]) == [read.host]
    finally:
        loop.close()
