"""The console's pages about users, their tokens, and what they did."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mlhost import audit
from mlhost.auth.principal import Role
from mlhost.host import Host
from mlhost.names import new_id
from tests.parts import PASSWORD, Api
from tests.web import HOSTILE, Browser

SCRIPT = {"HX-Request": "true"}


@pytest.fixture
async def owners(url: str) -> AsyncIterator[Browser]:
    async with Browser.open(url) as browser:
        await browser.sign_in("admin")
        yield browser


@pytest.fixture
async def dora(host: Host) -> str:
    """A Contributor of whom a test may change anything."""
    name = f"dora-{new_id()}"
    await host.users.add(name, PASSWORD, Role.CONTRIBUTOR)
    return name


async def change(owners: Browser, path: str, expect: int = 303, **fields: str) -> str:
    word = (await owners.get("/console/users")).fields["word"]
    page = await owners.post(f"/console/users{path}", expect, word=word, **fields)
    return page.location if expect == 303 else page.text


async def test_owners_add_a_user_and_see_the_role_they_have_and_why(owners: Browser, url: str) -> None:
    name = f"{new_id()}/é {HOSTILE[:8]}"
    where = await change(owners, "", name=name, password=PASSWORD, role="Reader")
    page = await owners.get(where)
    assert "Role in effect Reader, given by name" in page.text
    assert name in page.text
    assert HOSTILE[:8] not in page.html
    assert where in (await owners.get("/console/users")).links
    assert "already" in await change(owners, "", 409, name=name, password=PASSWORD, role="Reader")
    assert "at least 8" in await change(owners, "", 400, name="x", password="short", role="Reader")
    assert "is not a role" in await change(owners, "", 400, name="x", password=PASSWORD, role="King")
    async with Browser.open(url) as theirs:
        await theirs.sign_in(name)


async def test_owners_change_role_groups_and_password_and_that_ends_logins(
    owners: Browser, dora: str, url: str
) -> None:
    async with Browser.open(url) as hers:
        await hers.sign_in(dora)
        await change(owners, f"/{dora}", role="Reader")
        await hers.get("/console", 401)
        page = await owners.get(f"/console/users/{dora}")
        assert page.named("option", selected="")
        assert "Reader, given by name" in page.text
        await change(owners, f"/{dora}", groups="staff\r\n\r\n some more \r\n")
        assert (await owners.get(f"/console/users/{dora}")).fields["groups"] == "staff\nsome more"
        await change(owners, f"/{dora}", password="another password")
        page = await hers.get("/console/sign-in")
        await hers.post("/console/sign-in", 401, **page.fields | {"username": dora, "password": PASSWORD})
    assert "There is no user" in await change(owners, "/nobody", 404, role="Reader")
    assert "last Owner" in await change(owners, "/admin", 409, role="Reader")


async def test_owners_end_every_login_and_token_of_a_user(owners: Browser, dora: str, url: str, anonymous: Api) -> None:
    await anonymous.login(dora)
    await anonymous("POST", "/tokens", 201, {"name": "ci", "scope": "all"})
    await change(owners, f"/{dora}/revoke")
    await anonymous("GET", "/services", 401)
    await anonymous.login(dora)
    assert await anonymous("GET", "/tokens") == []


async def test_others_see_neither_users_nor_the_audit_log(browser: Browser) -> None:
    links = (await browser.get("/console")).links
    assert not {"/console/users", "/console/audit"} & links
    assert "/console/tokens" in links
    for path in ("/console/users", "/console/users/carol", "/console/audit"):
        await browser.get(path, 403)


async def test_a_token_is_shown_once_and_works_until_it_is_revoked(browser: Browser, anonymous: Api) -> None:
    page = await browser.get("/console/tokens")
    before = page.actions
    made = await browser.post(
        "/console/tokens", word=page.fields["word"], name=HOSTILE, scope="all", service="", days="7"
    )
    [secret] = [word for word in made.text.split() if word.startswith("mlh_")]
    assert HOSTILE in made.text
    assert HOSTILE not in made.html
    anonymous.token = secret
    await anonymous("GET", "/services")
    page = await browser.get("/console/tokens")
    assert secret not in page.html
    [revoke] = page.actions - before
    await browser.post(revoke, 303, word=page.fields["word"])
    await anonymous("GET", "/services", 401)


async def test_a_token_for_one_service_names_it(browser: Browser, carol: Api) -> None:
    page = await browser.get("/console/tokens")
    fields = {"word": page.fields["word"], "name": "one", "scope": "consume", "service": "iris/1.0", "days": ""}
    made = await browser.post("/console/tokens", **fields)
    assert "consume:iris/1.0" in made.text
    assert "already" in (await browser.post("/console/tokens", 409, **fields)).text
    assert "is none of" in (await browser.post("/console/tokens", 400, **fields | {"service": ""})).text
    assert "1 to 366" in (await browser.post("/console/tokens", 400, **fields | {"days": "1000"})).text
    assert "whole number" in (await browser.post("/console/tokens", 400, **fields | {"days": "x"})).text
    for token in await carol("GET", "/tokens"):
        await carol("DELETE", f"/tokens/{token['id']}")


async def test_the_audit_log_is_told_newest_first_and_by_what_is_asked_for(owners: Browser, carol: Api) -> None:
    session = await carol.session()
    await carol("DELETE", session)
    await carol("GET", f"{session}/files", 404)
    page = await owners.get("/console/audit?user=carol")
    assert page.text.index("GET /sessions/{id}/files 404") < page.text.index("DELETE /sessions/{id} 200")
    assert session.rpartition("/")[2] in page.text
    page = await owners.get("/console/audit?user=carol&route=delete+/SESSIONS&status=2xx", headers=SCRIPT)
    assert "<html" not in page.html
    assert "DELETE /sessions/{id} 200" in page.text
    assert "POST" not in page.text
    assert "Nothing of that kind" in (await owners.get("/console/audit?user=car")).text


async def test_a_failed_sign_in_is_found_by_the_name_that_was_claimed(owners: Browser, anonymous: Api) -> None:
    claimed = f"{HOSTILE}{new_id()}"
    await anonymous("POST", "/login", 401, {"username": claimed, "password": "x"})
    page = await owners.get("/console/audit?status=401&route=login")
    assert f"as {claimed}" in page.text
    assert HOSTILE not in page.html


def test_the_latest_entries_are_read_from_the_end_of_all_files(tmp_path: Path) -> None:
    line = json.dumps({"time": "t", "user": "u", "route": "GET /é", "object": {"id": 1}, "status": 403, "x": 1})
    old, new = (line.replace('"t"', f'"{at}"') for at in ("1", "2"))
    (tmp_path / "audit.1.jsonl").write_text(f"{old}\n")
    (tmp_path / "audit.jsonl").write_text(f"{line}\n{new}\n{{torn\n")
    told = list(audit.latest(tmp_path, 10_000))
    assert [(entry.time, entry.rest) for entry in told] == [("", "{torn"), ("2", "x 1"), ("t", "x 1"), ("1", "x 1")]
    assert told[1].about == {"id": "1"}
    assert told[1].status == "403"
    assert told[0].is_about("torn")
    some = list(audit.latest(tmp_path, len(f"{new}\n{{torn\n") + 5))
    assert [entry.time for entry in some] == ["", "2"]
    assert list(audit.latest(tmp_path, 0)) == []
