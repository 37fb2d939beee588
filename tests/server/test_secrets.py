"""Fifty secrets are planted wherever a request has room for one; none may be found in what the server writes."""

import json
import socket
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests

from tests.parts import PASSWORD
from tests.server.conftest import Server, Start
from tests.server.test_cli import mlhost

PLANTED = 50


class Planter:
    """Makes secrets and remembers them."""

    def __init__(self) -> None:
        self._numbers = count()
        self.planted: list[str] = []

    def __call__(self) -> str:
        secret = f"Canary{next(self._numbers):03}+s3cret/{'x' * 20}"
        self.planted.append(secret)
        return secret

    def token(self, head: str = "eyJhbGciOiJIUzI1NiJ9") -> str:
        """A secret that looks like a JWT."""
        secret = f"{head}.eyJDYW5hcnki{next(self._numbers):03}.c2lnbmF0dXJl{'Q' * 20}"
        self.planted.append(secret)
        return secret

    def found_in(self, text: str) -> list[str]:
        forms: list[Callable[[str], str]] = [str, quote, lambda each: quote(each, safe="")]
        forms.append(lambda each: b64encode(each.encode()).decode())
        return [each for each in self.planted if any(form(each) in text for form in forms)]


def send(server: Server, raw: bytes) -> None:
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as peer:
        peer.settimeout(2)
        peer.sendall(raw)
        with suppress(TimeoutError):
            while peer.recv(4096):
                pass


