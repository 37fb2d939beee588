"""The `mlhost` command: users, doctor, settings."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlhost.cli import main
from mlhost.config import SETTINGS
from mlhost.http.explain import FURTHER
from mlhost.http.guard import PERMISSIONS
from mlhost.store import Store
from mlhost.store.folder import DataFolder
from tests.parts import keep
from tests.server.conftest import Start


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder, as a first start leaves it."""
    DataFolder.open(tmp_path / "data").close()
    return tmp_path / "data"


def mlhost(*arguments: str | Path, expect: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == expect, result.output
    return result


def test_users_are_added_listed_and_changed(data: Path) -> None:
    mlhost("user", "add", "carol", "--password", "a password", "--data", data)
    mlhost("user", "add", "rita", "--password", "a password", "--role", "reader", "--data", data)
    assert mlhost("user", "list", "--data", data).output == "carol\tContributor\nrita\tReader\n"
    mlhost("user", "role", "rita", "owner", "--data", data)
    mlhost("user", "passwd", "rita", "--password", "another one", "--data", data)
    assert "rita\tOwner" in mlhost("user", "list", "--data", data).output


def test_a_user_may_have_groups_instead_of_a_role(data: Path) -> None:
    mlhost("user", "add", "carol", "--password", "a password", "--role", "default", "--data", data)
    mlhost("user", "groups", "carol", "analysts", "staff", "--data", data)
    assert mlhost("user", "list", "--data", data).output == "carol\tDefault\tanalysts\tstaff\n"
    mlhost("user", "role", "carol", "reader", "--data", data)
    assert "no group" in mlhost("user", "groups", "carol", "--data", data).output
    assert mlhost("user", "list", "--data", data).output == "carol\tReader\n"


def test_every_token_of_a_user_can_be_ended(data: Path) -> None:
    mlhost("user", "add", "carol", "--password", "a password", "--data", data)
    assert "has ended" in mlhost("user", "revoke", "carol", "--data", data).output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "carol", "--password", "a password"), "There is a user 'carol' already."),
        (("add", "dora", "--password", "short"), "8 characters"),
        (("add", " ", "--password", "a password"), "cannot name a user"),
        (("role", "nobody", "Owner"), "no user 'nobody'"),
        (("groups", "nobody", "staff"), "no user 'nobody'"),
        (("revoke", "nobody"), "no user 'nobody'"),
        (("role", "carol", "King"), "'King' is not a role; there are None, Reader, Contributor, Owner."),
    ],
)
def test_what_cannot_be_done_is_said_in_words(data: Path, arguments: tuple[str, ...], words: str) -> None:
    mlhost("user", "add", "carol", "--password", "a password", "--data", data)
    assert words in mlhost("user", *arguments, "--data", data, expect=1).output


def test_a_mistyped_folder_is_not_taken_for_an_empty_server(tmp_path: Path) -> None:
    assert "There is no data folder" in mlhost("user", "list", "--data", tmp_path / "typo", expect=1).output
    assert not (tmp_path / "typo").exists()


def test_contradicting_flags_and_empty_passwords_stop_the_start(tmp_path: Path) -> None:
    assert "does not go together" in mlhost("serve", "--ephemeral", "--data", tmp_path / "x", expect=2).output
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, words in (("empty", "holds no password"), ("binary", "cannot be read as text")):
        told = mlhost("serve", "--ephemeral", "--admin-password-file", tmp_path / name, expect=1).output
        assert words in told


def test_users_of_a_running_server_are_left_alone(start: Start, data: Path) -> None:
    start()
    assert "in use by another server" in mlhost("user", "list", "--data", data, expect=1).output


def test_the_doctor_finds_nothing_wrong_with_a_sound_folder(data: Path) -> None:
    assert "does not exist yet" in mlhost("doctor", "--data", data / "nothing").output
    mlhost("user", "add", "carol", "--password", "a password", "--data", data)
    told = mlhost("doctor", "--data", data).output
    assert "PROBLEM" not in told
    assert re.search(r"ok +store: whole", told)
    assert re.search(r"ok +aiohttp: 3\.", told)


