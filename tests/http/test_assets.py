"""The files beside pages: those of others are what their versions were, and all of them reach browsers as they are."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
from aiohttp import ClientSession
from yarl import URL

from mlhost.http.assets import FILES, FOLDER

VENDORED = FOLDER / "vendored"
PACKAGES = json.loads((VENDORED / "vendored.json").read_text("utf-8"))


def test_each_vendored_file_is_the_one_of_its_version() -> None:
    told = {name: file["sha256"] for package in PACKAGES for name, file in package["files"].items()}
    there = {path.name: sha256(path.read_bytes()).hexdigest() for path in VENDORED.iterdir()}
    del there["vendored.json"]
    assert there == told


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package["name"])
def test_each_vendored_package_brings_its_licence(package: dict[str, object]) -> None:
    assert package["licence"] in {"0BSD", "MIT", "Apache-2.0"}
    assert any("LICENSE" in name for name in package["files"])  # type: ignore[attr-defined]


def test_all_files_are_in_the_wheel() -> None:
    """The patterns of setup.cfg reach one folder down."""
    assert {len(Path(name).parts) for name in FILES} <= {1, 2}


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("vendored/htmx.min.js", {"text/javascript", "application/javascript"}),
        ("vendored/uPlot.min.css", {"text/css"}),
        ("vendored/htmx.LICENSE.txt", {"text/plain"}),
        ("console/icon.svg", {"image/svg+xml"}),
    ],
)
async def test_a_file_comes_whole_and_is_what_it_says(url: str, name: str, kinds: set[str]) -> None:
    async with ClientSession(url) as browser, browser.get(f"/static/{name}") as answer:
        assert answer.status == 200
        assert await answer.read() == FILES[name].read_bytes()
        assert answer.content_type in kinds
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        etag = answer.headers["ETag"]
    async with (
        ClientSession(url) as browser,
        browser.get(f"/static/{name}", headers={"If-None-Match": etag}) as answer,
    ):
        assert answer.status == 304


@pytest.mark.parametrize("path", ["../assets.py", "%2e%2e/assets.py", "vendored", "vendored/", "/etc/passwd", "a%00b"])
async def test_nothing_else_is_to_be_had(url: str, path: str) -> None:
    async with ClientSession() as browser, browser.get(URL(f"{url}/static/{path}", encoded=True)) as answer:
        assert answer.status in {400, 404}
