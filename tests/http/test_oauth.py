"""OAuth 2 as programs speak it: every grant from its first request to its last, and what is refused on the way."""

import re
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from html import unescape
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import aiohttp
import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from yarl import URL

from mlhost import audit
from mlhost.auth.principal import Role
from mlhost.host import Host
from mlhost.names import new_id
from tests.parts import PASSWORD, Api

CLI = {"client_id": "mlhost-cli"}
CALLBACK = "http://127.0.0.1:51234/callback"
VERIFIER = "v" * 43
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
REQUEST = {
    **CLI,
    "response_type": "code",
    "redirect_uri": CALLBACK,
    "state": "s&<t>",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}
DEVICE = {**CLI, "grant_type": "urn:ietf:params:oauth:grant-type:device_code"}


@pytest.fixture
async def anonymous(url: str) -> AsyncIterator[Api]:
    """A browser or a program; it keeps cookies of a server that has no name, too."""
    async with aiohttp.ClientSession(url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        yield Api(http)


async def post(api: Api, path: str, expect: int, **fields: str) -> Any:
    headers = {"Authorization": f"Bearer {api.token}"} if api.token else {}
    async with api.http.post(path, data=fields, headers=headers, allow_redirects=False) as response:
        text = await response.text()
        assert response.status == expect, text
        api.headers = dict(response.headers)
        return await response.json() if response.content_type == "application/json" else text


async def get(api: Api, path: str, query: dict[str, str], expect: int = 200) -> str:
    async with api.http.get(path, params=query, allow_redirects=False) as response:
        text = await response.text()
        assert response.status == expect, text
        api.headers = dict(response.headers)
        return text


async def holds(api: Api, token: str) -> bool:
    async with api.http.get("/services", headers={"Authorization": f"Bearer {token}"}) as response:
        return response.status == 200


def hidden(page: str) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page)
    return {unescape(name): unescape(value) for name, value in found}


async def code(api: Api, **changes: str) -> str:
    """What admin's browser brings back after they allowed it."""
    fields = hidden(await get(api, "/oauth/authorize", REQUEST))
    fields |= {"username": "admin", "password": PASSWORD, "decision": "allow"} | changes
    await post(api, "/oauth/authorize", 303, **fields)
    target = urlsplit(api.headers["Location"])
    assert target._replace(query="").geturl() == CALLBACK
    [[state], [found]] = [parse_qs(target.query)[name] for name in ("state", "code")]
    assert state == REQUEST["state"]
    return found


