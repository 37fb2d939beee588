"""Users of an OpenID Connect provider at the server: their bearer tokens, forged ones, and what changes there."""

import asyncio
import hashlib
import hmac
import json
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from yarl import URL

from mlhost import audit
from mlhost.auth.oidc import MAX_EXCHANGES, OpenId, _check_at_hash
from mlhost.auth.principal import Role
from mlhost.auth.published import FRESH_SECONDS, USABLE_SECONDS, Published
from mlhost.config import Config, load
from mlhost.doctor import examine
from mlhost.errors import Invalid, Throttled, Unauthenticated, Unavailable
from mlhost.host import ADMIN, Host, ensure_admin
from mlhost.http.oidc import BEGUN_SECONDS, Begun
from mlhost.http.server import serve
from tests.documents import blocks
from tests.oidc import CALLBACK, Provider, new_keys, sign_in
from tests.parts import PASSWORD, ROOT, Api, config_for_tests, host_of_its_own, names_and_types
from tests.slapd import free_ports


def guide_settings(issuer: str, folder: Path, **changes: str) -> Config:
    """The guide's settings for a provider of that address, with some texts in them changed."""
    [text] = (each.text for each in blocks(ROOT / "docs" / "how-to" / "oidc.md") if f'issuer = "{issuer}' in each.text)
    for written, here in changes.items():
        assert written in text
        text = text.replace(written, here)
    file = folder / "mlhost.toml"
    file.write_text(text, "utf-8")
    return load(file, {}, {}).config


@pytest.fixture(scope="module")
async def host(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    """A server with the guide's settings and one user of its own."""
    folder = tmp_path_factory.mktemp("oidc")
    here = {
        "https://idp.example.org": provider.issuer,
        "https://mlhost.example.org": f"http://127.0.0.1:{provider.server_port}",
        "/etc/mlhost/client-secret": str(provider.secret_file),
    }
    config = guide_settings("https://idp.example.org", folder, **here)
    sections: dict[str, Any] = {"oidc": asdict(config.oidc), "auth": asdict(config.auth)}
    async with host_of_its_own(folder / "data", **sections, server={"port": provider.server_port}) as host:
        await host.users.add("carol@example.org", "carol's own password", Role.READER)
        yield host


@pytest.fixture(scope="module")
async def url(host: Host) -> AsyncIterator[str]:
    async with serve(host) as url:
        yield url


# --- bearer tokens ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role"), [("amy", "Owner"), ("bob", "Contributor"), ("cid", "Reader"), ("dan", "None")]
)
@pytest.mark.parametrize("key", [0, 1], ids=["RS256", "ES256"])
async def test_a_token_of_the_provider_is_a_user_whose_groups_give_the_role(
    provider: Provider, host: Host, anonymous: Api, name: str, role: str, key: int
) -> None:
    anonymous.token = provider.token(name, key=provider.keys[key])
    for _ in range(2):
        await anonymous("GET", "/services", 403 if role == "None" else 200)
        await anonymous("GET", "/users", 200 if role == "Owner" else 403)
    known = host.tokens.remembered(anonymous.token)
    assert known is not None
    assert (known.name, known.role.title) == (f"{name}@example.org", role)


async def test_services_are_published_and_called_with_tokens_of_the_provider(
    provider: Provider, anonymous: Api
) -> None:
    anonymous.token = provider.token("bob")
    signature = {"inputParameterDefinitions": names_and_types(x="integer")}
    signature |= {"outputParameterDefinitions": names_and_types(y="integer")}
    await anonymous.publish("Twice", "v1.0", "y = 2 * x", **signature)
    anonymous.token = provider.token("cid")
    for x in range(3):
        answer = await anonymous("POST", "/api/Twice/v1.0", json={"x": x})
        assert answer["outputParameters"] == {"y": 2 * x}
    await anonymous("DELETE", "/services/Twice/v1.0", 403)


async def test_a_token_that_names_as_many_groups_as_azure_ad_puts_into_one_comes_through(
    provider: Provider, host: Host, anonymous: Api
) -> None:
    groups = sorted(str(uuid4()) for _ in range(200))
    anonymous.token = provider.token("gus", groups=["mlhost-owners", *groups])
    for _ in range(2):
        await anonymous("GET", "/users")
    assert set(groups) < set((await host.users.get("gus@example.org")).groups)


