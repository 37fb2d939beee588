"""The command as its users have it, at a real server where it is signed in."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlhost.cli import main
from mlhost.client import Client
from mlhost.testing import Server

Mlhost = Callable[..., Result]


@pytest.fixture(autouse=True)
def nobody_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No login and no data of the one who runs the tests."""
    for kind in ("CONFIG", "DATA"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))
    for name in ("URL", "TOKEN", "USER", "PASSWORD"):
        monkeypatch.delenv(f"MLHOST_{name}", raising=False)


@pytest.fixture
def mlhost() -> Mlhost:
    """Runs a command; its result, which has the exit status that is expected."""

    def run(*arguments: object, expect: int = 0, answers: str = "") -> Result:
        result = CliRunner().invoke(main, [str(each) for each in arguments], input=answers)
        assert result.exit_code == expect, f"{result.exit_code}: {result.output}"
        assert "Traceback" not in result.stderr
        return result

    return run


@pytest.fixture
def signed_in(mlhost_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Commands find the server and its Owner; so does this client. There is nothing there before and after the test."""
    monkeypatch.setenv("MLHOST_URL", mlhost_server.url)
    monkeypatch.setenv("MLHOST_PASSWORD", mlhost_server.password)
    with mlhost_server.connect() as ml:
        _clear(ml)
        yield ml
        _clear(ml)


def _clear(ml: Client) -> None:
    for service in ml.services():
        service.delete()
    for session in ml.sessions():
        ml.kill_session(session.id)
    for snapshot in ml.snapshots():
        ml.delete_snapshot(snapshot.id)