async def exchanged(api: Api, found: str, expect: int = 200, **changes: str) -> Any:
    fields = {**CLI, "grant_type": "authorization_code", "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    return await post(api, "/oauth/token", expect, **(fields | {"code": found} | changes))


async def pair(api: Api) -> Any:
    return await post(
        api, "/oauth/token", 200, **CLI, grant_type="password", username="admin", password=PASSWORD, scope="all"
    )


# --- passwords and renewals


async def test_a_password_gets_tokens_and_a_refresh_token_gets_new_ones(anonymous: Api) -> None:
    first = await pair(anonymous)
    assert (first["token_type"], first["expires_in"], first["scope"]) == ("Bearer", 3600, "all")
    assert anonymous.headers["Cache-Control"] == "no-store"
    assert await holds(anonymous, first["access_token"])
    renewal = {**CLI, "grant_type": "refresh_token"}
    second = await post(anonymous, "/oauth/token", 200, **renewal, refresh_token=first["refresh_token"])
    third = await post(anonymous, "/oauth/token", 200, **renewal, refresh_token=second["refresh_token"])
    assert await holds(anonymous, third["access_token"])
    refusal = await post(anonymous, "/oauth/token", 400, **renewal, refresh_token=first["refresh_token"])
    assert refusal["error"] == "invalid_grant"
    assert not await holds(anonymous, third["access_token"])


async def test_a_refresh_token_is_renewed_only_by_the_client_it_was_given_to(anonymous: Api) -> None:
    given = await pair(anonymous)
    await anonymous("POST", "/login/refreshToken", 401, {"refreshToken": given["refresh_token"]})
    other = {"client_id": "mlhost-console", "grant_type": "refresh_token"}
    refusal = await post(anonymous, "/oauth/token", 400, **other, refresh_token=given["refresh_token"])
    assert refusal["error"] == "invalid_grant"
    await anonymous.login("admin")
    refresh, anonymous.token = anonymous.refresh, ""
    refusal = await post(anonymous, "/oauth/token", 400, **CLI, grant_type="refresh_token", refresh_token=refresh)
    assert refusal["error"] == "invalid_grant"
    assert await holds(anonymous, given["access_token"])


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": "password", "username": "admin", "password": PASSWORD}, "invalid_client"),
        ({"grant_type": "password", "username": "admin", "password": PASSWORD, "client_id": "x"}, "invalid_client"),
        (CLI | {"grant_type": "password", "username": "admin", "password": "wrong"}, "invalid_grant"),
        (CLI | {"grant_type": "password", "username": "nobody", "password": PASSWORD}, "invalid_grant"),
        (CLI | {"grant_type": "password", "username": "admin"}, "invalid_request"),
        (
            CLI | {"grant_type": "password", "username": "admin", "password": PASSWORD, "scope": "root"},
            "invalid_scope",
        ),
        (
            {"client_id": "mlhost-console", "grant_type": "password", "username": "admin", "password": PASSWORD},
            "unauthorized_client",
        ),
        (CLI | {"grant_type": "refresh_token", "refresh_token": "unheard of"}, "invalid_grant"),
        (CLI | {"grant_type": "refresh_token"}, "invalid_request"),
        (CLI | {"grant_type": "authorization_code", "code": "unheard of"}, "invalid_grant"),
        (DEVICE | {"device_code": "unheard of"}, "invalid_grant"),
        (DEVICE, "invalid_request"),
        (CLI | {"grant_type": '"\\\x00é'}, "unsupported_grant_type"),
    ],
)
async def test_a_request_for_tokens_is_refused_in_the_words_of_the_rfc(
    anonymous: Api, fields: dict[str, str], error: str
) -> None:
    assert (await post(anonymous, "/oauth/token", 400, **fields))["error"] == error


async def test_a_parameter_comes_once_and_in_a_form(anonymous: Api) -> None:
    for data, kind in (
        ("client_id=a&client_id=b", "application/x-www-form-urlencoded"),
        ("{}", "application/json"),
        (b"a=\xff", "application/x-www-form-urlencoded"),
        ("&".join(f"a{n}=1" for n in range(31)), "application/x-www-form-urlencoded"),
    ):
        async with anonymous.http.post("/oauth/token", data=data, headers={"Content-Type": kind}) as response:
            assert (response.status, (await response.json())["error"]) == (400, "invalid_request")


# --- codes