def test_the_doctor_looks_at_the_door(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search(r"ok +door: 127\.0\.0\.1 port 12800, without TLS", mlhost("doctor", "--data", data).output)
    for days, expect in ((30, 0), (7, 1)):
        mlhost("tls", "self-signed", "--replace", "--days", str(days), "--data", data)
        monkeypatch.setenv("MLHOST_SERVER_TLS_CERT", str(data / "tls-cert.pem"))
        monkeypatch.setenv("MLHOST_SERVER_TLS_KEY", str(data / "tls-key.pem"))
        told = mlhost("doctor", "--data", data, expect=expect).output
        assert ("renew it and send the server SIGHUP" in told) is bool(expect)
    monkeypatch.setenv("MLHOST_SERVER_TLS_KEY", str(data / "nothing.pem"))
    assert re.search(r"PROBLEM +door: .*nothing\.pem", mlhost("doctor", "--data", data, expect=1).output)


def test_the_doctor_leaves_a_running_server_alone(start: Start, data: Path) -> None:
    start()
    assert "is checked when that server is stopped" in mlhost("doctor", "--data", data).output


def test_the_doctor_names_what_is_wrong_and_exits_1(data: Path) -> None:
    mlhost("user", "add", "carol", "--password", "a password", "--data", data)
    (data / "server.key").chmod(0o644)
    assert re.search(r"PROBLEM +data folder: .*chmod 600", mlhost("doctor", "--data", data, expect=1).output)


def test_the_doctor_names_damaged_snapshot_bytes(data: Path) -> None:
    async def damage() -> None:
        from mlhost.store.blobs import Blobs

        with DataFolder.open(data) as folder:
            store = await Store.open(folder.database)
            blobs = Blobs(store, folder.key("blobs"))
            await keep(store, blobs, b"content")
            async with store.write() as db:
                await db.execute("update blob_chunks set content = x'00'")
            await store.close()

    asyncio.run(damage())
    assert re.search(r"PROBLEM +snapshot bytes", mlhost("doctor", "--data", data, expect=1).output)


def test_the_doctor_does_not_take_a_broken_database_for_a_sound_one(data: Path) -> None:
    mlhost("user", "add", "carol", "--password", "a password", "--data", data)
    (data / "mlhost.sqlite").write_bytes(b"this is no database" * 1000)
    assert "PROBLEM" in mlhost("doctor", "--data", data, expect=1).output


def test_what_the_command_line_changes_is_in_the_audit_log(data: Path) -> None:
    mlhost("user", "add", "carol", "--password", "a password", "--data", data)
    mlhost("user", "list", "--data", data)
    mlhost("user", "role", "carol", "Owner", "--data", data)
    added, changed = (json.loads(line) for line in mlhost("audit", "--json", "--data", data).output.splitlines())
    assert added["route"].endswith("user add")
    assert changed["object"] == {"name": "carol", "role": "Owner"}
    assert changed["user"].endswith("(command line)")
    assert "a password" not in mlhost("audit", "--data", data).output
    assert mlhost("audit", "--last", "1", "--data", data).output.count("\n") == 1


def test_the_audit_log_can_be_read_while_the_server_runs(start: Start, data: Path) -> None:
    start().login()
    assert "POST /login" in mlhost("audit", "--user", "admin", "--data", data).output
    assert mlhost("audit", "--user", "nobody", "--data", data).output == ""


def test_settings_are_shown_with_their_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[sessions]\nmax = 5\n")
    monkeypatch.setenv("MLHOST_SERVER_PORT", "12345")
    told = mlhost("config", "show", "--origin", "--config", file).output
    assert "port = 12345  # MLHOST_SERVER_PORT" in told
    assert f"max = 5  # file {file}" in told
    assert 'host = "127.0.0.1"  # default' in told
    assert told.count(" = ") == len(SETTINGS)


def test_an_unknown_setting_stops_the_start_by_name(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[server]\nprot = 1\n")
    told = mlhost("serve", "--config", file, expect=1).output
    assert "server.prot" in told
    assert "did you mean server.port?" in told


def test_every_command_and_option_explains_itself() -> None:
    for path in (
        [],
        ["serve"],
        ["user"],
        ["user", "add"],
        ["doctor"],
        ["audit"],
        ["tls", "self-signed"],
        ["config", "show"],
    ):
        assert len(mlhost(*path, "--help").output) > 100


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlhost", "--version"], capture_output=True, text=True, env=os.environ, timeout=30
    )
    assert done.stdout.startswith("mlhost, version ")


def test_it_tells_the_rule_that_decides(data: Path) -> None:
    for name, role in (("ann", "owner"), ("rita", "reader"), ("dora", "default")):
        mlhost("user", "add", name, "--password", "a password", "--role", role, "--data", data)
    mlhost("user", "groups", "dora", "science", "--data", data)

    def told(expect: int, *asked: str, **environment: str) -> str:
        result = CliRunner(env=environment).invoke(main, ["auth", "explain", *asked, "--data", str(data)])
        assert result.exit_code == expect, result.output
        return result.output

    said = told(0, "ann", "delete", "/services/iris/1.0")
    assert "ann is Owner: given by name." in said
    assert "the route DELETE /services/{name}/{version}, which is for the role Contributor or a higher one" in said
    assert "Only the publisher of a version, and Owners" in said
    assert "So rita may not." in told(1, "rita", "POST", "/sessions")
    assert "So rita may." in told(0, "rita", "POST", "/api/iris/1.0?x=1")
    assert "somebody is a Reader" in told(1, "dora", "GET", "/services")
    groups = {"MLHOST_AUTH_CONTRIBUTOR_GROUPS": "science"}
    assert "dora is Contributor: by the group science (auth.contributor_groups)" in told(
        0, "dora", "GET", "/services", **groups
    )
    assert "for anybody, signed in or not" in told(0, "dora", "POST", "/login")
    assert "There is no route PUT /login; that address knows POST" in told(1, "ann", "PUT", "/login")
    assert "So ann may." in told(0, "ann", "DELETE", "/login/refreshToken/a/b")
    assert "no method leads there" in told(1, "ann", "GET", "/nowhere")
    assert "There is no user 'eve'" in told(1, "eve", "GET", "/services")
    shut = {"MLHOST_LDAP_URL": "ldaps://directory.example.org", "MLHOST_LDAP_SEARCH_BASE": "dc=example"}
    mlhost("user", "add", "admin", "--password", "a password", "--role", "owner", "--data", data)
    assert "auth.keep_admin" in told(1, "admin", "GET", "/users", **shut)


def test_what_is_told_of_things_behind_the_door_belongs_to_routes_there_are() -> None:
    for method, begins, _ in FURTHER:
        assert any(method in ("", known) and route.startswith(begins) for known, route in PERMISSIONS), begins
