"""Users of a directory at the server: signing in, roles by group, what a change in the directory does, and admin."""

import asyncio
import logging
import re
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mlhost import audit
from mlhost.auth.principal import Role
from mlhost.config import load
from mlhost.doctor import examine
from mlhost.errors import Invalid, Unauthenticated
from mlhost.host import ADMIN, Host, ensure_admin, open_host
from mlhost.http.server import serve
from mlhost.store.folder import DataFolder
from tests.documents import blocks
from tests.parts import PASSWORD, ROOT, Api, cheap_passwords, config_for_tests, host_of_its_own
from tests.slapd import Slapd, free_ports


def guide_settings(directory: Slapd, folder: Path) -> dict[str, dict[str, Any]]:
    """The guide's own settings, with the address and the files of this directory."""
    [text] = (
        each.text for each in blocks(ROOT / "docs" / "how-to" / "ldap.md") if "ldaps://ldap.example.org" in each.text
    )
    for written, here in (
        ("ldaps://ldap.example.org", f"ldaps://127.0.0.1:{directory.tls_port}"),
        ("/etc/mlhost/directory-ca.pem", str(directory.ca_file)),
        ("/etc/mlhost/directory-password", str(directory.password_file)),
    ):
        assert written in text
        text = text.replace(written, here)
    file = folder / "mlhost.toml"
    file.write_text(text, "utf-8")
    config = load(file, {}, {}).config
    return {section: asdict(getattr(config, section)) for section in tomllib.loads(text)}


