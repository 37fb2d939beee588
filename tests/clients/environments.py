"""Virtual environments for clients, made once for each set of packages and kept in the user's cache folder."""

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