def requests_with(plant: Planter, token: str, session: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and options of requests that each hold a secret, most of them not as they should be."""
    mine = {"Authorization": f"Bearer {token}"}
    # passwords
    yield "POST", "/login", {"json": {"username": "admin", "password": plant()}}
    yield "POST", "/login", {"json": {"username": "nobody", "password": plant()}}
    yield "POST", "/login", {"json": {"user": "admin", "Password": plant()}}
    yield "POST", "/login", {"json": {"username": "admin", "password": {"value": plant()}}}
    yield "POST", "/login", {"json": {"username": 1, "password": [plant()]}}
    yield "POST", "/login", {"json": plant()}
    yield "POST", "/login", {"data": f'{{"username": "admin", "password": "{plant()}'}
    yield "POST", "/login", {"data": {"username": "admin", "password": plant()}}
    yield "POST", "/login", {"data": b"\xff" + plant().encode()}
    yield "POST", f"/login?username=admin&password={quote(plant())}", {}
    yield "PUT", "/login", {"json": {"password": plant()}}
    yield "POST", "/login", {"json": {"username": "admin", "password": plant() + "x" * 20_000}}
    # authorization headers
    for scheme in ("Bearer ", "bearer ", "Basic ", "Digest ", "Token ", "Negotiate ", ""):
        yield "GET", "/services", {"headers": {"Authorization": scheme + plant()}}
    yield "GET", "/services", {"headers": {"Authorization": f"Bearer {plant.token()}"}}
    yield "GET", "/services", {"headers": {"Authorization": f"Bearer {plant.token('eyJhbGciOiJub25lIn0')}"}}
    yield "GET", "/services", {"headers": {"Authorization": f"Bearer {plant.token()}" + "x" * 5000}}
    yield "GET", "/services", {"headers": {"Proxy-Authorization": f"Basic {plant()}"}}
    yield "GET", "/services", {"headers": {"Cookie": f"session={plant()}; other={plant()}"}}
    yield "GET", "/services", {"headers": {"X-Api-Key": plant()}}
    yield "GET", "/livez", {"headers": {"Host": f"{plant()}.example"}}
    yield "GET", "/livez", {"headers": {"Origin": f"https://user:{plant()}@example.org"}}
    # tokens in addresses and bodies
    yield "DELETE", f"/login/refreshToken?refreshToken={quote(plant(), safe='')}", {}
    yield "DELETE", f"/login/refreshToken?RefreshToken={plant()}", {}
    yield "DELETE", f"/login/refreshToken/{quote(plant(), safe='')}", {}
    yield "DELETE", f"/login/refreshToken/{plant()}", {}
    yield "GET", f"/login/refreshToken/{plant()}", {}
    yield "POST", "/login/refreshToken", {"json": {"refreshToken": plant()}}
    yield "POST", "/login/refreshToken", {"json": {"refreshToken": [plant()]}}
    yield "GET", f"/services?access_token={plant.token()}", {}
    yield "GET", f"/no/such/address/{plant()}", {}
    yield "GET", f"/services/Own?code={plant()}&client_secret={plant()}", {}
    # what users' code holds and prints
    execute = f"{session}/execute"
    yield "POST", execute, {"headers": mine, "json": {"code": f"secret = '{plant()}'; print(secret)"}}
    yield "POST", execute, {"headers": mine, "json": {"code": f"raise ValueError('{plant()}')"}}
    yield "POST", execute, {"headers": mine, "json": {"code": f"this is no Python '{plant()}'"}}
    yield "POST", execute, {"headers": mine, "json": {"code": f"import os; os.write(2, b'{plant()}')"}}
    bound = [{"name": "token", "value": plant()}, {"name": "not a name", "value": plant()}]
    yield "POST", execute, {"headers": mine, "json": {"code": "", "inputParameters": bound}}
    yield "POST", f"{session}/files", {"headers": mine, "files": {"file": ("name", plant())}}
    yield "POST", f"{session}/workspace/x", {"headers": mine, "data": plant()}
    yield "POST", "/services/Own/1", {"headers": mine, "json": {"runtimeType": "Python", "code": f"'{plant()}"}}


def sign_ins_with(plant: Planter, issuer: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The same, of sign-ins by way of somebody else or of a client; who is down is answered for with 503."""
    callback = "/login/oidc/callback"
    begun = {"Cookie": f"mlhost_login={plant()}; mlhost_console={plant()}"}
    yield "GET", f"{callback}?code={quote(plant())}&state={quote(plant())}", {"headers": begun}
    yield "GET", f"{callback}?error={quote(plant())}&state={quote(plant())}&iss={issuer}", {"headers": begun}
    yield "GET", f"/login/oidc?next=/{quote(plant(), safe='')}", {"headers": begun, "allow_redirects": False}
    said = urlsafe_b64encode(json.dumps({"iss": issuer}).encode()).rstrip(b"=").decode()
    bearer = f"eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.{said}.{'Q' * 40}{len(plant.planted)}"
    plant.planted.append(bearer)
    yield "GET", "/services", {"headers": {"Authorization": f"Bearer {bearer}"}}
    yield "POST", "/login", {"json": {"username": "somebody", "password": plant()}}
    for grant in ("password", "refresh_token", "authorization_code", "urn:ietf:params:oauth:grant-type:device_code"):
        held = ("password", "refresh_token", "code", "code_verifier", "device_code", "client_secret")
        form = {"grant_type": grant, "client_id": "mlhost-cli", "username": "somebody"}
        yield "POST", "/oauth/token", {"data": form | {name: plant() for name in held}}
    yield "POST", "/oauth/revoke", {"data": {"token": plant(), "client_id": "mlhost-cli"}}
    yield "POST", "/oauth/introspect", {"data": {"token": plant()}}
    yield "POST", "/oauth/device", {"data": {"user_code": plant(), "username": "somebody", "password": plant()}}
    asked = f"client_id=mlhost-cli&state={quote(plant())}&code_challenge={quote(plant())}"
    yield "POST", f"/oauth/authorize?{asked}", {"data": {"username": "somebody", "password": plant()}}


RAW = (
    b"GET /login/refreshToken/%s HTTP/9.9\r\n\r\n",
    b"DELETE /login/refreshToken?refreshToken=%s\r\n\r\n",
    b"%s\r\n\r\n",
    b"GET /services HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\x00\r\n\r\n",
    b"GET /services HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer %s\r\n\r\n",
    b"GET /services HTTP/1.1\r\nHost: localhost\r\nX-Secret: %s" + b"x" * 20_000 + b"\r\n\r\n",
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: nonsense %s\r\n\r\n",
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz%s\r\n\r\n",
)


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_planted_secret_is_in_any_log(start: Start, tmp_path: Path, form: str) -> None:
    plant, log = Planter(), tmp_path / "log"
    changed = plant()
    server = start(password=changed, log=log, MLHOST_LOGS_LEVEL="debug", MLHOST_LOGS_FORMAT=form)
    pair = server.call("POST", "/login", json={"username": "admin", "password": changed})
    plant.planted += [pair["access_token"], pair["refresh_token"]]
    token = pair["access_token"]
    opened = server.call("POST", "/sessions", 201, token, json={"runtimeType": "Python"})
    sent = 0
    for method, path, options in requests_with(plant, token, f"/sessions/{opened['sessionId']}"):
        answer = requests.request(method, server.url + path, timeout=30, **options)
        assert answer.status_code < 500, f"{method} {path}: {answer.text}"
        sent += 1
    for raw in RAW:
        send(server, raw % plant().encode())
    renewed = server.call("POST", "/login/refreshToken", json={"refreshToken": pair["refresh_token"]})
    plant.planted += [renewed["access_token"], renewed["refresh_token"]]
    server.call("DELETE", "/login/refreshToken", params={"refreshToken": renewed["refresh_token"]})
    status, said = server.stop()
    assert status == 0
    assert len(plant.planted) >= PLANTED

    logged = log.read_text()
    audited = mlhost("audit", "--json", "--data", tmp_path / "data").output
    if form == "json":
        assert len([line for line in map(json.loads, logged.splitlines()) if line["logger"] == "mlhost.access"]) >= sent
    assert len(audited.splitlines()) > 20
    for name, text in (("log", logged), ("audit log", audited), ("output", server.said + said)):
        assert plant.found_in(text) == [], f"in the {name}"
    assert Planter().found_in(logged) == []


@pytest.mark.parametrize("vouched", ["by a directory", "by a provider"])
def test_no_secret_of_a_sign_in_elsewhere_is_in_any_log(start: Start, tmp_path: Path, vouched: str) -> None:
    plant, log, kept = Planter(), tmp_path / "log", tmp_path / "kept"
    kept.write_text(plant())
    issuer = "http://127.0.0.1:9"  # where nobody listens
    settings = {"MLHOST_OIDC_ISSUER": issuer, "MLHOST_OIDC_CLIENT_ID": "mlhost"}
    settings |= {"MLHOST_OIDC_CLIENT_SECRET_FILE": str(kept)}
    if vouched == "by a directory":
        settings = {"MLHOST_LDAP_URL": "ldap://127.0.0.1:9", "MLHOST_LDAP_SEARCH_BASE": "dc=example"}
        settings |= {"MLHOST_LDAP_QUERY_USER": "cn=query", "MLHOST_LDAP_QUERY_PASSWORD_FILE": str(kept)}
        settings |= {"MLHOST_LDAP_START_TLS": "false"}
    server = start(log=log, MLHOST_LOGS_LEVEL="debug", **settings)
    for method, path, options in sign_ins_with(plant, issuer):
        answer = requests.request(method, server.url + path, timeout=30, **options)
        assert answer.status_code != 500, f"{method} {path}: {answer.text}"
    status, said = server.stop()
    assert status == 0
    audited = mlhost("audit", "--json", "--data", tmp_path / "data").output
    for name, text in (("log", log.read_text()), ("audit log", audited), ("output", server.said + said)):
        assert plant.found_in(text) == [], f"in the {name}"


def test_the_planter_finds_what_it_planted() -> None:
    plant = Planter()
    for text in (plant(), quote(plant()), b64encode(plant().encode()).decode(), plant.token()):
        assert len(plant.found_in(f"before {text} behind")) == 1
    assert PASSWORD not in plant.planted