@pytest.fixture(scope="module")
async def host(directory: Slapd, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    """A server with the guide's settings and one user of its own."""
    folder = tmp_path_factory.mktemp("ldap")
    async with host_of_its_own(folder / "data", **guide_settings(directory, folder)) as host:
        await host.users.add("carol", "carol's own password", Role.READER)
        yield host


@pytest.fixture(scope="module")
async def url(host: Host) -> AsyncIterator[str]:
    async with serve(host) as url:
        yield url


@asynccontextmanager
async def as_user(url: str, name: str, password: str = PASSWORD) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(url) as http:
        yield await Api(http).login(name, password)


@asynccontextmanager
async def reopened(folder: Path, **sections: dict[str, Any]) -> AsyncIterator[Host]:
    """A host of its own to which nobody gives an admin."""
    config = config_for_tests(runtime={"preload": ()}, **sections)
    with DataFolder.open(folder) as data:
        async with open_host(config, data, cheap_passwords()) as host:
            yield host


async def granted(api: Api, expect: int = 200, **fields: str) -> Any:
    """What /oauth/token answers to the command's program."""
    form = {"client_id": "mlhost-cli", **fields}
    return await api("POST", "/oauth/token", expect, data=form)


@pytest.mark.parametrize(
    ("name", "role"),
    [("amy", "Owner"), ("bob", "Contributor"), ("cid", "Reader"), ("dan", "None")],
)
async def test_the_groups_of_the_directory_give_the_role_and_the_highest_wins(
    url: str, host: Host, name: str, role: str
) -> None:
    async with as_user(url, name) as api:
        assert (await host.tokens.check(api.token)).role.title == role
        await api("GET", "/services", 403 if role == "None" else 200)
        await api("GET", "/users", 200 if role == "Owner" else 403)


async def test_a_user_of_the_directory_is_a_user_like_others(url: str) -> None:
    async with as_user(url, "BOB") as bob, as_user(url, "amy") as amy:
        await bob.publish("Mine", "v1.0", "x = 1")
        made = await bob("POST", "/tokens", 201, {"name": "ci", "scope": "publish"})
        bob.token = made["token"]
        await bob.publish("Mine", "v2.0", "x = 2")
        [service, _] = await bob("GET", "/services/Mine")
        assert service["versionPublishedBy"] == "bob"
        [known] = [user for user in await amy("GET", "/users") if user["name"] == "bob"]
        assert (known["role"], known["groups"]) == ("Default", ["data-science", "staff"])


@pytest.mark.parametrize("password", ["wrong", "", " "])
async def test_a_wrong_or_empty_password_is_refused_by_either_door(anonymous: Api, password: str) -> None:
    answer = await anonymous("POST", "/login", 401, {"username": "amy", "password": password})
    assert answer["message"] == "invalid credentials"
    await granted(anonymous, 400, grant_type="password", username="amy", password=password)
    await anonymous.login("amy")


async def test_the_password_grant_of_oauth_asks_the_directory_and_is_held_up_alike(url: str, anonymous: Api) -> None:
    pair = await granted(anonymous, grant_type="password", username="cid", password=PASSWORD)
    renewed = await granted(anonymous, grant_type="refresh_token", refresh_token=pair["refresh_token"])
    anonymous.token = renewed["access_token"]
    await anonymous("GET", "/services")
    anonymous.token = ""
    for spelling in ("cid", "CID", "Cid", " cid", "ciD"):
        await granted(anonymous, 400, grant_type="password", username=spelling, password="wrong")
    await granted(anonymous, 429, grant_type="password", username="cid", password=PASSWORD)
    await anonymous("POST", "/login", 429, {"username": "cid", "password": PASSWORD})


async def test_a_user_of_this_server_is_never_one_of_the_directory(
    url: str, host: Host, anonymous: Api, caplog: pytest.LogCaptureFixture
) -> None:
    await anonymous("POST", "/login", 401, {"username": "carol", "password": PASSWORD})  # the directory's carol's
    await anonymous("POST", "/login", 401, {"username": "CAROL", "password": PASSWORD})  # which finds that one too
    assert "has a user carol as this server has" in caplog.text
    async with as_user(url, "carol", "carol's own password") as carol:
        assert (await host.tokens.check(carol.token)).role is Role.READER


async def test_who_is_given_a_password_here_is_one_of_this_server_from_then_on(
    url: str, host: Host, directory: Slapd, anonymous: Api
) -> None:
    await asyncio.to_thread(directory.add, "eva", "staff")
    async with as_user(url, "eva"):
        await host.users.set_password("eva", "eva's own password")
    await anonymous("POST", "/login", 401, {"username": "eva", "password": PASSWORD})
    await anonymous.login("eva", "eva's own password")


async def test_a_demotion_in_the_directory_counts_when_its_user_renews_or_signs_in(
    url: str, host: Host, directory: Slapd
) -> None:
    await asyncio.to_thread(directory.add, "fay", "data-science")
    async with as_user(url, "fay") as fay, as_user(url, "fay") as other:
        await fay.publish("Fays", "v1.0", "x = 1")
        await asyncio.to_thread(directory.move, "fay", "data-science", "staff")
        pair = await fay("POST", "/login/refreshToken", json={"refreshToken": fay.refresh})
        for api, token in ((fay, pair["access_token"]), (other, other.token)):
            api.token = token
            await api("DELETE", "/services/Fays/v1.0", 403)
        await asyncio.to_thread(directory.move, "fay", "staff", "mlhost-owners")
        async with as_user(url, "fay"):
            await fay("DELETE", "/services/Fays/v1.0")


async def test_who_is_gone_from_the_directory_loses_every_token_when_one_is_renewed(
    url: str, host: Host, directory: Slapd, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(directory.add, "gus", "staff")
    async with as_user(url, "gus") as gus, as_user(url, "gus") as other:
        personal = (await gus("POST", "/tokens", 201, {"name": "ci", "scope": "all"}))["token"]
        await asyncio.to_thread(directory.remove, "gus")
        await gus("POST", "/login/refreshToken", 401, {"refreshToken": gus.refresh})
        for token in (gus.token, other.token, personal):
            gus.token = token
            await gus("GET", "/services", 401)
        await granted(other, 400, grant_type="refresh_token", refresh_token=other.refresh)
    assert "gus is no longer in the directory" in caplog.text
    [told] = [line for line in audit.lines(host.folder.path) if "gone from the directory" in line]
    assert audit.is_about(told, "gus")


async def test_from_time_to_time_all_who_hold_tokens_are_looked_up(
    host: Host, directory: Slapd, tmp_path: Path
) -> None:
    for name in ("hal", "ida"):
        await asyncio.to_thread(directory.add, name, "data-science")
        await host.personal.create(await host.doors.sign_in(name, PASSWORD), "ci", "all", 1)
    await asyncio.to_thread(directory.remove, "hal")
    await asyncio.to_thread(directory.move, "ida", "data-science", "staff")
    assert {"hal", "ida"} <= set(await host.users.vouched())
    await host.doors.look_up_all()
    assert "hal" not in await host.users.vouched()
    assert (await host.users.get("ida")).groups == ("staff",)
    ldap = asdict(directory.settings(look_up_seconds=0.05))
    async with reopened(tmp_path, ldap=ldap) as other:
        await other.tokens.issue(await other.doors.sign_in("ida", PASSWORD))
        await asyncio.to_thread(directory.remove, "ida")
        async with asyncio.timeout(5):
            while await other.users.vouched():
                await asyncio.sleep(0.02)


# --- admin ---------------------------------------------------------------------------------------------------------


async def test_the_local_admin_does_not_sign_in_nor_one_of_the_directory_in_its_name(
    host: Host, anonymous: Api, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await ensure_admin(host, PASSWORD)).is_shut_out
    for name in ("admin", "ADMIN"):  # the directory has one by that name
        await anonymous("POST", "/login", 401, {"username": name, "password": PASSWORD})
    assert "a name that is this server's own" in caplog.text
    assert ADMIN not in [user.name for user in await host.users.list()]


async def test_admin_and_its_tokens_are_let_in_without_a_directory_or_where_it_is_kept(
    directory: Slapd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ldap = asdict(directory.settings())
    async with host_of_its_own(tmp_path) as host:
        who = await host.doors.sign_in(ADMIN, PASSWORD)
        first, second = await host.tokens.issue(who), await host.tokens.issue(who)
        _, personal = await host.personal.create(who, "ci", "all", 1)
    async with reopened(tmp_path, ldap=ldap, auth={"keep_admin": True}) as host:
        assert (await host.doors.sign_in(ADMIN, PASSWORD)).role is Role.OWNER
        assert (await host.doors.sign_in("bob", PASSWORD)).name == "bob"
        assert (await host.tokens.check(first.access)).name == ADMIN
    assert "is not let in" not in caplog.text
    async with reopened(tmp_path, ldap=ldap) as host, serve(host) as url, aiohttp.ClientSession(url) as http:
        assert "the local admin is not let in, nor are its tokens" in caplog.text
        for token in (first.access, personal):
            await Api(http, token)("GET", "/services", 401)
        await Api(http)("POST", "/login/refreshToken", 401, {"refreshToken": first.refresh})
        answer = await Api(http)("POST", "/login", 401, {"username": ADMIN, "password": PASSWORD})
        assert "auth.keep_admin" in answer["message"]
        assert [await host.tokens.describe(token) for token in (first.access, first.refresh)] == [None, None]
    async with reopened(tmp_path) as host:
        assert (await host.tokens.check(first.access)).name == (await host.personal.check(personal)).name == ADMIN
        await host.doors.renew(second.refresh)


async def test_users_of_a_directory_are_not_let_in_while_there_is_none(directory: Slapd, tmp_path: Path) -> None:
    ldap = asdict(directory.settings())
    async with reopened(tmp_path, ldap=ldap) as host:
        pair = await host.tokens.issue(await host.doors.sign_in("bob", PASSWORD))
    async with reopened(tmp_path) as host:
        with pytest.raises(Unauthenticated, match="bob is not let in any more"):
            await host.tokens.check(pair.access)
        with pytest.raises(Unauthenticated):
            await host.doors.renew(pair.refresh)
    async with reopened(tmp_path, ldap=ldap) as host:
        assert (await host.tokens.check(pair.access)).name == "bob"


async def test_the_doctor_asks_the_directory_and_tells_of_admin(directory: Slapd, tmp_path: Path) -> None:
    async def lines(**sections: dict[str, Any]) -> str:
        config = config_for_tests(**sections)
        return "\n".join(finding.line() for finding in await examine(config, tmp_path / "none"))

    assert "directory" not in await lines()
    told = await lines(ldap=asdict(directory.settings()))
    assert re.search(r"ok +directory: ldaps://127\.0\.0\.1:\d+ answers", told)
    assert re.search(r"ok +admin: does not sign in", told)
    assert "auth.owner_groups: empty" in told
    [port] = free_ports(1)
    told = await lines(ldap=asdict(directory.settings(url=f"ldaps://127.0.0.1:{port}")), auth={"keep_admin": True})
    assert re.search(r"PROBLEM +directory: The directory .* cannot be reached", told)
    assert "signs in too" in told


# --- what keeps it from working --------------------------------------------------------------------------------------


async def test_a_directory_that_is_down_is_503_and_costs_nobody_anything(
    directory: Slapd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    [port] = free_ports(1)
    ldap = asdict(directory.settings(url=f"ldaps://127.0.0.1:{port}"))
    async with host_of_its_own(tmp_path / "data", ldap=ldap) as host, serve(host) as url:
        who = await host.users.admit("amy", [])
        pair = await host.tokens.issue(who)
        async with aiohttp.ClientSession(url) as http:
            api = Api(http)
            for _ in range(8):  # more than are free
                answer = await api("POST", "/login", 503, {"username": "amy", "password": PASSWORD})
            assert f"The directory ldaps://127.0.0.1:{port} cannot be reached" in answer["message"]
            await granted(api, 503, grant_type="password", username="amy", password=PASSWORD)
            await api("POST", "/login/refreshToken", 503, {"refreshToken": pair.refresh})
            await Api(http, pair.access)("GET", "/services")
        assert (await host.tokens.renew(pair.refresh)).access  # it was not used up
    assert PASSWORD not in caplog.text


async def test_a_missing_package_stops_the_start_by_name(
    directory: Slapd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ldap3", None)
    monkeypatch.delitem(sys.modules, "mlhost.auth.ldap", raising=False)
    with pytest.raises(Invalid, match=r"pip install 'mlhost\[ldap\]'"):
        async with host_of_its_own(tmp_path / "data", ldap=asdict(directory.settings())):
            pytest.fail("it must not start")
