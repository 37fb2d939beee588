"""A real OpenID Connect provider on a free port of the loopback; the tests have its keys, so they can forge as well."""

import json
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, RSAKey
from yarl import URL

from mlhost.config import Oidc
from tests.parts import ROOT
from tests.slapd import free_ports

AUDIENCE = "api://mlhost"
SECRET = "the web application's own"
CALLBACK = "/login/oidc/callback"
STARTS_SECONDS = 15.0
USERS = {
    "amy": ["mlhost-owners"],
    "bob": ["data-science", "staff"],
    "cid": ["staff"],
    "dan": ["elsewhere"],
    "carol": ["mlhost-owners"],
}

Key = RSAKey | ECKey


def new_keys(names: str) -> list[Key]:
    """An RSA and an EC key, as a provider has them."""
    about = {"use": "sig"}
    return [
        RSAKey.generate_key(2048, {**about, "kid": f"{names}-rsa", "alg": "RS256"}),
        ECKey.generate_key("P-256", {**about, "kid": f"{names}-ec", "alg": "ES256"}),
    ]


@dataclass
class Provider:
    """A running provider."""

    folder: Path
    port: int
    server_port: int  # where browsers come back to
    keys: list[Key]
    users: dict[str, list[str]] = field(default_factory=lambda: dict(USERS))

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def secret_file(self) -> Path:
        return self.folder / "secret"

    def settings(self, **changes: Any) -> Oidc:
        """Settings that fit it; some changed."""
        given: dict[str, Any] = {
            "issuer": self.issuer,
            "client_id": "mlhost",
            "audience": AUDIENCE,
            "client_secret_file": str(self.secret_file),
        }
        return Oidc(**(given | changes))

    def claims(self, name: str = "amy", **changes: Any) -> dict[str, Any]:
        """Those of a good token; a claim that is changed to None is left out."""
        now = int(time.time())
        given = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": name,
            "upn": f"{name}@example.org",
            "groups": self.users.get(name, []),
            "iat": now,
            "exp": now + 600,
        }
        return {claim: value for claim, value in (given | changes).items() if value is not None}

    def token(
        self, name: str = "amy", *, header: dict[str, Any] | None = None, key: Key | None = None, **changes: Any
    ) -> str:
        """One that it signed, or that somebody else did."""
        key = key or self.keys[0]
        about = {"alg": key.get("alg"), "kid": key.get("kid"), "typ": "at+jwt"} | (header or {})
        return jwt.encode(
            {name: value for name, value in about.items() if value is not None},
            self.claims(name, **changes),
            key,
            registry=jws.JWSRegistry(algorithms=["RS256", "ES256", "RS512"], strict_check_header=False),
        )

    async def control(self, what: str, body: Any = None) -> dict[str, int]:
        """Tell it something; how often each of its addresses was asked for."""
        async with aiohttp.ClientSession() as http, http.put(f"{self.issuer}/test/{what}", json=body) as answer:
            return dict(await answer.json())

    @asynccontextmanager
    async def rotated(self, names: str) -> AsyncIterator[None]:
        """Meanwhile it signs with, and publishes, new keys."""
        before, self.keys = self.keys, new_keys(names)
        await self.control("keys", private(self.keys))
        try:
            yield
        finally:
            self.keys = before
            await self.control("keys", private(self.keys))

    async def move(self, name: str, *groups: str) -> None:
        """A user is in these groups from now on."""
        self.users[name] = list(groups)
        await self.control("users", self.users)

    async def asked_for_keys(self) -> int:
        return (await self.control("counts")).get("/jwks", 0)


def private(keys: list[Key]) -> list[dict[str, Any]]:
    return [dict(key.as_dict(private=True)) for key in keys]


async def sign_in(browser: aiohttp.ClientSession, url: str, name: str) -> aiohttp.ClientResponse:
    """Follow an address of the provider to its end, filling in its forms as a user of that name."""
    answer = await browser.get(url)
    for _ in range(6):
        text = await answer.text()
        found = re.search(r'<form[^>]* action="([^"]+)"[^>]*>(.*)</form>', text, re.DOTALL)
        if found is None or "/login/oidc" in answer.url.path:
            return answer
        fields = {
            match[1]: unescape(match[2])
            for match in re.finditer(r'<input[^>]*name="(\w+)"[^>]*value="([^"]*)"', found[2])
        }
        if 'name="login"' in text:
            fields |= {"login": name, "password": "any"}
        answer = await browser.post(answer.url.join(URL(unescape(found[1]))), data=fields)
    raise AssertionError(text)


@contextmanager
def running(folder: Path) -> Iterator[Provider]:
    """A provider in an empty folder; the test is skipped where there is none to be had."""
    try:
        found = subprocess.run([ROOT / "scripts" / "oidc-provider"], capture_output=True, text=True, timeout=45)
    except subprocess.TimeoutExpired:
        pytest.skip("oidc-provider is not installed and could not be in time")
    if found.returncode:
        pytest.skip(found.stderr.strip().splitlines()[-1])
    port, server_port = free_ports(2)
    provider = Provider(folder, port, server_port, new_keys("first"))
    provider.secret_file.write_text(SECRET + "\n")
    settings = {
        "keys": private(provider.keys),
        "redirectUris": [f"http://127.0.0.1:{server_port}{CALLBACK}"],
        "secret": SECRET,
        "audience": AUDIENCE,
        "users": provider.users,
        "packages": found.stdout.strip(),
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    script = ROOT / "tests" / "identity" / "provider.mjs"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["node", script, folder, str(port)], stdout=log, stderr=log)
    try:
        ends = time.monotonic() + STARTS_SECONDS
        while b"ready" not in (said := (folder / "log").read_bytes()):
            assert process.poll() is None and time.monotonic() < ends, said.decode()
            time.sleep(0.02)
        yield provider
    finally:
        process.terminate()
        process.wait(10)