def by_hand(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A token that no library would make."""
    parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = urlsafe_b64encode(sign(b".".join(parts))).rstrip(b"=")
    return b".".join([*parts, signature]).decode()


def rightly(provider: Provider, **header: Any) -> str:
    """One that the provider signed, whatever its header says."""
    rsa = provider.keys[0]
    about = {"alg": "RS256", "kid": rsa.get("kid")} | header
    return by_hand(about, provider.claims(), lambda text: rsa.private_key.sign(text, PKCS1v15(), SHA256()))


def unsigned(provider: Provider, algorithm: str) -> str:
    return by_hand({"alg": algorithm, "kid": provider.keys[0].get("kid")}, provider.claims(), lambda _: b"")


def signed_with_the_public_key(provider: Provider) -> str:
    rsa = provider.keys[0]
    public = rsa.as_pem(private=False)
    header = {"alg": "HS256", "kid": rsa.get("kid")}
    return by_hand(header, provider.claims(), lambda text: hmac.digest(public, text, "sha256"))


def with_a_key_in_its_header(provider: Provider, field: str) -> str:
    own = new_keys("first")[0]
    brought = own.as_dict(private=False) if field == "jwk" else f"{provider.issuer}/mine"
    return provider.token(key=own, header={field: brought})


FORGED = {
    "expired": lambda provider: provider.token(exp=1),
    "without an end": lambda provider: provider.token(exp=None),
    "not yet good": lambda provider: provider.token(nbf=4_000_000_000),
    "for another audience": lambda provider: provider.token(aud="api://other"),
    "for the web application": lambda provider: provider.token(aud="mlhost"),
    "for no audience": lambda provider: provider.token(aud=None),
    "for several, of another party": lambda provider: provider.token(aud=["api://mlhost", "b"], azp="b"),
    "for several, of no party": lambda provider: provider.token(aud=["api://mlhost", "b"]),
    "of another issuer": lambda provider: provider.token(iss=f"{provider.issuer}/"),
    "of no issuer": lambda provider: provider.token(iss=None),
    "for no user": lambda provider: provider.token(upn=None, sub=None),
    "bound to a proof": lambda provider: provider.token(cnf={"jkt": "x"}),
    "for signing out": lambda provider: provider.token(header={"typ": "logout+jwt"}),
    "with groups elsewhere": lambda provider: provider.token(groups=None, _claim_names={"groups": "src1"}),
    "without an algorithm": lambda provider: rightly(provider, alg=None),
    "by a list of algorithms": lambda provider: rightly(provider, alg=["RS256"]),
    "of a key that is a number": lambda provider: rightly(provider, kid=1),
    "unsigned": lambda provider: unsigned(provider, "none"),
    "unsigned, spelled otherwise": lambda provider: unsigned(provider, "nOnE"),
    "signed with the public key": signed_with_the_public_key,
    "by another RSA algorithm": lambda provider: rightly(provider, alg="RS512"),
    "by a key of another kind": lambda provider: provider.token(header={"kid": provider.keys[1].get("kid")}),
    "by a key of another owner": lambda provider: provider.token(key=new_keys("first")[0]),
    "that names no key": lambda provider: provider.token(key=new_keys("x")[0], header={"kid": None}),
    "with jwk": lambda provider: with_a_key_in_its_header(provider, "jwk"),
    "with jku": lambda provider: with_a_key_in_its_header(provider, "jku"),
    "with x5u": lambda provider: with_a_key_in_its_header(provider, "x5u"),
    "with something critical": lambda provider: rightly(provider, crit=["exp"], exp=1),
    "cut short": lambda provider: provider.token()[:-4],
}


async def test_a_token_made_by_hand_holds_if_nothing_is_wrong_with_it(provider: Provider, anonymous: Api) -> None:
    anonymous.token = rightly(provider)
    await anonymous("GET", "/services")


@pytest.mark.parametrize("kind", FORGED)
async def test_a_token_that_does_not_hold_is_401(provider: Provider, host: Host, anonymous: Api, kind: str) -> None:
    anonymous.token = FORGED[kind](provider)
    await anonymous("GET", "/services", 401)
    assert host.tokens.remembered(anonymous.token) is None


async def test_the_issuer_is_checked_once_more_where_the_token_is_verified(provider: Provider, host: Host) -> None:
    assert host.openid is not None
    for kind in ("of another issuer", "of no issuer"):
        with pytest.raises(Unauthenticated, match="iss"):
            await host.openid.check(FORGED[kind](provider))


# --- signing in with a browser ---------------------------------------------------------------------------------------


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        yield http


class Beginning(NamedTuple):
    state: str
    cookie: dict[str, str]


async def begin(browser: aiohttp.ClientSession, url: str) -> Beginning:
    """Begin to sign in, as far as to what the browser is to keep, which it is given each time."""
    async with browser.get(f"{url}/login/oidc", allow_redirects=False) as answer:
        assert answer.status == 303
        state, cookie = URL(answer.headers["Location"]).query["state"], answer.cookies["mlhost_login"].value
    return Beginning(state, {"mlhost_login": cookie})


async def test_a_browser_signs_in_at_the_provider_and_comes_back_with_a_token_for_the_console(
    provider: Provider, host: Host, url: str, browser: aiohttp.ClientSession
) -> None:
    answer = await sign_in(browser, f"{url}/login/oidc?next=/console/services%3Fa=b", "bob")
    assert (answer.status, answer.url.path) == (200, "/login/oidc/callback")
    assert "signed in as bob@example.org" in await answer.text()
    assert answer.headers["Refresh"] == "0; url=/console/services?a=b"
    cookie = answer.cookies["mlhost_console"]
    assert (cookie["path"], cookie["httponly"], cookie["samesite"], cookie["secure"]) == (
        "/console",
        True,
        "Strict",
        "",
    )
    renewed = await host.doors.renew(answer.cookies["mlhost_console_renewal"].value)  # beyond the hour of the first
    cookie.set("mlhost_console", renewed.access, renewed.access)
    who = await host.tokens.check(cookie.value)
    assert (who.name, who.role) == ("bob@example.org", Role.CONTRIBUTOR)
    await Api(browser, cookie.value)("GET", f"{url}/services")
    told = [json.loads(line) for line in audit.lines(host.folder.path) if "/login/oidc/callback" in line]
    assert (told[-1]["user"], told[-1]["status"]) == ("bob@example.org", 200)
    assert not browser.cookie_jar.filter_cookies(answer.url).get("mlhost_login")


async def test_a_browser_that_comes_back_is_let_in_only_for_what_it_began_itself(
    url: str, browser: aiohttp.ClientSession
) -> None:
    callback = f"{url}/login/oidc/callback"
    for query in ("", "?state=&code=x", "?state=x&code=x", "?error=access_denied&state=x"):
        async with browser.get(callback + query) as answer:
            assert answer.status == 401
            assert "has not begun" in await answer.text()
    begun = await begin(browser, url)
    for query in ({"state": "x", "code": "x"}, {"state": "ä", "code": "x"}, {"code": "x"}):
        async with browser.get(callback, params=query, cookies=begun.cookie) as answer:
            assert answer.status == 401
            assert "not to what this browser asked" in await answer.text()
            assert "mlhost_console" not in answer.cookies
    elsewhere = Begun.of(begun.cookie["mlhost_login"])  # another target than the one it began with
    forged = {"mlhost_login": replace(elsewhere, next="/console/delete").cookie}
    younger = {"mlhost_login": replace(elsewhere, at=elsewhere.at - 1).cookie}
    for changed in (forged, younger):
        async with browser.get(callback, params={"state": begun.state, "code": "x"}, cookies=changed) as answer:
            assert "not to what this browser asked" in await answer.text()
    late = {"mlhost_login": replace(elsewhere, at=elsewhere.at - BEGUN_SECONDS - 1).cookie}
    async with browser.get(callback, params={"state": begun.state, "code": "x"}, cookies=late) as answer:
        assert "too long ago" in await answer.text()


async def test_a_refusal_of_the_provider_is_told_in_its_words_and_never_as_markup(
    provider: Provider, url: str, browser: aiohttp.ClientSession
) -> None:
    callback = f"{url}/login/oidc/callback"
    begun = await begin(browser, url)
    refused = {"state": begun.state, "error": "<b>access_denied"}
    async with browser.get(callback, params=refused, cookies=begun.cookie) as answer:
        assert "&lt;b&gt;access_denied" in await answer.text()
    for issuer in ({}, {"iss": "http://127.0.0.1:1"}):  # it says that it always names itself
        code = {"state": begun.state, "code": "x"} | issuer
        async with browser.get(callback, params=code, cookies=begun.cookie) as answer:
            assert "not one of the identity provider that was asked" in await answer.text()
    invented = {"state": begun.state, "code": "x", "iss": provider.issuer}
    async with browser.get(callback, params=invented, cookies=begun.cookie) as answer:
        assert answer.status == 401
        assert "refuses the code: invalid_grant" in await answer.text()


async def test_a_code_is_good_only_with_the_nonce_and_the_verifier_it_was_asked_for_with(
    provider: Provider, host: Host, url: str, browser: aiohttp.ClientSession
) -> None:
    openid = host.openid
    assert openid is not None
    redirect_uri = f"{url}{CALLBACK}"
    for nonce, verifier, words in (
        ("another", "v" * 43, "id_token is that of another sign-in"),
        ("nonce", "w" * 43, "refuses the code: invalid_grant"),
    ):
        address = await openid.address(redirect_uri, "state", "nonce", "v" * 43)
        answer = await sign_in(browser, address, "bob")  # its state is not one this server knows
        query = answer.url.query
        with pytest.raises(Unauthenticated, match=words):
            await openid.sign_in(query["code"], query["iss"], redirect_uri, nonce, verifier)


async def test_a_code_is_no_good_with_the_access_token_of_another_sign_in(
    host: Host, url: str, browser: aiohttp.ClientSession
) -> None:
    openid = host.openid
    assert openid is not None
    exchange, redirect_uri = openid._exchange, f"{url}{CALLBACK}"
    address = await openid.address(redirect_uri, "state", "nonce", "v" * 43)
    query = (await sign_in(browser, address, "bob")).url.query

    async def swapped(*args: Any) -> Any:
        return await exchange(*args) | {"access_token": "another"}

    with mock.patch.object(OpenId, "_exchange", side_effect=swapped), pytest.raises(Unauthenticated, match="at_hash"):
        await openid.sign_in(query["code"], query["iss"], redirect_uri, "nonce", "v" * 43)


async def test_invented_codes_keep_only_so_many_requests_to_the_provider_on_their_way(host: Host, url: str) -> None:
    openid = host.openid
    assert openid is not None
    issuer = openid.published.issuer
    tries = [openid.sign_in("x", issuer, f"{url}{CALLBACK}", "n", "v" * 43) for _ in range(MAX_EXCHANGES + 5)]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(answer) for answer in answers].count(Throttled) == 5
    with pytest.raises(Unauthenticated):  # and they leave nothing behind
        await openid.sign_in("x", issuer, f"{url}{CALLBACK}", "n", "v" * 43)


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "\\/evil.example",
        "evil",
        "",
        "/a\nb",
        "/ä",
        "/a\\b",
        "/" + "a" * 1024,
    ],
)
async def test_signing_in_leads_to_no_other_server(url: str, browser: aiohttp.ClientSession, path: str) -> None:
    params = {"next": path}
    async with browser.get(f"{url}/login/oidc", params=params, allow_redirects=False) as answer:
        assert answer.status == 400
    with pytest.raises(Invalid):
        Begun.of(f"secret.{int(time.time())}.{quote(path, safe='')}")


@pytest.mark.parametrize("cookie", ["", "secret", ".1.", f"secret.{'1' * 5000}.", "secret.now.", "\udcff.{now}.%2F"])
def test_a_cookie_that_is_none_of_ours_signs_nobody_in(cookie: str) -> None:
    with pytest.raises(Unauthenticated, match="begin again"):
        Begun.of(cookie.format(now=int(time.time())))


async def test_what_the_browser_is_asked_to_keep_and_where_it_is_sent(
    provider: Provider, url: str, browser: aiohttp.ClientSession
) -> None:
    async with browser.get(f"{url}/login/oidc", allow_redirects=False) as answer:
        cookie, location = answer.cookies["mlhost_login"], URL(answer.headers["Location"])
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/login/oidc")
    assert int(cookie["max-age"]) == BEGUN_SECONDS
    assert str(location).startswith(f"{provider.issuer}/auth?")
    assert location.query["code_challenge_method"] == "S256"
    assert location.query["redirect_uri"] == f"{url}/login/oidc/callback"
    secret = cookie.value.partition(".")[0]
    assert secret not in str(location)


async def test_cookies_are_for_tls_only_where_browsers_come_by_it(
    provider: Provider, tmp_path: Path, browser: aiohttp.ClientSession
) -> None:
    settings = provider.settings(redirect_uri=f"https://mlhost.example.org{CALLBACK}")
    async with host_of_its_own(tmp_path, oidc=asdict(settings)) as host, serve(host) as url:
        answer = await browser.get(f"{url}/login/oidc", allow_redirects=False)
        assert answer.cookies["mlhost_login"]["secure"]
        assert URL(answer.headers["Location"]).query["redirect_uri"] == settings.redirect_uri


async def test_at_hash_must_be_that_of_the_access_token() -> None:
    digest = hashlib.sha256(b"access").digest()[:16]
    told = {"at_hash": urlsafe_b64encode(digest).rstrip(b"=").decode(), "_alg": "RS256"}
    _check_at_hash(told, "access")
    _check_at_hash({"_alg": "RS256"}, "access")
    for other in ("another", None):
        with pytest.raises(Unauthenticated, match="at_hash"):
            _check_at_hash(told, other)


# --- a device --------------------------------------------------------------------------------------------------------


async def test_a_client_that_used_the_devices_flow_of_the_provider_has_a_token_that_holds_here(
    provider: Provider, host: Host, anonymous: Api, browser: aiohttp.ClientSession
) -> None:
    asked = {"client_id": "command", "scope": "openid call"}
    async with browser.post(f"{provider.issuer}/device/auth", data=asked) as answer:
        device = await answer.json()
    answer = await sign_in(browser, device["verification_uri_complete"], "cid")
    assert "Sign-in Success" in await answer.text()
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    polled = {"client_id": "command", "grant_type": grant, "device_code": device["device_code"]}
    async with browser.post(f"{provider.issuer}/token", data=polled) as answer:
        told = await answer.json()
    anonymous.token = told["access_token"]
    await anonymous("GET", "/services")
    await anonymous("POST", "/sessions", 403, {"runtimeType": "Python"})
    assert (await host.users.get("cid@example.org")).groups == ("staff",)
    anonymous.token = told["id_token"]  # which says who signed in at the command, not that it may come here
    await anonymous("GET", "/services", 401)


# --- what changes at the provider ------------------------------------------------------------------------------------


async def test_a_demotion_counts_from_the_first_token_that_tells_of_it_also_for_older_ones(
    provider: Provider, anonymous: Api
) -> None:
    earlier = int(time.time()) - 60
    owner = provider.token("eva", groups=["mlhost-owners"], iat=earlier)
    reader = provider.token("eva", groups=["staff"])
    for token, status in ((owner, 200), (reader, 403), (owner, 403), (reader, 403)):
        anonymous.token = token
        await anonymous("GET", "/users", status)
    await anonymous("GET", "/services")


async def test_a_demotion_outlives_the_server_that_saw_it(provider: Provider, tmp_path: Path) -> None:
    owner = provider.token("gus", groups=["mlhost-owners"], iat=int(time.time()) - 60)
    reader = provider.token("gus", groups=["staff"])
    groups = {"owner_groups": ("mlhost-owners",), "reader_groups": ("staff",)}
    for shown in ((owner, Role.OWNER), (reader, Role.READER)), ((owner, Role.READER),):
        async with host_of_its_own(tmp_path, oidc=asdict(provider.settings()), auth=groups) as host:
            assert host.openid is not None
            for token, role in shown:
                assert (await host.openid.check(token)).role is role


async def test_a_demotion_counts_at_the_next_sign_in_also_for_the_token_of_the_one_before(
    provider: Provider, host: Host, url: str, browser: aiohttp.ClientSession
) -> None:
    await provider.move("hal", "data-science")
    first = (await sign_in(browser, f"{url}/login/oidc", "hal")).cookies["mlhost_console"].value
    assert (await host.tokens.check(first)).role is Role.CONTRIBUTOR
    await provider.move("hal", "staff")
    second = (await sign_in(browser, f"{url}/login/oidc", "hal")).cookies["mlhost_console"].value
    assert first != second
    for token in (first, second):
        assert (await host.tokens.check(token)).role is Role.READER


async def test_who_is_given_none_by_name_is_shut_out_whatever_the_provider_says(
    provider: Provider, host: Host, anonymous: Api
) -> None:
    anonymous.token = provider.token("fay", groups=["mlhost-owners"])
    await anonymous("GET", "/users")
    await host.users.set_role("fay@example.org", Role.NONE)
    for _ in range(2):
        await anonymous("GET", "/services", 403)
        anonymous.token = provider.token("fay", groups=["mlhost-owners"])


async def test_a_user_of_this_server_is_never_one_of_the_provider(
    provider: Provider, host: Host, url: str, anonymous: Api, browser: aiohttp.ClientSession
) -> None:
    name = "carol@example.org"
    anonymous.token = provider.token("carol")
    await anonymous("GET", "/services", 401)
    answer = await sign_in(browser, f"{url}/login/oidc", "carol")
    assert (answer.status, "mlhost_console" in answer.cookies) == (401, False)
    anonymous.token = ""
    await anonymous.login(name, "carol's own password")
    assert (await host.tokens.check(anonymous.token)).role is Role.READER
    await host.users.revoke(name)


async def test_a_user_of_the_provider_may_have_personal_tokens_and_has_no_password(
    provider: Provider, anonymous: Api
) -> None:
    anonymous.token = provider.token("bob")
    personal = await anonymous("POST", "/tokens", 201, {"name": "ci", "scope": "all"})
    anonymous.token = personal["token"]
    await anonymous("GET", "/services")
    anonymous.token = ""
    for password in ("", "any", PASSWORD):
        await anonymous("POST", "/login", 401, {"username": "bob@example.org", "password": password})


# --- admin -----------------------------------------------------------------------------------------------------------


async def test_admin_is_shut_out_unless_it_is_kept_and_nobody_of_the_provider_is_admin(
    provider: Provider, host: Host, anonymous: Api, tmp_path: Path
) -> None:
    assert (await ensure_admin(host, PASSWORD)).is_shut_out
    await anonymous("POST", "/login", 401, {"username": ADMIN, "password": PASSWORD})
    for name in ("admin", "ADMIN"):
        anonymous.token = provider.token(upn=name)
        await anonymous("GET", "/services", 401)
    kept: dict[str, Any] = {"oidc": asdict(provider.settings()), "auth": {"keep_admin": True}}
    async with host_of_its_own(tmp_path / "kept", **kept) as other:
        assert (await other.doors.sign_in(ADMIN, PASSWORD)).role is Role.OWNER
        assert other.openid is not None
        assert (await other.openid.check(provider.token("bob"))).name == "bob@example.org"
        with pytest.raises(Unauthenticated):
            await other.openid.check(provider.token(upn="admin"))


# --- the provider's keys ---------------------------------------------------------------------------------------------


async def test_a_flood_of_unknown_keys_asks_the_provider_once_a_minute_and_a_new_one_is_found(
    provider: Provider, host: Host, anonymous: Api
) -> None:
    async with opened(provider, host) as (openid, clock):
        await openid.check(provider.token())
        clock.now += 61
        before = await provider.asked_for_keys()
        stranger = new_keys("stranger")[0]
        tokens = [provider.token(key=stranger, header={"kid": f"unknown-{number}"}) for number in range(50)]
        answers = await asyncio.gather(*map(openid.check, tokens), return_exceptions=True)
        assert all(isinstance(answer, Unauthenticated) for answer in answers)
        assert await provider.asked_for_keys() == before + 1

        first = provider.token()
        async with provider.rotated("second"):
            second = provider.token()
            with pytest.raises(Unauthenticated, match="publishes no such key"):
                await openid.check(second)  # within the minute
            clock.now += 61
            assert (await openid.check(second)).role is Role.OWNER
            with pytest.raises(Unauthenticated, match="publishes no such key"):
                await openid.check(first)  # signed with a key that was taken back
            assert await provider.asked_for_keys() == before + 2


async def test_keys_that_are_known_outlast_a_provider_that_is_down_for_a_day(provider: Provider, host: Host) -> None:
    async with opened(provider, host) as (openid, clock):
        await openid.check(provider.token())
        openid.published.issuer = "http://127.0.0.1:1"  # nobody answers there
        clock.now += FRESH_SECONDS + 1
        await openid.check(provider.token())
        stranger = provider.token(header={"kid": "unknown"})
        with pytest.raises(Unauthenticated):
            await openid.check(stranger)
        clock.now += USABLE_SECONDS
        with pytest.raises(Unavailable, match="does not answer"):
            await openid.check(provider.token())


async def test_a_provider_that_is_down_is_503_in_words_and_does_not_keep_others_out(
    provider: Provider, tmp_path: Path, browser: aiohttp.ClientSession
) -> None:
    [port] = free_ports(1)
    down = f"http://127.0.0.1:{port}"
    sections: dict[str, Any] = {
        "oidc": asdict(provider.settings(issuer=down)),
        "auth": {"keep_admin": True},
    }
    async with host_of_its_own(tmp_path / "data", **sections) as host, serve(host) as url:
        api = Api(browser, provider.token(iss=down))
        for _ in range(3):
            answer = await api("GET", f"{url}/services", 503)
        assert f"The identity provider {down} does not answer" in answer["message"]
        assert host.openid is not None
        assert host.openid.published.fetches == 1
        async with browser.get(f"{url}/login/oidc") as refused:
            assert refused.status == 503
        api.token = ""
        await api("POST", f"{url}/login", 200, {"username": ADMIN, "password": PASSWORD})


async def test_a_provider_that_calls_itself_otherwise_is_not_believed(provider: Provider, host: Host) -> None:
    async with opened(provider, host, issuer=f"{provider.issuer}/") as (openid, _):
        with pytest.raises(Unavailable, match=r"which oidc\.issuer is to spell exactly"):
            await openid.check(provider.token(iss=f"{provider.issuer}/"))


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(provider: Provider, host: Host, **changes: Any) -> AsyncIterator[tuple[OpenId, Clock]]:
    """The provider as a server that has just started knows it, with a clock of its own."""
    clock, settings = Clock(), provider.settings(**changes)
    openid = OpenId(settings, host.doors, host.tokens.known, published=Published(settings, clock))
    yield openid, clock
    await openid.close()


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"issuer": "http://idp.example.org"}, "no https:// address"),
        ({"issuer": "ftp://127.0.0.1"}, "no https:// address"),
        ({"issuer": "https://user@idp.example.org"}, "no https:// address"),
        ({"issuer": "https://"}, "no https:// address"),
        ({"client_id": ""}, "needs oidc.client_id"),
        ({"algorithms": ()}, "oidc.algorithms is empty"),
        ({"redirect_uri": "http://mlhost.example.org/login/oidc/callback"}, "oidc.redirect_uri"),
        ({"ca_file": "/none"}, "oidc.ca_file"),
        ({"client_secret_file": "/none"}, "oidc.client_secret_file"),
    ],
)
async def test_settings_that_do_not_hold_stop_the_start(
    provider: Provider, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        async with host_of_its_own(tmp_path, oidc=asdict(provider.settings(**changes))):
            pytest.fail("it must not start")


async def test_the_settings_for_azure_ad_hold(host: Host, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    changes = {"/etc/mlhost/client-secret": str(secret)}
    config = guide_settings("https://login.microsoftonline.com/", tmp_path, **changes)
    openid = OpenId(config.oidc, host.doors, host.tokens.known)
    assert openid.redirect_uri.startswith("https://")
    await openid.close()


@pytest.mark.parametrize("name", ["none", "HS256", "HS512", "RS1"])
def test_an_algorithm_without_a_key_that_only_the_provider_has_cannot_be_set(name: str) -> None:
    with pytest.raises(Invalid, match=r"oidc\.algorithms"):
        load(None, {"MLHOST_OIDC_ALGORITHMS": f"RS256,{name}"}, {})


async def test_a_directory_and_a_provider_exclude_each_other(provider: Provider, tmp_path: Path) -> None:
    ldap = {"url": "ldaps://ldap.example.org", "search_base": "dc=example"}
    with pytest.raises(Invalid, match="exclude each other"):
        async with host_of_its_own(tmp_path, oidc=asdict(provider.settings()), ldap=ldap):
            pytest.fail("it must not start")


async def test_the_doctor_asks_the_provider(provider: Provider, tmp_path: Path) -> None:
    async def lines(**sections: dict[str, Any]) -> str:
        config = config_for_tests(**sections)
        return "\n".join(finding.line() for finding in await examine(config, tmp_path / "none"))

    told = await lines(oidc=asdict(provider.settings()))
    assert re.search(r"ok +identity provider: http://127\.0\.0\.1:\d+ answers; public keys that sign: 2", told)
    assert re.search(r"ok +admin: does not sign in", told)
    [port] = free_ports(1)
    told = await lines(oidc=asdict(provider.settings(issuer=f"http://127.0.0.1:{port}")))
    assert re.search(r"PROBLEM +identity provider: The identity provider .* does not answer", told)
