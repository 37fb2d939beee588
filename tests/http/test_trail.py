"""What requests leave behind in the audit log, and what they do not."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mlhost import audit
from mlhost.host import Host
from tests.parts import PASSWORD, Api

Since = Callable[[], list[dict[str, Any]]]


@pytest.fixture
async def since(admin: Api, host: Host, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Since]:
    """The lines written since the test began, however many strangers other tests have sent in the same minute."""
    monkeypatch.setattr(audit, "MAX_UNKNOWN_A_MINUTE", 1_000_000)
    before = len(list(audit.lines(host.folder.path)))

    def since() -> list[dict[str, Any]]:
        return [json.loads(line) for line in list(audit.lines(host.folder.path))[before:]]

    yield since


async def test_who_opened_what_from_where_is_told(admin: Api, since: Since) -> None:
    path = await admin.session()
    await admin("DELETE", path)
    opened, closed = since()
    assert opened["object"] == {"location": path}
    assert (opened["user"], opened["route"], opened["status"]) == ("admin", "POST /sessions", 201)
    assert closed["object"] == {"id": path.rpartition("/")[2]}
    assert closed["address"] == "127.0.0.1"
    assert closed["time"] > opened["time"]
    assert closed["request_id"] != opened["request_id"]


async def test_signing_in_is_told_whether_or_not_it_succeeds(anonymous: Api, since: Since) -> None:
    await anonymous("POST", "/login", 401, {"username": "rita", "password": "not hers, planted"})
    await anonymous("POST", "/login", json={"username": "rita", "password": PASSWORD})
    failed, done = since()
    assert (failed["user"], failed["claimed"], failed["status"]) == ("-", "rita", 401)
    assert (done["user"], done["status"], done["route"]) == ("rita", 200, "POST /login")
    assert "planted" not in str(since())


async def test_refusals_are_told_also_of_reading(anonymous: Api, norman: Api, carol: Api, since: Since) -> None:
    since_login = len(since())
    await anonymous("GET", "/services", 401)
    await norman("GET", "/services", 403)
    await carol("GET", "/sessions/somebody-elses/history", 404)
    assert [(line["user"], line["status"]) for line in since()[since_login:]] == [
        ("-", 401),
        ("norman", 403),
        ("carol", 404),
    ]


async def test_reading_and_scoring_leave_nothing_behind(admin: Api, since: Since) -> None:
    await admin.publish("Audited", "1", "y = 1")
    published = since()
    await admin("GET", "/services")
    await admin("GET", "/sessions")
    await admin("POST", "/api/Audited/1", json={})
    await admin("GET", "/no/such/address", 404)
    assert since()[:1] == published
    assert len(since()) <= 2  # an unknown address, asked for without being known
    await admin("DELETE", "/services/Audited/1")


async def test_code_that_is_run_is_told_of_but_not_told(admin: Api, session: str, since: Since) -> None:
    await admin.execute(session, "print('planted')")
    [line] = [line for line in since() if line["route"].endswith("/execute")]
    assert line["status"] == 200
    assert "planted" not in str(since())


async def test_a_refresh_token_in_an_address_is_hidden(anonymous: Api, since: Since) -> None:
    await anonymous("DELETE", "/login/refreshToken/planted", 401)
    await anonymous("DELETE", "/login/refreshToken?refreshToken=planted", 401)
    assert len(since()) == 2
    assert "planted" not in str(since())
