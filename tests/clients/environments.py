"""Environments for clients, made once for each set of packages and kept in the user's cache folder."""

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
import pytest

CACHE = Path(platformdirs.user_cache_dir("mlhost", appauthor=False)) / "clients"
SDK = "azureml-model-management-sdk==1.0.1b6.post1"
# The last of AutoRest 3, and a generator that still takes a Swagger document by itself.
AUTOREST = ("autorest@3.8.0", "@autorest/core@3.10.9", "@autorest/modelerfour@4.23.7", "@autorest/python@5.19.0")
# What the generator asks for, but a PyYAML that has wheels for today's Pythons.
AUTOREST_PYTHON = (
    "jinja2==3.0.3",
    "markupsafe==2.0.1",
    "json-rpc==1.13.0",
    "m2r==0.2.1",
    "mistune==0.8.4",
    "docutils==0.18.1",
    "black==21.12b0",
    "click==8.0.3",
    "pyyaml>=6.0.1",
    "setuptools<81",
)


def environment(python: str, *packages: str) -> Path:
    """The interpreter of an environment of `python` with these packages; without them the test is skipped."""
    made, fault = _environment(python, packages)
    if fault:
        pytest.skip(f"no environment with {', '.join(packages)}: {fault}")
    return made


@functools.cache  # what failed once in a run is not tried again
def _environment(python: str, packages: tuple[str, ...]) -> tuple[Path, str]:
    version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    key = hashlib.sha256(repr((python, version, packages)).encode()).hexdigest()[:12]
    folder = CACHE / f"{version}-{key}"
    made = folder / "bin" / "python"
    with locked(CACHE / f"{version}-{key}.lock"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            install = [str(made), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
            for command in ([python, "-m", "venv", str(folder)], install):
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    return made, done.stderr.strip()[-300:] or f"{command} failed"
            (folder / "complete").touch()
    return made, ""


@functools.cache
def autorest() -> Path:
    """The folder AutoRest 3 and its Python generator are installed in; without node or npm the test is skipped."""
    for tool in ("node", "npm"):
        if not shutil.which(tool):
            pytest.skip(f"no {tool} was found, which AutoRest needs")
    python = environment(this_python(), *AUTOREST_PYTHON)
    key = hashlib.sha256(repr((str(python), AUTOREST)).encode()).hexdigest()[:12]
    folder = CACHE / f"autorest-{key}"
    with locked(CACHE / f"autorest-{key}.lock"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "package.json").write_text("{}")
            # Their install script would make the environment, with versions that do not build any more.
            install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *AUTOREST]
            done = subprocess.run(install, capture_output=True, text=True, cwd=folder)
            if done.returncode:
                pytest.skip(f"no AutoRest: {done.stderr.strip()[-300:]}")
            shutil.copytree(python.parents[1], folder / "node_modules/@autorest/python/venv", symlinks=True)
            (folder / "complete").touch()
    return folder / "node_modules"


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """One run at a time makes an environment."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


@functools.cache
def find_python(version: str) -> str:
    """A CPython of a version such as 3.7, from the PATH or from pyenv; without one the test is skipped."""
    found = [shutil.which(f"python{version}")]
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True).stdout.strip()
        found += [str(path) for path in sorted(Path(root).glob(f"versions/{version}.*/bin/python"))]
    for each in found:
        if each and subprocess.run([each, "--version"], capture_output=True).returncode == 0:
            return each
    pytest.skip(f"no Python {version} was found")


def this_python() -> str:
    """The interpreter that this environment was made of."""
    return os.path.realpath(sys.executable)
