"""`mlhost login` and `mlhost logout`: a login that clients find, and its end."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mlhost.cli import main
from mlhost.client import connect
from mlhost.errors import Unauthenticated
from mlhost.places import Logins, Saved
from mlhost.testing import Server


@pytest.fixture(autouse=True)
def nobody_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("URL", "TOKEN", "USER", "PASSWORD"):
        monkeypatch.delenv(f"MLHOST_{name}", raising=False)


def mlhost(*arguments: str, expect: int = 0, answers: str = "") -> str:
    result = CliRunner().invoke(main, arguments, input=answers)
    assert result.exit_code == expect, result.output
    return result.output


def saved() -> Saved:
    login = Logins.here().find()
    assert login is not None
    return login


def test_a_login_is_found_by_clients_until_the_logout(mlhost_server: Server) -> None:
    said = mlhost("login", "--url", mlhost_server.url, "--days", "7", answers=f"{mlhost_server.password}\n")
    assert f"logged in to {mlhost_server.url} as admin for 7 days" in said
    assert mlhost_server.password not in said
    token = saved().token
    assert token not in said
    assert mlhost_server.password not in Logins.here().file.read_text()
    with connect() as ml:
        assert ml.status()["statusCode"] == "pass"
    assert f"logged out of {mlhost_server.url}" in mlhost("logout")
    with connect(mlhost_server.url, token=token) as ml, pytest.raises(Unauthenticated):
        ml.status()
    assert "No login is saved." in mlhost("logout", expect=1)
    assert f"No login is saved for {mlhost_server.url}" in mlhost("logout", "--url", mlhost_server.url, expect=1)


def test_another_login_at_the_same_address_ends_the_one_before(mlhost_server: Server) -> None:
    who = (mlhost_server.url, "--password", mlhost_server.password)
    mlhost("login", *who)
    first = saved().token
    mlhost("login", *who)
    with connect(mlhost_server.url, token=first) as ml, pytest.raises(Unauthenticated):
        ml.status()
    mlhost("logout")


def test_what_goes_wrong_is_said_in_words(mlhost_server: Server) -> None:
    assert "invalid credentials" in mlhost(
        "login", "--url", mlhost_server.url, "--user", "nobody-here", "--password", "not this one", expect=4
    )
    assert Logins.here().find() is None
    Logins.here().save(Saved("http://127.0.0.1:9", "carol", "mlh_x"))
    assert "forgotten here, but the server could not be told" in mlhost("logout", expect=5)
    assert Logins.here().find() is None
