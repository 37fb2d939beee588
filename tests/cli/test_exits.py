"""What every command has in common: faults in one line of stderr, and exit codes that scripts can go by."""

import json
from collections.abc import Iterator

import click
import pytest

from mlhost.cli import main
from mlhost.cli.exits import MEANINGS
from mlhost.client import Client
from mlhost.places import Logins, Saved
from mlhost.testing import Server
from tests.cli.conftest import Mlhost

ASKING = [("service", "list"), ("session", "list"), ("snapshot", "list"), ("batch", "list")]


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
def test_without_a_login_one_is_sent_to_log_in(mlhost: Mlhost, mlhost_server: Server, command: tuple[str, ...]) -> None:
    said = mlhost(*command, "--url", mlhost_server.url, expect=4).stderr
    assert f"mlhost login {mlhost_server.url}" in said
    assert said.count("\n") == 1


def test_with_a_login_that_has_ended_too(mlhost: Mlhost, mlhost_server: Server) -> None:
    Logins.here().save(Saved(mlhost_server.url, "admin", "mlh_x_y"))
    said = mlhost("service", "list", expect=4).stderr
    assert "your login does not hold (any more); run mlhost login" in said
    assert said.count("\n") == 1


def test_a_server_that_is_down_is_said_to_be(mlhost: Mlhost) -> None:
    Logins.here().save(Saved("http://127.0.0.1:9", "admin", "mlh_x_y"))
    said = mlhost("service", "list", expect=5).stderr
    assert "http://127.0.0.1:9 does not answer" in said
    assert said.count("\n") == 1


def test_an_address_that_is_none_is_said_to_be(mlhost: Mlhost) -> None:
    assert "is no address of a server" in mlhost("service", "list", "--url", "models", expect=1).stderr


def test_what_a_role_does_not_allow_ends_with_4(
    mlhost: Mlhost, signed_in: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLHOST_TOKEN", signed_in.create_token("read only", "consume:one", days=1))
    assert "only" in mlhost("session", "list", expect=4).stderr


def test_users_and_tokens_are_listed_for_programs_too(mlhost: Mlhost, signed_in: Client) -> None:
    signed_in.create_token("listed", "all", days=1)
    users = json.loads(mlhost("user", "list", "--url", signed_in.url, "--json").stdout)
    assert {"name": "admin", "role": "Owner", "groups": []} in users
    assert "listed" in [each["name"] for each in json.loads(mlhost("token", "list", "--json").stdout)]


def test_a_mistyped_command_ends_with_2(mlhost: Mlhost) -> None:
    mlhost("service", "lits", expect=2)
    mlhost("service", "show", expect=2)


def test_the_help_tells_every_exit_code(mlhost: Mlhost) -> None:
    told = mlhost("--help").output
    for code, meaning in MEANINGS.items():
        assert f"{code:>4}  {meaning}" in told


def test_every_command_has_a_help_that_begins_with_a_sentence() -> None:
    for command in _every(main):
        assert command.help, command.name
        assert command.help.strip().split("\n")[0].rstrip().endswith((".", ":")) or "mlhost" in command.help


def _every(command: click.Command) -> Iterator[click.Command]:
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from _every(each)
