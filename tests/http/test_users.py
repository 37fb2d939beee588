"""Users of a running server, over HTTP and by the command."""

import asyncio

import pytest
from click.testing import CliRunner

from mlhost.cli import main
from mlhost.names import new_id
from tests.parts import PASSWORD, Api


@pytest.fixture
def name() -> str:
    return f"dora {new_id()}/ä"  # in an address it has to be quoted


async def test_an_owner_adds_changes_and_lists_users(admin: Api, anonymous: Api, name: str) -> None:
    path = f"/users/{name.replace('/', '%2F')}"
    made = await admin("POST", "/users", 201, {"name": name, "password": PASSWORD})
    assert (made["role"], made["groups"]) == ("Default", [])
    await anonymous.login(name)
    await anonymous("GET", "/services", 403)  # there are Readers, so nobody is let in by default
    changed = await admin("PATCH", path, json={"role": "reader", "groups": ["staff"]})
    assert (changed["role"], changed["groups"]) == ("Reader", ["staff"])
    await anonymous("GET", "/services", 401)
    await anonymous.login(name)
    await anonymous("GET", "/services")
    await admin("PATCH", path, json={"password": "another password"})
    await anonymous("GET", "/services", 401)
    await anonymous.login(name, "another password")
    await admin("DELETE", f"{path}/tokens")
    await anonymous("GET", "/services", 401)
    assert changed in await admin("GET", "/users")


async def test_what_cannot_be_done_is_refused_whole(admin: Api, name: str) -> None:
    await admin("POST", "/users", 201, {"name": name, "password": PASSWORD, "role": "Reader"})
    await admin("POST", "/users", 409, {"name": name, "password": PASSWORD})
    await admin("POST", "/users", 400, {"name": "x", "password": "short"})
    await admin("POST", "/users", 400, {"name": "x", "password": PASSWORD, "role": "King"})
    await admin("PATCH", "/users/nobody", 404, {"role": "Owner"})
    await admin("PATCH", "/users/admin", 409, {"role": "Reader"})  # the last Owner
    await admin("DELETE", "/users/nobody/tokens", 404)
    await admin("PATCH", f"/users/{name.replace('/', '%2F')}", 400, {"password": "another one", "role": "King"})
    async with admin.http.post("/login", json={"username": name, "password": PASSWORD}) as response:
        assert response.status == 200


async def test_the_command_looks_after_the_users_of_a_running_server(
    url: str, anonymous: Api, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLHOST_PASSWORD", PASSWORD)

    async def mlhost(*arguments: str, expect: int = 0) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, main, ["user", *arguments, "--url", url])
        assert result.exit_code == expect, result.output
        return str(result.output)

    await mlhost("add", name, "--password", PASSWORD, "--role", "reader")
    await anonymous.login(name)
    await mlhost("groups", name, "staff")
    assert f"{name}\tReader\tstaff\n" in await mlhost("list")
    await mlhost("role", name, "contributor")
    await mlhost("passwd", name, "--password", "another password")
    await anonymous.login(name, "another password")
    await mlhost("revoke", name)
    await anonymous("GET", "/services", 401)
    assert "no user 'nobody'" in await mlhost("revoke", "nobody", expect=1)
    assert "does not allow" in await mlhost("list", "--as", "carol", expect=4)
