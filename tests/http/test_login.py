"""Logging in, renewing, logging out, and what a token that does not hold gets."""

import asyncio
import contextlib
import json
import time
from urllib.parse import quote

import pytest

from mlhost.auth.principal import Principal, Role
from mlhost.errors import Unauthenticated
from mlhost.host import Host
from tests.parts import PASSWORD, Api


async def test_a_login_answers_a_pair_of_tokens(anonymous: Api) -> None:
    pair = await anonymous("POST", "/login", json={"username": "admin", "password": PASSWORD})
    assert (pair["token_type"], pair["expires_in"]) == ("Bearer", 3600)
    assert isinstance(pair["expires_on"], str)  # as the documents have it; their example shows a number
    assert abs(int(pair["expires_on"]) - time.time() - 3600) < 10
    assert list(pair)[-1] != "access_token"
    assert pair["refresh_token"]


@pytest.mark.parametrize(("name", "password"), [("admin", "wrong"), ("nobody", PASSWORD), ("admin", ""), ("", "")])
async def test_wrong_credentials_are_refused_without_saying_which_part(
    anonymous: Api, name: str, password: str
) -> None:
    answer = await anonymous("POST", "/login", 401, {"username": name, "password": password})
    assert answer["message"] == "invalid credentials"
    assert anonymous.headers["WWW-Authenticate"] == "Bearer"


async def test_a_login_without_its_fields_is_malformed(anonymous: Api) -> None:
    assert "password" in (await anonymous("POST", "/login", 400, {"username": "admin"}))["message"]
    assert "username" in (await anonymous("POST", "/login", 400, {"password": "x"}))["message"]


async def test_renewing_ends_both_tokens_of_the_old_pair(anonymous: Api) -> None:
    await anonymous.login("admin")
    await anonymous("GET", "/services")
    old_access, old_refresh = anonymous.token, anonymous.refresh
    pair = await anonymous("POST", "/login/refreshToken", json={"refreshToken": old_refresh})
    await anonymous("GET", "/services", 401)
    anonymous.token = pair["access_token"]
    await anonymous("GET", "/services")
    assert old_access != pair["access_token"]
    await anonymous("POST", "/login/refreshToken", json={"refreshToken": pair["refresh_token"]})
    await anonymous("POST", "/login/refreshToken", 401, {"refreshToken": old_refresh})


async def test_renewals_at_once_get_the_same_pair(anonymous: Api) -> None:
    await anonymous.login("admin")

    async def renew() -> str:
        async with anonymous.http.post("/login/refreshToken", json={"refreshToken": anonymous.refresh}) as answer:
            assert answer.status == 200
            return await answer.text()

    [pair] = set(await asyncio.gather(renew(), renew(), renew()))
    anonymous.token = json.loads(pair)["access_token"]
    await anonymous("GET", "/services")


@pytest.mark.parametrize("form", ["query", "unencoded query", "path"])
async def test_revoking_ends_both_tokens(anonymous: Api, form: str) -> None:
    await anonymous.login("admin")
    if form == "query":
        assert await anonymous("DELETE", "/login/refreshToken", params={"refreshToken": anonymous.refresh}) == {}
    elif form == "unencoded query":
        await anonymous("DELETE", f"/login/refreshToken?refreshToken={anonymous.refresh}")
    else:
        await anonymous("DELETE", f"/login/refreshToken/{quote(anonymous.refresh, safe='')}")
    await anonymous("GET", "/services", 401)
    await anonymous("POST", "/login/refreshToken", 401, {"refreshToken": anonymous.refresh})
    await anonymous("DELETE", "/login/refreshToken", 401, params={"refreshToken": anonymous.refresh})
    await anonymous("DELETE", "/login/refreshToken", 400)
    await anonymous("DELETE", "/login/refreshToken/nobody%0As", 401)


async def test_a_token_revoked_while_it_is_checked_is_not_remembered(host: Host) -> None:
    who = Principal("admin", Role.OWNER)

    async def check(token: str) -> None:
        with contextlib.suppress(Unauthenticated):
            await host.tokens.check(token)

    for _ in range(50):
        pair = await host.tokens.issue(who)
        await asyncio.gather(check(pair.access), host.tokens.revoke(pair.refresh), check(pair.access))
        assert host.tokens.remembered(pair.access) is None


async def test_an_expired_refresh_token_does_not_renew(anonymous: Api, host: Host) -> None:
    await anonymous.login("admin")
    async with host.store.write() as db:
        await db.execute("update grants set refreshed_at = refreshed_at - 15 * 86400")
    await anonymous("POST", "/login/refreshToken", 401, {"refreshToken": anonymous.refresh})


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "Bearer a.b.c", "Bearer " + "x" * 5000])
async def test_a_request_without_a_sound_token_is_refused_in_words(anonymous: Api, header: str) -> None:
    answer = await anonymous("GET", "/services", 401, headers={"Authorization": header})
    assert answer["message"]
    assert answer["code"] == 401


async def test_the_scheme_of_the_header_may_be_spelled_in_any_case(anonymous: Api) -> None:
    await anonymous.login("admin")
    await anonymous("GET", "/services", headers={"Authorization": f"bearer {anonymous.token}"})


async def test_a_changed_password_or_role_ends_the_users_tokens(anonymous: Api, host: Host) -> None:
    await host.users.add("dora", PASSWORD, Role.READER)
    await anonymous.login("dora")
    await host.users.set_role("dora", Role.CONTRIBUTOR)
    await anonymous("GET", "/services", 401)
    await anonymous.login("dora")
    await host.users.set_password("dora", "another password")
    await anonymous("GET", "/services", 401)
    await anonymous("POST", "/login", 401, {"username": "dora", "password": PASSWORD})
    await anonymous.login("dora", "another password")