async def test_a_code_with_its_verifier_gets_tokens_once(anonymous: Api) -> None:
    found = await code(anonymous)
    given = await exchanged(anonymous, found)
    assert await holds(anonymous, given["access_token"])
    assert (await exchanged(anonymous, found, 400))["error"] == "invalid_grant"
    assert not await holds(anonymous, given["access_token"])  # one of the two who had the code is a thief


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": ""}, "invalid_request"),
        ({"code_verifier": CHALLENGE}, "invalid_grant"),
        ({"redirect_uri": "http://127.0.0.1:51235/callback"}, "invalid_grant"),
        ({"client_id": "mlhost-console"}, "invalid_grant"),
    ],
)
async def test_a_code_is_worth_nothing_to_anyone_else_and_gone_after_the_try(
    anonymous: Api, changes: dict[str, str], error: str
) -> None:
    found = await code(anonymous)
    assert (await exchanged(anonymous, found, 400, **changes))["error"] == error
    assert (await exchanged(anonymous, found, 400))["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "target",
    [
        "",
        "https://evil.example/callback",
        "http://localhost:51234/callback",
        "http://127.0.0.1/callback",
        "http://127.0.0.1:51234/other",
        "http://127.0.0.1:51234/callback?next=http://evil.example",
        "http://127.0.0.1:51234@evil.example/callback",
        "http://127.0.0.1:51234/callback#x",
        "http://127.0.0.1:65536/callback",
        "http://127.0.0.1:51234/callback\n",
        "https://127.0.0.1:51234/callback",
        '"><script>',
    ],
)
async def test_nobody_is_sent_anywhere_but_to_this_machine(anonymous: Api, target: str) -> None:
    asked = REQUEST | {"redirect_uri": target}
    page = await get(anonymous, "/oauth/authorize", asked, 400)
    assert "<form" not in page
    assert "<script>" not in page
    assert "Location" not in anonymous.headers
    fields = hidden(await get(anonymous, "/oauth/authorize", REQUEST))
    fields |= {"username": "admin", "password": PASSWORD, "decision": "allow", "redirect_uri": target}
    await post(anonymous, "/oauth/authorize", 400, **fields)
    assert "Location" not in anonymous.headers


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": "root"}, "invalid_scope"),
    ],
)
async def test_what_is_wrong_otherwise_is_told_to_the_program(
    anonymous: Api, changes: dict[str, str], error: str
) -> None:
    await get(anonymous, "/oauth/authorize", REQUEST | changes, 303)
    told = dict(parse_qsl(urlsplit(anonymous.headers["Location"]).query))
    assert (told["error"], told["state"]) == (error, REQUEST["state"])


@pytest.mark.parametrize("changes", [{"client_id": "x"}, {"response_type": "token"}, {"client_id": ""}])
async def test_an_unknown_program_or_answer_gets_no_form(anonymous: Api, changes: dict[str, str]) -> None:
    async with anonymous.http.get("/oauth/authorize", params=REQUEST | changes, allow_redirects=False) as response:
        assert response.status in (303, 400)
        assert "<form" not in await response.text()
        assert response.headers.get("Location", CALLBACK).startswith(CALLBACK)


async def test_the_form_is_ours_unframed_uncached_and_without_script(anonymous: Api) -> None:
    for path, query in (("/oauth/authorize", REQUEST), ("/oauth/device", {"user_code": '"><b>'})):
        page = await get(anonymous, path, query)
        headers = anonymous.headers
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert (headers["Cache-Control"], headers["X-Frame-Options"]) == ("no-store", "DENY")
        assert {"HttpOnly", "SameSite=Strict"} <= set(headers["Set-Cookie"].split("; "))
        assert "<b>" not in page
        assert "<t>" not in page
        assert "<script" not in page


async def test_a_form_that_another_site_filled_in_is_refused(anonymous: Api, url: str) -> None:
    fields = hidden(await get(anonymous, "/oauth/authorize", REQUEST))
    fields |= {"username": "admin", "password": PASSWORD, "decision": "allow"}
    await post(anonymous, "/oauth/authorize", 403, **(fields | {"form": "other"}))
    async with aiohttp.ClientSession(url) as other:  # a browser without the cookie
        await post(Api(other), "/oauth/authorize", 403, **fields)
    async with anonymous.http.post(
        "/oauth/authorize", data=fields, headers={"Sec-Fetch-Site": "cross-site"}, allow_redirects=False
    ) as response:
        assert response.status == 403


async def test_a_user_may_deny_and_a_wrong_password_asks_again(anonymous: Api) -> None:
    fields = hidden(await get(anonymous, "/oauth/authorize", REQUEST))
    wrong = fields | {"username": "admin", "password": "wrong", "decision": "allow"}
    page = await post(anonymous, "/oauth/authorize", 403, **wrong)
    assert "invalid credentials" in page
    assert "wrong" not in page
    await post(anonymous, "/oauth/authorize", 303, **(hidden(page) | {"decision": "deny"}))
    told = dict(parse_qsl(urlsplit(anonymous.headers["Location"]).query))
    assert told["error"] == "access_denied"


