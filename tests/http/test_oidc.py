"""Users of an OpenID Connect provider at the server: their bearer tokens, forged ones, and what changes there."""

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from mlhost import audit
from mlhost.auth.principal import Role
from mlhost.host import Host
from mlhost.http.server import serve
from tests.oidc import Provider, new_keys, sign_in
from tests.parts import Api, host_of_its_own

ROLES = {"owner_groups": ["mlhost-owners"], "contributor_groups": ["data-science"], "reader_groups": ["staff"]}


@pytest.fixture(scope="module")
async def host(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    """A server with users of a provider and one of its own."""
    folder = tmp_path_factory.mktemp("oidc")
    sections: dict[str, Any] = {
        "oidc": asdict(provider.settings()),
        "auth": ROLES,
        "server": {"port": provider.server_port},
    }
    async with host_of_its_own(folder / "data", **sections) as host:
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


# --- signing in with a browser ---------------------------------------------------------------------------------------


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        yield http


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
    who = await host.tokens.check(cookie.value)
    assert (who.name, who.role) == ("bob@example.org", Role.CONTRIBUTOR)
    await Api(browser, cookie.value)("GET", f"{url}/services")
    told = [json.loads(line) for line in audit.lines(host.folder.path) if "/login/oidc/callback" in line]
    assert (told[-1]["user"], told[-1]["status"]) == ("bob@example.org", 200)
    assert not browser.cookie_jar.filter_cookies(answer.url).get("mlhost_login")
