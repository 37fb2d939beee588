"""Personal access tokens: shown once, kept hashed, worth what their owner may do."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from click.testing import CliRunner

from mlhost.auth.principal import Role
from mlhost.cli import main
from mlhost.host import Host
from mlhost.names import new_id
from tests.parts import PASSWORD, Api


@pytest.fixture
async def dora(anonymous: Api, host: Host) -> AsyncIterator[Api]:
    """A new Contributor, signed in."""
    name = f"dora-{new_id()}"
    await host.users.add(name, PASSWORD, Role.CONTRIBUTOR)
    yield await anonymous.login(name)


async def made(api: Api, scope: str, name: str = "ci", expect: int = 201, **more: int) -> dict[str, str]:
    answer: dict[str, str] = await api("POST", "/tokens", expect, {"name": name, "scope": scope} | more)
    return answer


def bearing(api: Api, token: str) -> Api:
    return Api(api.http, token)


async def user_of(api: Api) -> str:
    """Who dora is: she publishes something and looks who did."""
    name = f"p-{new_id()}"
    await api.publish(name, "1", "y = 1")
    [service] = await api("GET", f"/services/{name}/1")
    await api("DELETE", f"/services/{name}/1")
    return str(service["versionPublishedBy"])


async def test_a_token_is_shown_once_listed_without_its_secret_and_kept_hashed(dora: Api, host: Host) -> None:
    token = await made(dora, "all")
    assert token["token"].startswith("mlh_")
    assert dora.headers["Cache-Control"] == "no-store"
    assert dora.headers["Location"] == f"/tokens/{token['id']}"
    assert await dora("GET", "/tokens") == [{key: value for key, value in token.items() if key != "token"}]
    rows = [repr(tuple(row)) for row in await host.store.read("select * from personal_tokens")]
    assert not any(token["token"] in row for row in rows)
    assert await user_of(bearing(dora, token["token"])) == await user_of(dora)


async def test_a_revoked_token_ends_at_once(dora: Api) -> None:
    token = await made(dora, "all")
    script = bearing(dora, token["token"])
    await script("GET", "/services")
    await dora("DELETE", f"/tokens/{token['id']}")
    await script("GET", "/services", 401)
    await dora("DELETE", f"/tokens/{token['id']}", 404)


async def test_an_expired_token_does_not_hold_and_makes_room_for_its_name(dora: Api, host: Host) -> None:
    script = bearing(dora, (await made(dora, "all"))["token"])
    async with host.store.write() as db:
        await db.execute("update personal_tokens set expires_at = 1.0 where name = 'ci'")
    await script("GET", "/services", 401)
    assert "already" not in str(await made(dora, "all"))


async def test_a_demotion_of_the_owner_counts_for_tokens_at_once(dora: Api, host: Host) -> None:
    script = bearing(dora, (await made(dora, "all"))["token"])
    name = await user_of(script)
    await host.users.set_role(name, Role.READER)
    await script.publish("x", "1", "y = 1", 403)
    await script("GET", "/services")
    await host.users.set_role(name, Role.NONE)
    await script("GET", "/services", 403)


async def test_a_new_password_keeps_tokens_and_revoking_the_user_ends_them(dora: Api, host: Host) -> None:
    script = bearing(dora, (await made(dora, "all"))["token"])
    name = await user_of(script)
    await host.users.set_password(name, "another password")
    await script("GET", "/services")
    await host.users.revoke(name)
    await script("GET", "/services", 401)


async def test_a_token_for_one_service_calls_that_one_only(dora: Api) -> None:
    names = [f"p-{new_id()}" for _ in range(2)]
    for name in names:
        for version in ("1", "2"):
            await dora.publish(name, version, "y = 1")
    one = bearing(dora, (await made(dora, f"consume:{names[0]}/1", "one"))["token"])
    both = bearing(dora, (await made(dora, f"consume:{names[0]}", "both"))["token"])
    for api, open_paths in ((one, [f"{names[0]}/1"]), (both, [f"{names[0]}/1", f"{names[0]}/2"])):
        for name in names:
            for version in ("1", "2"):
                path = f"{name}/{version}"
                await api("POST", f"/api/{path}", 200 if path in open_paths else 403, {})
                await api("GET", f"/api/{path}/swagger.json", 200 if path in open_paths else 403)
                await api("GET", f"/services/{path}", 403)  # it would show code to the one who published it
    started = await one("POST", f"/api/{names[0]}/1/batch", 202, [{}])
    await one("GET", f"/api/{names[0]}/1/batch/{started['batchExecutionId']}")
    for name in names:
        for version in ("1", "2"):
            await dora("DELETE", f"/services/{name}/{version}")


async def test_a_token_makes_no_other_and_ends_none(dora: Api) -> None:
    token = await made(dora, "all")
    script = bearing(dora, token["token"])
    await made(script, "consume:x", "more", 403)
    await script("GET", "/tokens", 403)
    await script("DELETE", f"/tokens/{token['id']}", 403)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scope": "everything"}, "scope"),
        ({"scope": "consume"}, "scope"),
        ({"scope": "consume:"}, "scope"),
        ({"scope": "consume:../x"}, "name"),
        ({"scope": "consume:x/"}, "version"),
        ({"scope": "publish:x"}, "scope"),
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"expiresInDays": 0}, "expiresInDays"),
        ({"expiresInDays": 367}, "expiresInDays"),
    ],
)
async def test_what_a_token_cannot_be_is_said_by_field(dora: Api, fields: dict[str, str], field: str) -> None:
    answer = await dora("POST", "/tokens", 400, {"name": "ci", "scope": "all"} | fields)
    assert answer["fields"] == field


async def test_names_are_taken_once_and_tokens_are_not_without_end(dora: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await made(dora, "all")
    await made(dora, "all", expect=409)
    monkeypatch.setattr("mlhost.auth.personal.MAX_PER_USER", 2)
    await made(dora, "all", "second")
    await made(dora, "all", "third", 409)


async def test_the_command_makes_lists_and_revokes_on_a_running_server(url: str, dora: Api) -> None:
    login = ["--url", url, "--user", await user_of(dora), "--password", PASSWORD]

    async def mlhost(*arguments: str, expect: int = 0) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, main, ["token", *arguments, *login])
        assert result.exit_code == expect, result.output
        return str(result.output)

    token = (await mlhost("create", "ci", "--scope", "publish", "--days", "7")).strip()
    await bearing(dora, token)("GET", "/services")
    assert "\tci\tpublish\t" in await mlhost("list")
    assert "already" in await mlhost("create", "ci", "--scope", "all", expect=1)
    await mlhost("revoke", "ci")
    await bearing(dora, token)("GET", "/services", 401)
    assert "no personal access token" in await mlhost("revoke", "ci", expect=1)
    login[-1] = "wrong"
    assert "invalid credentials" in await mlhost("list", expect=4)
    login[1] = "http://127.0.0.1:1"
    assert "does not answer" in await mlhost("list", expect=5)
