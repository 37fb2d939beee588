from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mlhost.errors import Unavailable
from mlhost.store.migrate import SCHEMA, migrate

FIRST = "create table things (name text primary key) strict;"
SECOND = """
alter table things add column size integer not null default 7; -- bytes; of content
create trigger no_giants before insert on things when new.size > 99 begin
    select raise(abort, 'too; large');
end
"""  # the last semicolon is missing


@pytest.fixture
def connection(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.executescript("pragma journal_mode = wal; pragma foreign_keys = on")
        yield connection


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    folder = tmp_path / "schema"
    folder.mkdir()
    (folder / "0001_first.sql").write_text(FIRST)
    (folder / "notes.txt").write_text("not a step")
    return folder


def version(connection: sqlite3.Connection) -> int:
    (number,) = connection.execute("pragma user_version").fetchone()
    return int(number)


def dump(connection: sqlite3.Connection) -> list[str]:
    return [*connection.iterdump(), f"version {version(connection)}"]


def test_a_fresh_database_gets_every_shipped_step_and_no_backup(connection: sqlite3.Connection, database: Path) -> None:
    migrate(connection)
    numbers = sorted(int(file.name[:4]) for file in SCHEMA.iterdir() if file.name.endswith(".sql"))
    assert numbers == list(range(1, len(numbers) + 1))
    assert version(connection) == numbers[-1]
    tables = {name for (name,) in connection.execute("select name from sqlite_schema where type = 'table'")}
    batches = {"batches", "batch_inputs", "batch_results"}
    identity = {"users", "grants", "refreshes", "personal_tokens", "signing_keys"}
    assert tables == {"blobs", "blob_chunks", "snapshots", "services", "pools"} | batches | identity
    assert not list(database.parent.glob("*.v*"))


def test_migrating_twice_changes_nothing(connection: sqlite3.Connection, database: Path) -> None:
    migrate(connection)
    before = dump(connection)
    migrate(connection)
    assert dump(connection) == before
    assert not list(database.parent.glob("*.v*"))


def test_a_newer_database_is_refused_and_left_alone(connection: sqlite3.Connection, schema: Path) -> None:
    (schema / "0002_second.sql").write_text(SECOND)
    migrate(connection, schema)
    before = dump(connection)
    (schema / "0002_second.sql").unlink()
    with pytest.raises(Unavailable, match="has version 2, this mlhost knows versions up to 1; run the mlhost"):
        migrate(connection, schema)
    assert dump(connection) == before


def test_rows_live_through_a_step_and_the_state_before_it_is_kept_beside(
    connection: sqlite3.Connection, schema: Path, database: Path
) -> None:
    migrate(connection, schema)
    connection.execute("insert into things values ('a')")
    before = dump(connection)
    (schema / "0002_second.sql").write_text(SECOND)
    migrate(connection, schema)
    assert connection.execute("select * from things").fetchall() == [("a", 7)]
    with pytest.raises(sqlite3.IntegrityError, match="too; large"):
        connection.execute("insert into things values ('b', 100)")
    backup = database.with_name("mlhost.sqlite.v1")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with closing(sqlite3.connect(backup)) as copy:
        assert dump(copy) == before


@pytest.mark.parametrize(
    "fault",
    ["insert into nowhere values (1);", "insert into things values ('a', 1);", "create table cut_off (", "'"],
)
def test_a_failing_step_leaves_the_state_before_it(connection: sqlite3.Connection, schema: Path, fault: str) -> None:
    migrate(connection, schema)
    connection.execute("insert into things values ('a')")
    (schema / "0002_second.sql").write_text(SECOND)
    (schema / "0003_third.sql").write_text(
        f"create table more (x); drop table things; {FIRST} insert into things values ('a'); {fault}"
    )
    with pytest.raises(sqlite3.Error):
        migrate(connection, schema)
    assert not connection.in_transaction
    assert version(connection) == 2
    assert connection.execute("select * from things").fetchall() == [("a", 7)]
    assert connection.execute("select count(*) from sqlite_schema where name in ('more', 'cut_off')").fetchone() == (0,)

    (schema / "0003_third.sql").write_text("create table more (x);")
    migrate(connection, schema)
    assert version(connection) == 3


def test_a_backup_left_half_by_an_earlier_start_is_made_anew(
    connection: sqlite3.Connection, schema: Path, database: Path
) -> None:
    migrate(connection, schema)
    backup = database.with_name("mlhost.sqlite.v1")
    backup.write_bytes(b"half a copy")
    (schema / "0002_second.sql").write_text(SECOND)
    migrate(connection, schema)
    with closing(sqlite3.connect(backup)) as copy:
        assert version(copy) == 1


def test_a_step_may_rebuild_a_table_that_others_refer_to(connection: sqlite3.Connection, schema: Path) -> None:
    (schema / "0001_first.sql").write_text(
        "create table parents (name text primary key);"
        "create table children (parent text references parents (name) on delete cascade);"
    )
    migrate(connection, schema)
    connection.execute("insert into parents values ('p')")
    connection.execute("insert into children values ('p')")
    (schema / "0002_rebuild.sql").write_text(
        "create table rebuilt (name text primary key, size integer);"
        "insert into rebuilt (name) select * from parents;"
        "drop table parents; alter table rebuilt rename to parents;"
    )
    migrate(connection, schema)
    assert connection.execute("select * from children").fetchall() == [("p",)]


def test_logins_and_users_of_before_live_on_through_the_step_to_identity(
    connection: sqlite3.Connection, tmp_path: Path
) -> None:
    before = tmp_path / "before"
    before.mkdir()
    for file in SCHEMA.iterdir():
        if file.name < "0004":
            (before / file.name).write_text(file.read_text("utf-8"))
    migrate(connection, before)
    connection.execute("insert into users values ('anna', 'hash', 'Owner', 1.0)")
    connection.execute("insert into grants values ('g', 'anna', 'a', x'01', 2.0, 3.0)")
    migrate(connection)
    assert list(connection.execute("select * from users")) == [("anna", "hash", "Owner", "[]", 1.0, 0.0)]
    assert list(connection.execute("select * from grants")) == [("g", "anna", "", "a", 2.0, 3.0)]
    assert list(connection.execute("select * from refreshes")) == [(b"\x01", "g", None)]
    connection.execute("pragma foreign_keys = on")
    connection.execute("delete from users")
    assert not [*connection.execute("select * from grants"), *connection.execute("select * from refreshes")]


def test_versions_of_before_live_on_without_a_compiled_model(connection: sqlite3.Connection, tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    for file in SCHEMA.iterdir():
        if file.name < "0005":
            (before / file.name).write_text(file.read_text("utf-8"))
    migrate(connection, before)
    connection.execute("insert into services values (7, 'Iris', '1', 'anna', 's', null, '{}', 1.0)")
    migrate(connection)
    assert list(connection.execute("select id, name, snapshot_id, compiled from services")) == [(7, "Iris", "s", None)]
