"""The audit log: one line for each change, sign-in and refusal, in files that are bounded and hold no secrets."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from mlhost import audit as module
from mlhost.audit import Audit, in_words, is_about, lines
from mlhost.config import Audit as Settings


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(folder)]


def test_a_line_holds_what_it_was_told_and_the_time(tmp_path: Path) -> None:
    with Audit.open(tmp_path, Settings()) as audit:
        audit.write("amy", "DELETE /sessions/{id}", {"id": "7"}, status=200)
    [line] = told(tmp_path)
    assert line.pop("time").endswith("Z")
    assert line == {"user": "amy", "route": "DELETE /sessions/{id}", "object": {"id": "7"}, "status": 200}


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    with Audit.open(tmp_path, Settings()):
        assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600


def test_a_later_start_goes_on_behind_what_is_there(tmp_path: Path) -> None:
    for number in range(3):
        with Audit.open(tmp_path, Settings()) as audit:
            audit.write("amy", "POST /sessions", {"n": number})
    assert [line["object"]["n"] for line in told(tmp_path)] == [0, 1, 2]


def test_full_files_are_put_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    with Audit.open(tmp_path, Settings(file_bytes=10_000, files=2)) as audit:
        for number in range(1000):
            audit.write("amy", "POST /sessions", {"n": number})
    kept = [line["object"]["n"] for line in told(tmp_path)]
    assert kept == list(range(kept[0], 1000))
    assert 0 < kept[0] < 900
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.1.jsonl", "audit.2.jsonl", "audit.jsonl"]
    assert all(path.stat().st_size <= 10_000 for path in tmp_path.iterdir())


def test_switched_off_it_leaves_no_file(tmp_path: Path) -> None:
    with Audit.open(tmp_path, Settings(enabled=False)) as audit:
        audit.write("amy", "POST /sessions", {})
    assert not list(tmp_path.iterdir())


def test_a_flood_of_refusals_does_not_drive_out_what_people_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(module, "time", lambda: now)
    with Audit.open(tmp_path, Settings()) as audit:
        for _ in range(module.MAX_UNKNOWN_A_MINUTE + 50):
            audit.write(None, "GET /services", {}, status=401)
        audit.write("amy", "POST /sessions", {})
        now += 60
        audit.write(None, "GET /services", {}, status=401)
    first, *_, amy, left_out, last = told(tmp_path)
    assert len(told(tmp_path)) == module.MAX_UNKNOWN_A_MINUTE + 3
    assert (first["user"], amy["user"], left_out["left_out"], last["status"]) == ("-", "amy", 50, 401)


def test_long_names_are_cut_and_secrets_hidden(tmp_path: Path) -> None:
    with Audit.open(tmp_path, Settings()) as audit:
        audit.write("amy", "DELETE /login", {"refreshToken": "s3cret", "name": "x" * 5000}, claimed="\n\ud800")
    [line] = told(tmp_path)
    assert line["object"] == {"refreshToken": "***", "name": "x" * module.LONGEST_TEXT}
    assert line["claimed"] == "\n\ud800"


def test_a_disk_that_takes_no_more_is_logged_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    with Audit.open(tmp_path, Settings()) as audit:
        monkeypatch.setattr(os, "write", full)
        audit.write("amy", "POST /sessions", {})
        monkeypatch.undo()
    assert "No space left on device" in caplog.text
    assert "amy" in caplog.text


def test_a_line_that_was_torn_stays_alone_and_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with Audit.open(tmp_path, Settings()) as audit:
        monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:40]))
        audit.write("amy", "POST /sessions", {})
        monkeypatch.undo()
        audit.write("bob", "POST /sessions", {})
    with (tmp_path / "audit.jsonl").open("a") as file:
        file.write('{"killed": ')
    with Audit.open(tmp_path, Settings()) as audit:
        audit.write("carol", "POST /sessions", {})
    torn, bob, killed, carol = lines(tmp_path)
    assert (in_words(torn), in_words(killed)) == (torn, killed)
    assert is_about(bob, "bob")
    assert is_about(carol, "carol")
    assert not is_about(killed, "carol")


def test_a_line_is_told_to_people_and_found_by_name(tmp_path: Path) -> None:
    with Audit.open(tmp_path, Settings()) as audit:
        audit.write(None, "POST /login", {}, status=401, claimed="amy")
    [line] = lines(tmp_path)
    assert in_words(line).endswith("  -  POST /login  status=401  claimed='amy'")
    assert is_about(line, "amy")
    assert not is_about(line, "bob")
