"""Brings a database to the schema this version of mlhost knows, by the numbered files in `schema/`.

Forward only: the way back is the copy made before the first step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from mlhost.errors import Unavailable

SCHEMA = files("mlhost.store") / "schema"


def migrate(connection: sqlite3.Connection, schema: Traversable = SCHEMA) -> None:
    """Apply the steps the database does not have yet; Unavailable if it has some that `schema` does not know.

    `connection` is in autocommit. It no longer enforces foreign keys afterwards: a step that rebuilds a table
    would delete the rows that refer to it.
    """
    connection.execute("pragma foreign_keys = off")
    (version,) = connection.execute("pragma user_version").fetchone()
    steps = dict(_steps(schema))
    if version > max(steps):
        raise Unavailable(
            f"the database has version {version}, this mlhost knows versions up to {max(steps)};"
            " run the mlhost that wrote it or a newer one, or restore a backup"
        )
    pending = [number for number in sorted(steps) if number > version]
    if pending and connection.execute("select 1 from sqlite_schema").fetchone():
        _back_up(connection, version)
    for number in pending:
        _apply(connection, number, steps[number])


def newest() -> int:
    """The version of the schema that this mlhost knows."""
    return max(number for number, _ in _steps(SCHEMA))


def _steps(schema: Traversable) -> Iterator[tuple[int, str]]:
    """Number and SQL of every `NNNN_name.sql`."""
    for file in schema.iterdir():
        number, _, name = file.name.partition("_")
        if name.endswith(".sql"):
            yield int(number), file.read_text(encoding="utf-8")


def _apply(connection: sqlite3.Connection, number: int, sql: str) -> None:
    """A step and its number in one transaction; begun in the script, since that commits what was open."""
    try:
        connection.executescript(f"begin immediate;\n{sql}\n;pragma user_version = {number};\ncommit;")
    except BaseException:
        connection.rollback()
        raise


def _back_up(connection: sqlite3.Connection, version: int) -> None:
    """Copy the database to `<its name>.v<version>` beside it, over what an earlier start may have left."""
    database = next(row[2] for row in connection.execute("pragma database_list") if row[1] == "main")
    copy = Path(f"{database}.v{version}")
    copy.unlink(missing_ok=True)
    copy.touch(mode=0o600)
    with closing(sqlite3.connect(copy)) as target:
        connection.backup(target)
