"""How the client finds a server, signs in and stays so, and what it says when something is refused."""

import asyncio
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mlhost import errors
from mlhost.client import connect, connect_async
from mlhost.client.blocking import BlockingWire
from mlhost.client.clients import Client
from mlhost.client.steps import Answer, Request
from mlhost.client.transport import Credentials, Transport, error_of
from mlhost.http.errors import STATUS, answer
from mlhost.http.tls import self_signed, write_pair
from mlhost.places import ADDRESS, DEFAULT_URL, LOCK, PASSWORD_FILE, Logins, Saved, local_server
from mlhost.store.folder import DataFolder
from mlhost.testing import Server, serve
from tests.client.conftest import done


@pytest.fixture(autouse=True)
def nobody_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No saved login, no local server, no variables."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("URL", "TOKEN", "USER", "PASSWORD", "CA"):
        monkeypatch.delenv(f"MLHOST_{name}", raising=False)


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ticking(mlhost_server: Server, clock: Clock) -> Any:
    """A client whose clock stands still."""
    who = Credentials(user=mlhost_server.user, password=mlhost_server.password)
    with Client(BlockingWire(Transport(mlhost_server.url, who, clock), None, None)) as ml:
        yield ml


# --- tokens


def renewals(wire: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests for another token, as they are sent."""
    sent: list[str] = []
    send = wire._send

    def noted(request: Request) -> Any:
        if request.path.startswith("/login"):
            sent.append(request.path)
        return send(request)

    monkeypatch.setattr(wire, "_send", noted)
    return sent


def test_a_token_is_renewed_before_it_ends(ticking: Client, clock: Clock) -> None:
    first = ticking.bearer()
    clock.now = 3500
    assert ticking.bearer() == first
    clock.now = 3541
    assert ticking.bearer() != first
    ticking.status()


def test_threads_that_find_it_old_renew_a_token_once(
    ticking: Client, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, sent = ticking.bearer(), renewals(ticking.wire, monkeypatch)
    clock.now = 3541
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: ticking.bearer(), range(32)))
        assert len(tokens) == 1
        assert first not in tokens
        assert sent == ["/login/refreshToken"]
        assert len(list(pool.map(lambda _: ticking.status(), range(32)))) == 32


async def test_tasks_that_find_it_ended_renew_a_token_once(
    mlhost_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mlhost_server.connect_async() as ml:
        first, sent = await ml.bearer(), renewals(ml.wire, monkeypatch)
        transport = ml.wire.transport
        assert transport._pair is not None
        transport._pair = type(transport._pair)("ended", transport._pair.refresh, transport._pair.renew_at)
        assert len(await asyncio.gather(*(ml.status() for _ in range(20)))) == 20
        assert await ml.bearer() not in ("ended", first)
        assert sent == ["/login/refreshToken"]


def test_when_the_login_itself_was_ended_the_password_is_used_again(ticking: Client, mlhost_server: Server) -> None:
    ticking.bearer()
    with mlhost_server.connect() as other:
        other.wire.run(other.wire.transport.ask("DELETE", f"/users/{mlhost_server.user}/tokens"))
        assert ticking.status()["statusCode"] == "pass"


def test_closing_ends_the_login(mlhost_server: Server) -> None:
    ml = mlhost_server.connect()
    token = ml.bearer()
    ml.close()
    with connect(mlhost_server.url, token=token) as other, pytest.raises(errors.Unauthenticated):
        other.status()


# --- finding


async def test_without_a_known_login_one_is_told_what_to_do(mlhost_server: Server) -> None:
    with pytest.raises(errors.Unauthenticated, match=f"mlhost login {mlhost_server.url}"):
        connect(mlhost_server.url)
    async with connect_async(mlhost_server.url) as ml:
        with pytest.raises(errors.Unauthenticated, match="mlhost login"):
            await ml.status()


def test_a_wrong_password_is_told_by_the_server(mlhost_server: Server) -> None:
    with pytest.raises(errors.Unauthenticated, match="invalid credentials"):
        connect(mlhost_server.url, user="somebody", password="not this one")


async def test_where_nobody_listens_the_address_is_told() -> None:
    with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:9 does not answer: Connection refused"):
        connect("http://127.0.0.1:9", password="x")
    with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:9 does not answer"):
        async with connect_async("http://127.0.0.1:9", password="x") as ml:
            await ml.status()
    with pytest.raises(errors.Invalid, match="'localhost:9' is no address"):
        connect("localhost:9")


def test_the_environment_says_where_and_who(mlhost_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLHOST_URL", f"{mlhost_server.url}/")
    monkeypatch.setenv("MLHOST_PASSWORD", mlhost_server.password)
    with connect() as ml:
        assert ml.status()["statusCode"] == "pass"


def test_the_login_saved_last_is_used_and_another_by_its_url(mlhost_server: Server) -> None:
    with mlhost_server.connect() as ml:
        Logins.here().save(Saved(mlhost_server.url, "admin", ml.bearer()))
        with connect() as other:
            assert other.url == mlhost_server.url
            assert other.status()["statusCode"] == "pass"
        Logins.here().save(Saved("http://127.0.0.1:9", "admin", "x"))
        with connect(mlhost_server.url) as other:
            other.status()
        with connect() as other, pytest.raises(errors.Unavailable):
            other.status()


def test_saved_logins_are_for_their_user_alone(tmp_path: Path) -> None:
    logins = Logins(tmp_path / "of" / "logins.json")
    assert logins.find() is None
    for url in ("http://a", "http://b", "http://a"):
        logins.save(Saved(url, "carol", f"token of {url}"))
    assert logins.find() == Saved("http://a", "carol", "token of http://a")
    assert logins.file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in logins.file.parent.iterdir()] == ["logins.json"]
    logins.forget("http://a/")
    assert logins.find() == Saved("http://b", "carol", "token of http://b")
    logins.file.chmod(0o644)
    with pytest.raises(errors.Unavailable, match="chmod 600"):
        logins.find()


def test_the_server_of_this_user_is_found_while_it_runs(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path) as folder:
        assert local_server(tmp_path) is None
        folder.tell_address("http://127.0.0.1:1234")
        assert local_server(tmp_path) == ("http://127.0.0.1:1234", "")
        (tmp_path / PASSWORD_FILE).write_text("secret\n")
        assert local_server(tmp_path) == ("http://127.0.0.1:1234", "secret")
    assert local_server(tmp_path) is None
    assert not (tmp_path / ADDRESS).exists()


def test_a_password_is_not_sent_to_what_listens_where_a_killed_server_did(tmp_path: Path) -> None:
    for name, text in ((ADDRESS, "http://127.0.0.1:1234"), (PASSWORD_FILE, "secret"), (LOCK, "4711")):
        (tmp_path / name).write_text(text)
    assert local_server(tmp_path) is None
    assert local_server(tmp_path / "nothing") is None


async def test_a_certificate_of_its_own_making_is_trusted_when_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key, _ = self_signed((), 1)
    file, _ = write_pair(tmp_path, (cert, key), replace=False)
    with serve({"server.tls_cert": str(file), "server.tls_key": str(tmp_path / "tls-key.pem")}) as server:
        assert server.url.startswith("https://")
        with pytest.raises(errors.Unavailable, match="certificate verify failed"):
            server.connect()
        async with server.connect_async() as ml:
            with pytest.raises(errors.Unavailable, match="certificate verify failed"):
                await ml.status()
        with server.connect(ca=str(file)) as ml:
            ml.status()
        monkeypatch.setenv("MLHOST_CA", str(file))
        async with server.connect_async() as ml:
            await ml.status()
    with pytest.raises(errors.Unavailable, match="cannot be read"):
        connect("https://127.0.0.1:9", ca=str(tmp_path / "nothing"), token="x")


async def test_connections_that_the_server_closes_meanwhile_are_opened_again() -> None:
    with serve({"server.keepalive_seconds": 0.05}) as server, server.connect() as ml:
        async with server.connect_async() as other:
            for _ in range(3):
                ml.status()
                await other.status()
                await asyncio.sleep(0.1)


def test_a_silence_that_is_longer_than_borne_is_told(mlhost_server: Server) -> None:
    with mlhost_server.connect(timeout_seconds=0.1) as ml, ml.session() as session:
        with pytest.raises(errors.Unavailable, match="timed out"):
            session.run("import time; time.sleep(0.5)")
        time.sleep(0.5)  # until the session lets go of it
        assert session.run("print(1)").console == "1\n"


# --- errors


@pytest.mark.parametrize("kind", [*STATUS], ids=lambda kind: kind.__name__)
def test_every_error_of_the_server_is_the_same_here(kind: type[errors.MlhostError]) -> None:
    sent = answer(STATUS[kind], "Words.", kind.__name__, "field")
    assert isinstance(sent.body, bytes)
    error = error_of(Answer(sent.status, {"retry-after": "7"}, sent.body))
    assert (type(error), error.message) == (kind, "Words.")
    assert error.details == {"status": sent.status, "field": "field", "retry_after_seconds": 7}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(302, errors.Unavailable), (404, errors.NotFound), (413, errors.Invalid), (502, errors.Unavailable)],
)
@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", json.dumps({"message": 1}).encode()])
def test_what_a_proxy_says_goes_by_its_status(status: int, kind: type[errors.MlhostError], body: bytes) -> None:
    error = error_of(Answer(status, {}, body))
    assert type(error) is kind
    assert f"status {status}" in error.message


async def test_no_name_leads_to_another_resource(mlhost_server: Server) -> None:
    with mlhost_server.connect() as ml:
        for name in ("..", ".", ""):
            with pytest.raises(errors.Invalid, match="is no name"):
                ml.get(name)
        with pytest.raises(errors.NotFound):
            ml.get("a/../../status?x=#")
        assert await done(ml.services("a b/c")) == []


def test_importing_the_client_is_light() -> None:
    heavy = {"numpy", "pandas", "aiohttp", "cloudpickle", "click"}
    seen = f"import sys, mlhost.client; print(sorted({heavy} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True).stdout == "[]\n"


def test_the_default_address_is_that_of_a_server_that_was_told_nothing() -> None:
    from mlhost.config import Config

    server = Config().server
    assert f"http://{server.host}:{server.port}" == DEFAULT_URL