async def test_no_token_code_or_password_is_logged(
    anonymous: Api, admin: Api, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    found = await code(anonymous)
    given = await exchanged(anonymous, found)
    renewal = {**CLI, "grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
    renewed = await post(anonymous, "/oauth/token", 200, **renewal)
    begun = await post(anonymous, "/oauth/device_authorization", 200, **CLI)
    await post(admin, "/oauth/introspect", 200, token=renewed["access_token"])
    await post(anonymous, "/oauth/revoke", 200, **CLI, token=renewed["refresh_token"])
    told = "".join(audit.lines(host.folder.path)) + caplog.text + repr([record.__dict__ for record in caplog.records])
    for secret in (found, PASSWORD, VERIFIER, begun["device_code"], begun["user_code"], admin.token):
        assert secret not in told
    for tokens in (given, renewed):
        assert tokens["access_token"] not in told
        assert tokens["refresh_token"] not in told


async def test_guesses_wait_on_every_way_in(anonymous: Api) -> None:
    name = f"nobody-{new_id()}"
    password = {**CLI, "grant_type": "password", "username": name, "password": "wrong"}
    statuses = set()
    for _ in range(8):
        async with anonymous.http.post("/oauth/token", data=password) as response:
            statuses.add(response.status)
    assert statuses == {400, 429}
    fields = hidden(await get(anonymous, "/oauth/authorize", REQUEST))
    await post(anonymous, "/oauth/authorize", 429, **fields, username=name, password="wrong", decision="allow")
    await decide(anonymous, "BBBB-BBBB", 429, username=name, password="wrong")
    assert "Retry-After" in anonymous.headers


async def test_our_own_page_may_send_its_form_and_another_may_not(anonymous: Api, url: str) -> None:
    assert "no-referrer" not in str(await get(anonymous, "/oauth/device", {}) and anonymous.headers)
    fields = hidden(await get(anonymous, "/oauth/authorize", REQUEST)) | {"decision": "deny"}
    for origin, expect in ((url, 303), ("null", 403), ("http://evil.example", 403)):
        async with anonymous.http.post(
            "/oauth/authorize", data=fields, headers={"Origin": origin}, allow_redirects=False
        ) as response:
            assert response.status == expect


# --- devices


async def decide(api: Api, user_code: str, expect: int = 200, **changes: str) -> str:
    fields = hidden(await get(api, "/oauth/device", {"user_code": user_code}))
    fields |= {"user_code": user_code, "username": "admin", "password": PASSWORD, "decision": "allow"} | changes
    return str(await post(api, "/oauth/device", expect, **fields))


async def test_a_device_gets_tokens_once_its_user_has_typed_its_code(anonymous: Api, host: Host) -> None:
    begun = await post(anonymous, "/oauth/device_authorization", 200, **CLI)
    assert begun["verification_uri"].endswith("/oauth/device")
    polling = DEVICE | {"device_code": begun["device_code"]}
    assert (await post(anonymous, "/oauth/token", 400, **polling))["error"] == "authorization_pending"
    assert (await post(anonymous, "/oauth/token", 400, **polling))["error"] == "slow_down"
    typed = begun["user_code"].lower().replace("-", " ")
    await decide(anonymous, typed, 403, password="wrong")
    await decide(anonymous, "BBBB-BBBB", 400)
    assert "may act as admin" in await decide(anonymous, typed)
    await decide(anonymous, typed, 400)  # good for one decision
    given = await post(anonymous, "/oauth/token", 200, **polling)
    assert await holds(anonymous, given["access_token"])
    assert (await post(anonymous, "/oauth/token", 400, **polling))["error"] == "invalid_grant"


async def test_a_device_may_be_denied(anonymous: Api) -> None:
    begun = await post(anonymous, "/oauth/device_authorization", 200, **CLI)
    assert "denied" in await decide(anonymous, begun["user_code"], decision="deny")
    polling = DEVICE | {"device_code": begun["device_code"]}
    assert (await post(anonymous, "/oauth/token", 400, **polling))["error"] == "access_denied"


async def test_a_program_with_a_browser_begins_no_device(anonymous: Api) -> None:
    for client, error in (("mlhost-console", "unauthorized_client"), ("x", "invalid_client")):
        answer = await post(anonymous, "/oauth/device_authorization", 400, client_id=client)
        assert answer["error"] == error


async def test_what_waits_for_users_is_bounded(anonymous: Api, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlhost.auth.oauth.pending.MAX_PENDING", 0)
    answer = await post(anonymous, "/oauth/device_authorization", 503, **CLI)
    assert "try again" in answer["message"]


# --- revocation, introspection, metadata


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_either_token_of_a_pair_ends_both(anonymous: Api, kind: str) -> None:
    given = await pair(anonymous)
    await post(anonymous, "/oauth/revoke", 200, **CLI, token=given[kind], token_type_hint=kind)
    assert not await holds(anonymous, given["access_token"])
    await post(anonymous, "/oauth/revoke", 200, **CLI, token=given[kind])  # ended already
    await post(anonymous, "/oauth/revoke", 200, **CLI, token="unheard of")
    await post(anonymous, "/oauth/revoke", 200, **CLI, token="a.b.c")


async def test_a_personal_token_can_be_ended_by_whoever_finds_it(anonymous: Api, admin: Api) -> None:
    token = (await admin("POST", "/tokens", 201, {"name": f"lost {new_id()}", "scope": "all"}))["token"]
    assert await holds(anonymous, token)
    await post(anonymous, "/oauth/revoke", 200, **CLI, token=token)
    assert not await holds(anonymous, token)


async def test_revoking_names_its_client_and_a_token(anonymous: Api) -> None:
    assert (await post(anonymous, "/oauth/revoke", 400, token="x"))["error"] == "invalid_client"
    assert (await post(anonymous, "/oauth/revoke", 400, **CLI))["error"] == "invalid_request"


async def test_tokens_are_told_to_their_owner_and_to_owners(anonymous: Api, carol: Api, admin: Api) -> None:
    given = await pair(anonymous)
    personal = (await admin("POST", "/tokens", 201, {"name": f"told {new_id()}", "scope": "publish"}))["token"]
    for token, more in (
        (given["access_token"], {"client_id": "mlhost-cli", "iss": "mlhost", "scope": "all"}),
        (given["refresh_token"], {"client_id": "mlhost-cli", "scope": "all"}),
        (personal, {"scope": "publish"}),
    ):
        told = await post(admin, "/oauth/introspect", 200, token=token)
        assert told.items() >= ({"active": True, "username": "admin", "sub": "admin"} | more).items()
        assert await post(carol, "/oauth/introspect", 200, token=token) == {"active": False}
    assert (await post(admin, "/oauth/introspect", 200, token=carol.token))["username"] == "carol"
    assert (await post(carol, "/oauth/introspect", 200, token=carol.refresh))["username"] == "carol"
    await post(anonymous, "/oauth/revoke", 200, **CLI, token=given["access_token"])
    for token in (given["access_token"], given["refresh_token"], "x", "a.b.c", "mlh_x"):
        assert await post(admin, "/oauth/introspect", 200, token=token) == {"active": False}


async def test_the_metadata_names_endpoints_that_are_there(anonymous: Api, url: str) -> None:
    told = await anonymous("GET", "/.well-known/oauth-authorization-server")
    assert told["issuer"] == url
    for name, value in told.items():
        if name.endswith("_endpoint"):
            path = URL(value).path
            async with anonymous.http.post(path) as response:
                assert response.status in (400, 401), name
    secure = {name: URL(told[name]).with_scheme("https") for name in told if isinstance(told[name], str)}
    AuthorizationServerMetadata(told | {name: str(address) for name, address in secure.items()}).validate()


async def test_an_ended_role_ends_what_programs_hold(anonymous: Api, host: Host) -> None:
    name = f"dora-{new_id()}"
    await host.users.add(name, PASSWORD, Role.CONTRIBUTOR)
    found = await code(anonymous, username=name)
    given = await exchanged(anonymous, found)
    assert await holds(anonymous, given["access_token"])
    await host.users.set_role(name, Role.READER)
    assert not await holds(anonymous, given["access_token"])
