"""`mlhost snapshot`: what is in one, what differs between two, and one as a file."""

import json
import zipfile
from pathlib import Path

import pytest

from mlhost.client import Client
from tests.cli.conftest import Mlhost


@pytest.fixture
def taken(signed_in: Client) -> tuple[str, str]:
    """Two snapshots, the first named `first`."""
    with signed_in.session() as session:
        session.run("x = 1\nkept = 'a'\nopen('note.txt', 'w').write('hello')\nlock = (each for each in 'ab')")
        first = session.snapshot("first")
        session.run("x = 2\ny = [1.5]")
        return first, session.snapshot()


def test_snapshots_are_listed_and_shown(mlhost: Mlhost, taken: tuple[str, str]) -> None:
    lines = mlhost("snapshot", "list").output.splitlines()
    assert lines[0].split() == ["ID", "NAME", "SIZE", "TAKEN", "(UTC)"]
    assert [line.split()[0] for line in lines[1:]] == list(taken)
    told = mlhost("snapshot", "show", "first").output
    for words in ("note.txt  5 B", "kept    str", "LEFT OUT", "lock"):
        assert words in told
    shown = json.loads(mlhost("snapshot", "show", taken[0], "--json").output)
    assert shown["objects"]["x"]["repr"] == "1"
    assert shown["files"]["note.txt"]["bytes"] == 5
    assert [each["id"] for each in json.loads(mlhost("snapshot", "list", "--json").output)] == list(taken)


def test_snapshots_are_compared(mlhost: Mlhost, taken: tuple[str, str]) -> None:
    told = json.loads(mlhost("snapshot", "diff", *taken, "--json").output)
    assert [(each["kind"], each["name"]) for each in told["changes"]] == [("object", "x"), ("object", "y")]
    assert "kept" not in mlhost("snapshot", "diff", *taken, "--exit-code", expect=1).output
    assert "are the same" in mlhost("snapshot", "diff", "first", taken[0]).output


def test_a_snapshot_is_downloaded_whole_and_replaces_nothing_unasked(
    mlhost: Mlhost, taken: tuple[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "first.zip"
    mlhost("snapshot", "download", "first", file)
    assert "manifest.json" in zipfile.ZipFile(file).namelist()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "--force" in mlhost("snapshot", "download", "first", file, expect=1).stderr
    mlhost("snapshot", "download", taken[1], file, "--force")
    assert "cannot be written" in mlhost("snapshot", "download", "first", tmp_path / "no" / "x.zip", expect=5).stderr
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["first.zip"]


def test_a_snapshot_is_deleted_once_one_is_sure(mlhost: Mlhost, taken: tuple[str, str]) -> None:
    mlhost("snapshot", "delete", taken[0], answers="n\n", expect=1)
    mlhost("snapshot", "delete", taken[0], "--yes")
    assert "no snapshot" in mlhost("snapshot", "show", taken[0], expect=1).stderr
