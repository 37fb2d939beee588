"""The names the server answers to, and the web pages that may ask it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import urlsplit

import aiohttp
import pytest

from mlhost.config import Server
from mlhost.errors import Invalid
from mlhost.http.guard import PERMISSIONS
from mlhost.http.origins import Origins, is_loopback
from mlhost.http.server import serve
from tests.http.test_door import SHAPE, filled
from tests.parts import Api, host_of_its_own

PAGE = "https://excel.example.org"


async def ask(url: str, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url + path, headers=headers, allow_redirects=False) as answer,
    ):
        return answer.status, dict(answer.headers), await answer.read()


@pytest.mark.parametrize(
    "route", [*PERMISSIONS, ("OPTIONS", "/login"), ("TRACE", "/x"), ("GET", "/no/such")], ids=" ".join
)
async def test_whoever_calls_the_server_by_another_name_is_refused(url: str, route: tuple[str, str]) -> None:
    method, path = route
    status, _, body = await ask(url, method, filled(path), Host="rebound.example.org")
    assert status == 421
    assert b"server.allowed_hosts" in body


@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:80", "[::1]:80", "localhost.", "[::ffff:127.0.0.1]"]
)
async def test_the_servers_own_names_are_answered_to(url: str, name: str) -> None:
    assert (await ask(url, "GET", "/livez", Host=name))[0] == 200


@pytest.mark.parametrize(
    "name",
    [
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "localhost@evil.example",
        "a b",
        "[::2]",
        "*",
        "[",
        "::1",
    ],
)
async def test_other_names_are_not(url: str, name: str) -> None:
    assert (await ask(url, "GET", "/livez", Host=name))[0] == 421


@pytest.mark.parametrize(
    "head", [b"GET /livez HTTP/1.0\r\n\r\n", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"]
)
async def test_a_request_says_exactly_once_whom_it_is_for(url: str, head: bytes) -> None:
    parts = urlsplit(url)

    def talk() -> bytes:
        with socket.create_connection((parts.hostname, parts.port), timeout=5) as peer:
            peer.sendall(head)
            return peer.recv(4096)

    assert b" 400 " in (await asyncio.to_thread(talk)).splitlines()[0]


@pytest.mark.parametrize("origin", [PAGE, "null", "http://127.0.0.1:1", "https://[", ""])
async def test_web_pages_of_elsewhere_are_refused_and_told_nothing(url: str, origin: str) -> None:
    for method, path in (("POST", "/login"), ("GET", "/services"), ("OPTIONS", "/login"), ("DELETE", "/sessions/x")):
        status, headers, body = await ask(url, method, path, Origin=origin)
        assert status == 403
        assert b"server.origins" in body
        assert not [name for name in headers if name.lower().startswith("access-control")]


async def test_a_page_the_server_sent_itself_may_ask(url: str) -> None:
    assert (await ask(url, "GET", "/livez", Origin=url))[0] == 200


async def test_refusals_have_the_one_shape(anonymous: Api) -> None:
    async with anonymous.http.get("/livez", headers={"Host": "evil.example"}) as answer:
        assert set(await answer.json()) == SHAPE


# --- with lists


@pytest.fixture(scope="module")
async def listed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A server with a name and a page on its lists."""
    settings = {"allowed_hosts": ("models.example.org",), "origins": (PAGE,)}
    async with host_of_its_own(tmp_path_factory.mktemp("origins"), server=settings) as host, serve(host) as url:
        yield url


async def test_a_listed_name_is_answered_to(listed: str) -> None:
    assert (await ask(listed, "GET", "/livez", Host="Models.example.org:443"))[0] == 200
    assert (await ask(listed, "GET", "/livez", Host="others.example.org"))[0] == 421


async def test_a_listed_page_may_read_every_answer_refusals_too(listed: str) -> None:
    for path, expect in (("/livez", 200), ("/services", 401), ("/no/such", 404)):
        status, headers, _ = await ask(listed, "GET", path, Origin=PAGE)
        assert (status, headers["Access-Control-Allow-Origin"], headers["Vary"]) == (expect, PAGE, "Origin")
        assert "Access-Control-Allow-Credentials" not in headers
    status, headers, _ = await ask(listed, "GET", "/livez", Origin="https://other.example.org")
    assert status == 403
    assert "Access-Control-Allow-Origin" not in headers


async def test_a_listed_page_is_told_beforehand_what_it_may_send(listed: str) -> None:
    asks = {"Origin": PAGE, "Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization"}
    status, headers, body = await ask(listed, "OPTIONS", "/services/a/1", **asks)
    assert (status, body) == (204, b"")
    assert headers["Access-Control-Allow-Origin"] == PAGE
    assert "PATCH" in headers["Access-Control-Allow-Methods"]
    assert "Authorization" in headers["Access-Control-Allow-Headers"]
    assert (await ask(listed, "OPTIONS", "/services/a/1", **asks, Host="evil.example"))[0] == 421


async def test_bound_to_all_addresses_the_one_that_was_reached_is_a_name(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    settings = {"host": "0.0.0.0", "insecure_http": True}
    async with host_of_its_own(tmp_path_factory.mktemp("all"), server=settings) as host, serve(host) as url:
        for name in ("127.0.0.3", "localhost", socket.gethostname()):
            port = urlsplit(url).port
            assert (await ask(f"http://127.0.0.3:{port}", "GET", "/livez", Host=name))[0] == 200
        for name in ("127.0.0.4", "10.0.0.1", "evil.example"):
            assert (await ask(f"http://127.0.0.3:{port}", "GET", "/livez", Host=name))[0] == 421


@pytest.mark.parametrize("origin", ["example.org", "https://example.org/", "https://a@example.org", "ftp://x", "*"])
def test_what_is_not_an_origin_stops_the_start(origin: str) -> None:
    with pytest.raises(Invalid, match=r"server\.origins"):
        Origins(replace(Server(), origins=(origin,)))


def test_a_star_is_any_name(host: object) -> None:
    assert Origins(replace(Server(), allowed_hosts=("*",)))._is_open


@pytest.mark.parametrize(
    ("host", "expect"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("no-such-host.invalid", False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(host: str, expect: bool) -> None:
    assert is_loopback(host) is expect
