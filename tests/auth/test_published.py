"""What a provider publishes, as far as it is believed: one made for this test says what no real one would."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from mlhost.auth.published import FRESH_SECONDS, MAX_BYTES, Published
from mlhost.config import Oidc
from mlhost.errors import Unavailable
from mlhost.http.tls import self_signed
from tests.oidc import new_keys
from tests.parts import until

RSA, EC = (key.as_dict(private=False) for key in new_keys("a"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def published(
    keys: Any, clock: Clock | None = None, context: ssl.SSLContext | None = None, ca_file: str = "", **about: Any
) -> AsyncIterator[Published]:
    """What is known of a provider that publishes these keys, and says that about itself."""

    async def tell(request: web.Request) -> web.Response:
        return web.json_response({"issuer": issuer, "jwks_uri": f"{issuer}/keys"} | about)

    async def tell_keys(request: web.Request) -> web.StreamResponse:
        if isinstance(keys, Exception):
            raise keys
        return web.Response(text=keys) if isinstance(keys, str) else web.json_response(keys)

    async def tell_moved(request: web.Request) -> web.Response:
        return web.json_response({"keys": [RSA]})

    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", tell)
    app.router.add_get("/keys", tell_keys)
    app.router.add_get("/moved", tell_moved)
    server = TestServer(app)
    await server.start_server(ssl=context)
    async with server:
        issuer = str(server.make_url("/")).rstrip("/")
        known = Published(Oidc(issuer=issuer, timeout_seconds=2.0, ca_file=ca_file), clock or Clock())
        yield known
        await known.close()


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # at the small key
async def test_only_public_keys_that_sign_are_kept_and_others_are_passed_over() -> None:
    small = RSAKey.generate_key(1024, {"kid": "small"}).as_dict(private=False)
    odd: list[Any] = [
        OctKey.generate_key(256, {"kid": "secret"}).as_dict(private=True),
        OKPKey.generate_key("X25519", {"kid": "okp"}).as_dict(private=False),
        RSA | {"kid": "encrypts", "use": "enc"},
        RSA | {"kid": "broken", "n": "!"},
        {"kty": "RSA", "kid": "empty"},
        EC | {"kid": "curve", "crv": "P-1"},
        {"kty": ["RSA"]},
        small,
        None,
        "RSA",
    ]
    async with published({"keys": [*odd, RSA, EC]}) as known:
        assert await known.count() == 2
        for name in ("secret", "okp", "encrypts", "broken", "empty", "curve", "small"):
            assert await known.key(name, "RS256") is await known.key(name, "ES256") is None


async def test_a_key_verifies_only_by_algorithms_of_its_kind_and_by_the_one_it_is_for() -> None:
    free = RSAKey.generate_key(2048, {"kid": "free"}).as_dict(private=False)
    async with published({"keys": [RSA, EC, free]}) as known:
        assert isinstance(await known.key("a-rsa", "RS256"), RSAKey)
        assert await known.key("a-rsa", "PS256") is await known.key("a-rsa", "ES256") is None
        assert await known.key("a-ec", "RS256") is None
        assert isinstance(await known.key("free", "PS256"), RSAKey)
        assert isinstance(await known.key(None, "ES256"), ECKey)  # the only one
        assert await known.key(None, "RS256") is None  # which of the two?


async def test_two_keys_of_one_name_are_none() -> None:
    async with published({"keys": [RSA, new_keys("a")[0].as_dict(private=False)]}) as known:
        assert await known.key("a-rsa", "RS256") is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"keys": []}, "publishes no key that signs"),
        ({"keys": "none"}, "publishes no key that signs"),
        ({}, "publishes no key that signs"),
        ([RSA], "something else than a JSON object"),
        ("no JSON", "does not answer /keys"),
        ("[" * 100_000, "does not answer /keys"),
        ('{"keys": "' + "x" * MAX_BYTES + '"}', "something else than a JSON object"),
        (web.HTTPInternalServerError(text="{}"), "answers /keys with 500"),
        (web.HTTPFound("/moved", text="{}"), "answers /keys with 302"),
    ],
    ids=["empty", "no list", "nothing", "a list", "no JSON", "deep", "large", "failing", "moved"],
)
async def test_what_is_no_set_of_keys_is_unavailable_in_words(keys: Any, words: str) -> None:
    async with published(keys) as known:
        with pytest.raises(Unavailable, match=words):
            await known.key("a-rsa", "RS256")


@pytest.mark.parametrize(
    "uri", [None, 7, "http://idp.example.org/keys", "file:///etc/passwd", "https://", "https://[::1"]
)
async def test_keys_are_fetched_from_safe_addresses_only(uri: Any) -> None:
    async with published({"keys": [RSA]}, jwks_uri=uri) as known:
        with pytest.raises(Unavailable, match="names no jwks_uri that may be asked"):
            await known.about()


async def test_the_certificate_is_checked_by_the_authorities_that_are_set(tmp_path: Path) -> None:
    cert, key, _ = self_signed((), 1)
    ca_file, key_file = tmp_path / "ca.pem", tmp_path / "key.pem"
    ca_file.write_bytes(cert)
    key_file.write_bytes(key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ca_file, key_file)
    async with published({"keys": [RSA]}, context=context, ca_file=str(ca_file)) as known:
        assert await known.count() == 1
    async with published({"keys": [RSA]}, context=context) as known:
        with pytest.raises(Unavailable, match="certificate"):
            await known.count()


async def test_one_request_answers_all_who_wait_and_outlives_one_who_gives_up() -> None:
    async with published({"keys": [RSA]}) as known:
        waiting = [asyncio.create_task(known.key("a-rsa", "RS256")) for _ in range(20)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        found = await asyncio.gather(*waiting[1:])
        assert all(found)
        assert known.fetches == 1


async def test_old_keys_are_fetched_again_while_they_are_used() -> None:
    clock = Clock()
    async with published({"keys": [RSA]}, clock) as known:
        await known.about()
        clock.now += FRESH_SECONDS + 1
        await known.about()
        await until(lambda: known.fetches == 2)


async def test_a_provider_elsewhere_sends_nobody_to_a_plain_address_of_this_machine() -> None:
    known = Published(Oidc(issuer="https://idp.example.org"))
    for url in ("http://127.0.0.1:8080/token", "http://localhost/token", "http://[::1]/token"):
        with pytest.raises(Unavailable, match="names no token_endpoint that may be asked"):
            known.endpoint({"token_endpoint": url}, "token_endpoint")
    assert known.endpoint({"token_endpoint": "https://idp.example.org/t"}, "token_endpoint")
    await known.close()
