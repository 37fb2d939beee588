"""The door and the shape of every refusal: permissions, unknown addresses, sizes, deadlines, faults of our own."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from mlhost import errors
from mlhost.host import Host, ensure_admin, open_host
from mlhost.http.app import create_app
from mlhost.http.errors import STATUS
from mlhost.http.guard import ANYONE, PERMISSIONS, check_complete
from mlhost.http.server import serve
from mlhost.store.folder import DataFolder
from tests.parts import PASSWORD, Api, cheap_passwords, config_for_tests

SHAPE = {"message", "link", "exceptionType", "code", "fields"}


def filled(path: str) -> str:
    return re.sub(r"\{\w+\}", "x", path)


def test_every_error_has_a_status() -> None:
    assert set(STATUS) == set(errors.BY_CODE.values())


def test_every_error_survives_the_wire() -> None:
    for kind in errors.BY_CODE.values():
        back = errors.from_wire(errors.to_wire(kind("why", field="x")))
        assert (type(back), back.message, back.details) == (kind, "why", {"field": "x"})
    assert type(errors.from_wire({"code": "unheard of", "message": "m", "details": {}})) is errors.MlhostError


async def health(request: web.Request) -> web.Response:
    return web.Response()


def test_a_route_without_a_permission_stops_the_start(host: Host) -> None:
    app = create_app(host)
    app.router.add_get("/forgotten", health)
    with pytest.raises(RuntimeError, match="GET /forgotten"):
        check_complete(app)


GUARDED = [route for route, permission in PERMISSIONS.items() if permission is not ANYONE]


@pytest.mark.parametrize("route", GUARDED, ids=" ".join)
async def test_every_guarded_route_is_shut_to_the_anonymous(anonymous: Api, route: tuple[str, str]) -> None:
    method, path = route
    answer = await anonymous(method, filled(path), 401)
    assert set(answer) == SHAPE


JSON = [route for route in PERMISSIONS if "oauth" not in route[1]]  # OAuth has a shape of its own, and pages


@pytest.mark.parametrize("route", JSON, ids=" ".join)
async def test_no_route_answers_anything_but_json_errors_of_one_shape(admin: Api, route: tuple[str, str]) -> None:
    method, path = route
    async with admin.http.request(
        method, filled(path), data=b"\x00", headers={"Authorization": f"Bearer {admin.token}"}
    ) as response:
        assert response.status < 500
        if response.status >= 400:
            answer = await response.json()
            assert set(answer) == SHAPE
            assert answer["message"]
            assert answer["code"] == response.status


async def test_unknown_addresses_and_methods_are_refused_in_the_same_shape(admin: Api) -> None:
    assert set(await admin("GET", "/no/such/address", 404)) == SHAPE
    assert set(await admin("PUT", "/sessions", 405)) == SHAPE
    assert "GET" in admin.headers["Allow"]


async def test_names_in_an_address_may_hold_braces(admin: Api) -> None:
    assert await admin("GET", "/services/%7Bname%7D") == []
    assert "{id}" in (await admin("GET", "/sessions/%7Bid%7D/history", 404))["message"]
    assert "a}b" in (await admin("POST", "/api/a%7Db/1", 404, {}))["message"]
    await admin("POST", "/services/%7B/1", 400, {"runtimeType": "Python", "code": ""})


async def test_a_fault_of_ours_is_an_id_outside_and_a_trace_in_the_log(
    admin: Api, host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*args: object) -> None:
        raise RuntimeError("the inside story")

    monkeypatch.setattr(type(host.snapshots), "list", broken)
    answer = await admin("GET", "/snapshots", 500)
    assert "inside story" not in answer["message"]
    [request_id] = re.findall(r"[0-9a-f]{32}", answer["message"])
    assert request_id in caplog.text
    assert "inside story" in caplog.text


async def test_one_line_a_request_tells_who_asked_what(admin: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mlhost.access")
    await admin("GET", "/services/some-name")
    [record] = [each for each in caplog.records if each.name == "mlhost.access"]
    assert record.getMessage() == "GET /services/{name} 200"
    assert (record.user, record.status) == ("admin", 200)  # type: ignore[attr-defined]


# --- health


async def test_health_is_open_and_tells_nothing_but_itself(anonymous: Api) -> None:
    assert await anonymous("GET", "/livez") == {"status": "alive"}
    assert await anonymous("GET", "/readyz") == {"status": "ready"}


async def test_status_is_a_tree_of_passing_components(admin: Api) -> None:
    status = await admin("GET", "/status")
    assert status["statusCode"] == "pass"
    [backend] = status["components"]["backends"]["components"].values()
    assert backend["details"]["pythonCanOpenShell"] == "True"
    assert status["components"]["database"]["details"] == {"type": "sqlite", "name": "main", "state": "Open"}


# --- a server with tight bounds


@pytest.fixture(scope="module")
async def tight(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Host, str]]:
    config = config_for_tests(
        server={"max_body_bytes": 100_000, "header_seconds": 0.5, "body_seconds": 0.5, "keepalive_seconds": 2.0},
        runtime={"preload": ()},
        limits={"score_seconds": 0.5, "execute_seconds": 0.5},
        sessions={"max": 3},
        pool={"workers": 1, "queue": 2},
    )
    with DataFolder.open(tmp_path_factory.mktemp("tight")) as folder:
        async with open_host(config, folder, cheap_passwords()) as host:
            await ensure_admin(host, PASSWORD)
            async with serve(host) as url:
                yield host, url


@pytest.fixture
async def bounded(tight: tuple[Host, str]) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(tight[1]) as http:
        yield await Api(http).login("admin")


async def test_a_body_over_the_bound_is_refused_whether_or_not_it_says_its_length(bounded: Api) -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 10_000

    path = await bounded.session()
    for body in (b"x" * 200_000, unannounced()):
        assert "max_body_bytes" in (await bounded("POST", f"{path}/execute", 413, data=body))["message"]
    form = aiohttp.FormData()
    form.add_field("file", b"x" * 200_000, filename="large")
    await bounded("POST", f"{path}/files", 413, data=form)
    await bounded("DELETE", path)


async def test_a_compressed_body_is_measured_after_it_is_opened(bounded: Api) -> None:
    import zlib

    bomb = zlib.compress(b'{"username":"' + b"x" * 10_000_000 + b'"}')
    await bounded("POST", "/login", 413, data=bomb, headers={"Content-Encoding": "deflate"})


async def test_sessions_are_bounded_and_a_closed_one_makes_room(bounded: Api) -> None:
    opened = await asyncio.gather(*(bounded.session() for _ in range(3)))
    answer = await bounded("POST", "/sessions", 503, {"runtimeType": "Python"})
    assert "sessions.max" in answer["message"]
    assert bounded.headers["Retry-After"]
    await bounded("DELETE", opened[0])
    opened[0] = await bounded.session()
    await bounded.execute(opened[1], "import os; os._exit(1)", expect=410)
    opened[1] = await bounded.session()
    for path in opened:
        await bounded("DELETE", path)


async def test_an_execution_past_its_time_is_an_answer_and_the_session_lives(bounded: Api) -> None:
    path = await bounded.session()
    done = await bounded.execute(path, "kept = 1\nwhile True: pass")
    assert not done["success"]
    assert "Stopped after 0.5 seconds" in done["errorMessage"]
    assert (await bounded.execute(path, "", "kept"))["success"]
    await bounded("DELETE", path)


async def test_a_call_past_its_time_is_an_answer_and_the_service_lives(bounded: Api) -> None:
    inputs = [{"name": "forever", "type": "logical"}]
    await bounded.publish("Slow", "1", "while forever: pass", inputParameterDefinitions=inputs)
    answer = await bounded("POST", "/api/Slow/1", json={"forever": True})
    assert not answer["success"]
    assert "Stopped after 0.5 seconds" in answer["errorMessage"]
    assert (await bounded("POST", "/api/Slow/1", json={"forever": False}))["success"]


async def test_callers_beyond_the_queue_are_told_to_come_back(bounded: Api) -> None:
    await bounded.publish("Busy", "1", "import time; time.sleep(0.2)")

    async def call() -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {bounded.token}"}
        async with bounded.http.post("/api/Busy/1", json={}, headers=headers) as response:
            return response.status, response.headers.get("Retry-After", "")

    answers = await asyncio.gather(*(call() for _ in range(10)))
    assert sorted(answers) == [(200, "")] * 3 + [(503, "1")] * 7


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=5)


async def reply_to(url: str, *pieces: bytes) -> bytes:
    """Send the pieces and return what the server says until it hangs up."""

    def talk() -> bytes:
        with connected(url) as peer:
            for piece in pieces:
                peer.sendall(piece)
            said = b""
            while more := peer.recv(4096):
                said += more
            return said

    return await asyncio.to_thread(talk)


@pytest.mark.parametrize("pieces", [(), (b"GET /livez HT",), (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n",)])
async def test_a_header_that_never_ends_is_hung_up_on(tight: tuple[Host, str], pieces: tuple[bytes, ...]) -> None:
    async with asyncio.timeout(3):
        assert await reply_to(tight[1], *pieces) == b""


async def test_half_a_header_after_an_answered_request_is_hung_up_on(tight: tuple[Host, str]) -> None:
    whole = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with asyncio.timeout(4):
        said = await reply_to(tight[1], whole, b"GET /liv")
    assert said.startswith(b"HTTP/1.1 200")


async def test_a_body_that_never_ends_is_answered_408(tight: tuple[Host, str]) -> None:
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nContent-Type: application/json\r\n\r\n"
    async with asyncio.timeout(3):
        said = await reply_to(tight[1], head + b'{"user')
    assert said.startswith(b"HTTP/1.1 408")


async def test_a_body_that_dawdles_is_answered_408(tight: tuple[Host, str]) -> None:
    def talk() -> bytes:
        import time

        head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
        with connected(tight[1]) as peer:
            peer.sendall(head)
            for _ in range(5):
                peer.sendall(b" ")
                time.sleep(0.2)
            return peer.recv(4096)

    assert (await asyncio.to_thread(talk)).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "request_line", [b"GARBAGE\r\n\r\n", b"GET /livez HTTP/9.9\r\n\r\n", b"G\xff /x HTTP/1.1\r\n\r\n"]
)
async def test_what_is_not_http_is_refused_in_the_same_shape(tight: tuple[Host, str], request_line: bytes) -> None:
    async with asyncio.timeout(5):
        said = await reply_to(tight[1], request_line)
    head, _, body = said.partition(b"\r\n\r\n")
    assert b" 400 " in head.splitlines()[0]
    assert set(json.loads(body)) == SHAPE


async def test_an_expectation_nobody_knows_is_passed_over(tight: tuple[Host, str]) -> None:
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\nExpect: %b\r\n\r\n{}"
    async with asyncio.timeout(5):
        for expected, first in ((b"miracles", b" 400 "), (b"100-continue", b" 100 ")):
            said = await reply_to(tight[1], head % expected)
            assert first in said.splitlines()[0]
            assert set(json.loads(said.rpartition(b"\r\n\r\n")[2])) == SHAPE


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: +4",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "X-Folded: a\r\n b\r\nContent-Length: 4",
        "Host: y\r\nContent-Length: 4",
    ],
)
async def test_a_request_whose_end_is_in_doubt_hides_no_second_one(tight: tuple[Host, str], framing: str) -> None:
    """What a proxy in front may read in another way than this server must not be answered (RFC 9112 §11.2)."""
    request = f"POST /login HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    async with asyncio.timeout(5):
        said = await reply_to(tight[1], request.encode())
    assert b" 400 " in said.splitlines()[0]
    assert said.count(b"HTTP/1.") == 1


async def test_a_token_of_strange_letters_is_refused_in_words(tight: tuple[Host, str]) -> None:
    head = b"GET /services HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer \xff\xfe\r\n\r\n"
    said = await reply_to(tight[1], head)
    assert b" 401 " in said.splitlines()[0]
    assert b"codec" not in said


async def test_what_is_wrong_with_a_form_is_said_in_one_line(admin: Api, session: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    body = b"--B\r\nno colon\r\n\r\nx\r\n--B--\r\n"
    answer = await admin("POST", f"{session}/files", 400, data=body, headers=headers)
    assert answer["message"].startswith("The body cannot be read: Invalid HTTP header")
    assert "\n" not in answer["message"]


async def test_names_of_files_cannot_add_headers(admin: Api, session: str) -> None:
    await admin.execute(session, "open('a\"b\\r\\nX-Injected: 1', 'w').write('1')")
    assert await admin("GET", f"{session}/files") == ['a"b\r\nX-Injected: 1']
    await admin("GET", f"{session}/files/a%22b%0D%0AX-Injected%3A%201", 400)
    await admin.execute(session, "open('a\"b; x=é', 'w').write('1')")
    await admin("GET", f"{session}/files/a%22b%3B%20x%3D%C3%A9")
    assert admin.headers["Content-Disposition"] == "attachment; filename*=UTF-8''a%22b%3B%20x%3D%C3%A9"


async def test_a_login_need_not_be_large(anonymous: Api) -> None:
    await anonymous("POST", "/login", 413, {"username": "x" * 20_000, "password": "x"})


async def test_a_body_that_is_not_encoded_as_it_says_is_refused(admin: Api, session: str) -> None:
    headers = {"Content-Encoding": "gzip"}
    await admin("POST", f"{session}/execute", 400, data=b"this is not gzip", headers=headers)


async def test_a_kept_connection_may_rest_longer_than_a_header_may_take(tight: tuple[Host, str]) -> None:
    def talk() -> bytes:
        import time

        with connected(tight[1]) as peer:
            for _ in range(2):
                peer.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                said = peer.recv(4096)
                time.sleep(0.8)
            return said

    assert (await asyncio.to_thread(talk)).startswith(b"HTTP/1.1 200")
