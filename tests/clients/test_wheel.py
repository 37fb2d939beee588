"""The wheel in an environment of its own: README's program, a guide's tests, and the fixtures in a project."""

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mlhost.http.assets import FILES, FOLDER
from tests.clients.environments import environment, this_python
from tests.documents import blocks
from tests.parts import ROOT
from tests.server.conftest import until_ready

pytestmark = [pytest.mark.untraced, pytest.mark.timeout(900)]

BESIDE = ("pytest", "pytest-asyncio", "pytest-xdist", "requests", "setuptools>=77")
PROJECT = """
import numpy as np
import pytest

from steps import scaled

class Model:
    def predict(self, rows):
        return ["b" if row[0] > 0.5 else "a" for row in rows]

def test_a_module_of_the_project_goes_along(mlhost_client):
    def answer(v: np.ndarray) -> np.ndarray:
        return scaled(v)
    assert list(mlhost_client.publish(answer, "scaled", "1.0")([1, 2])) == [10, 20]

@pytest.mark.asyncio
async def test_async(mlhost_server):
    async with mlhost_server.connect_async() as ml:
        service = await ml.publish(Model(), "rated", "1.0")
        assert list(await service(rows=[[0.1]])) == ["a"]

@pytest.mark.parametrize("number", range(4))
def test_on_every_worker(mlhost_client, number, worker_id):
    with mlhost_client.session() as session:
        session["x"] = number
        assert session["x"] == number
        assert worker_id in ("gw0", "gw1")
"""


def requirements(*extras: str) -> list[str]:
    """What the package needs with these extras, as pip reads it."""
    needed = map(Requirement, importlib.metadata.requires("mlhost") or ())
    wanted = [each for each in needed if each.marker is None or any(each.marker.evaluate({"extra": x}) for x in extras)]
    return sorted({f"{each.name}{each.specifier}" for each in wanted})


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a fresh environment that has the wheel; what it needs comes from a kept one."""
    folder = tmp_path_factory.mktemp("wheel")
    kept = environment(this_python(), *requirements("", "client", "ml"), *BESIDE)
    source = folder / "source"
    shutil.copytree(ROOT / "mlhost", source / "mlhost", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [str(kept), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([this_python(), "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    programs = folder / "venv" / "bin"
    into = [*pip, "--python", str(programs / "python"), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(into, check=True, capture_output=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (beside,) = (kept.parents[1] / "lib").glob("python*/site-packages")
    (packages / "kept.pth").write_text(f"{beside}\n")
    return programs


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of somebody who has never used it."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MLHOST_", "COV", "PY"))}
    home = tmp_path_factory.mktemp("home")
    folders = {"HOME": home, "XDG_DATA_HOME": home / "share", "XDG_CONFIG_HOME": home / "config"}
    return variables | {name: str(path) for name, path in folders.items()}


@pytest.fixture
def server(installed: Path, home: dict[str, str]) -> Iterator[str]:
    """`mlhost serve`, and any free port."""
    process = subprocess.Popen(
        [str(installed / "mlhost"), "serve"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=home["HOME"],
        env=home | {"MLHOST_SERVER_PORT": "0"},
    )
    yield until_ready(process)[0]
    process.terminate()
    process.communicate(timeout=30)


def test_ten_lines_from_the_installed_package_to_a_published_function(
    installed: Path, home: dict[str, str], server: str, tmp_path: Path
) -> None:
    [program] = (each.text for each in blocks(ROOT / "README.md", "python"))
    assert len([line for line in program.splitlines() if line]) <= 10
    (tmp_path / "program.py").write_text(program)
    command = [str(installed / "python"), "program.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=home, cwd=tmp_path)
    assert done.stdout == "setosa\n", done.stderr
    where = "import mlhost; print(mlhost.__file__)"
    told = subprocess.run([str(installed / "python"), "-c", where], capture_output=True, text=True, cwd=tmp_path)
    assert told.stdout.startswith(str(installed.parent))


def test_the_fixtures_work_in_a_project_of_somebody_else(installed: Path, home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "test_readme.py").write_text(blocks(ROOT / "docs" / "how-to" / "testing.md", "python test")[0].text)
    (tmp_path / "test_project.py").write_text(PROJECT)
    (tmp_path / "steps.py").write_text("def scaled(v):\n    return v * 10\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    command = [str(installed / "python"), "-m", "pytest", "-q", "-n", "2", "-W", "error"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=home, cwd=tmp_path)
    assert "8 passed" in done.stdout, done.stdout + done.stderr


def test_what_others_wrote_is_listed_with_its_licences(installed: Path) -> None:
    command = [str(installed / "python"), "-m", "pip", "show", "--files", "mlhost"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    folder = FOLDER.relative_to(ROOT)
    assert {f"{folder / name}" for name in FILES} <= set(listed)
    assert any(name.endswith("swagger-ui.LICENSE.txt") for name in listed)
    assert "Apache-2.0" in listed  # its own
