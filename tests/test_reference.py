"""The pages of `docs/reference` are what the program says of itself now, and say it of everything."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from aiohttp import web
from msgspec import Meta

from mlhost.config import SETTINGS, Config, toml_value
from mlhost.http import assets, console
from mlhost.http.guard import PERMISSIONS
from mlhost.http.routes import canonical
from mlhost.reference import PAGES
from mlhost.reference.settings import told
from tests.parts import ROOT

FOLDER = ROOT / "docs" / "reference"


def cells(page: str) -> list[list[str]]:
    """The rows of all tables of a page, without their titles."""
    lines = [line for line in PAGES[page]().splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_program_says_now(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == PAGES[name](), "scripts/reference writes it anew"


def test_the_script_writes_every_page(tmp_path: Path) -> None:
    assert '-m mlhost.reference "$root/docs/reference"' in (ROOT / "scripts" / "reference").read_text()
    subprocess.run([sys.executable, "-m", "mlhost.reference", str(tmp_path)], check=True, timeout=60)
    assert {file.name: file.read_text("utf-8") for file in tmp_path.iterdir()} == {
        name: page() for name, page in PAGES.items()
    }


def test_every_setting_has_a_row_with_its_default_and_variable() -> None:
    rows = {row[4].strip("`"): row for row in cells("settings.md")}
    assert rows.keys() == {setting.variable for setting in SETTINGS.values()}
    for setting in SETTINGS.values():
        row = rows[setting.variable]
        assert row[0].startswith(f"`{setting.name}`")
        assert row[1] == setting.sentence
        assert row[3] == f"`{toml_value(getattr(getattr(Config(), setting.section), setting.name))}`"
    assert [row[0] for row in rows.values() if "`--port`" in row[0]] == ["`port`, `--port`"]
    assert not [row[0] for row in rows.values() if row[0].startswith("`level`") and "--" in row[0]]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (bool, "true or false"),
        (str, "text"),
        (Annotated[str, Meta(min_length=1)], "text, not empty"),
        (Annotated[int, Meta(ge=0, le=65535)], "whole number, 0 or more, 65,535 at most"),
        (Annotated[int, Meta(ge=1, le=2**63 - 1)], "whole number, 1 or more"),
        (Annotated[float, Meta(gt=0, le=1e9)], "number, more than 0"),
        (Literal["a", "b", "c"], "`a`, `b` or `c`"),
        (tuple[Annotated[str, Meta(min_length=1)], ...], "list of text, not empty"),
        (tuple[Literal["a", "b"], ...], "list of `a` or `b`"),
    ],
)
def test_a_type_is_told_in_words(kind: Any, words: str) -> None:
    assert told(kind) == words


def test_every_route_has_a_row_with_what_it_does_and_who_may() -> None:
    rows = {(method, path): row for row in cells("api.md") for method, path in [row[0].strip("`").split(" ")]}
    pages = {
        (route.method, canonical(route.path))
        for table in (*console.TABLES, assets.routes)
        for route in table
        if isinstance(route, web.RouteDef)
    }
    assert rows.keys() == PERMISSIONS.keys() - pages
    assert {row[2] for row in rows.values()} == {"anyone", "Reader", "Contributor", "Owner"}
    for route, row in rows.items():
        assert row[1].endswith("."), row
        assert (row[2] == "anyone") == (PERMISSIONS[route].value is None)
    assert rows["POST", "/api/{name}/{version}"][2:] == ["Reader", "400, 401, 403, 404, 408, 413, 500, 503"]
    assert rows["GET", "/metrics"][2:] == ["Reader", "401, 403, 500, 503"]
