"""The Python that worker processes run: the server's own, or another one that `runtime.python` names.

Another one needs msgpack, cloudpickle and dill, and whatever users' code imports. mlhost it has from the server: a
folder with nothing in it but a link to the package is the first place it looks for modules.
"""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import mlhost
from mlhost.errors import Invalid

SETTING = "runtime.python"
OLDEST = (3, 11)
NEEDS = ("msgpack", "cloudpickle", "dill")
LINKS = "mlhost-for-workers"  # the folder with the link, beside the working directories
CHECK_SECONDS = 30.0  # for a Python on a slow disk to start
CHECK = f"""
import importlib.util, json, platform, sys
missing = [name for name in {NEEDS!r} if importlib.util.find_spec(name) is None]
print(json.dumps([platform.python_version(), sys.version_info >= {OLDEST!r}, missing]))
"""


@dataclass(frozen=True, slots=True)
class Python:
    """A Python that workers can run."""

    path: str
    version: str  # "3.11.7"
    links: str = ""  # the folder it finds mlhost in; "" for the server's own Python


OWN = Python(sys.executable, platform.python_version())


async def find(path: str, work: Path) -> Python:
    """The Python at `path` ("" is the server's own), ready to run workers; Invalid says what it lacks."""
    if not path:
        return OWN
    version, is_new_enough, missing = await _asked(path)
    if not is_new_enough:
        raise Invalid(f"{SETTING}: {path} is Python {version}; workers need {'.'.join(map(str, OLDEST))} or later.")
    if missing:
        raise Invalid(
            f"{SETTING}: {path} lacks {', '.join(missing)}; run: {path} -m pip install {' '.join(missing)}",
            field=SETTING,
        )
    return Python(path, version, str(await asyncio.to_thread(_linked, work)))


async def _asked(path: str) -> tuple[str, bool, list[str]]:
    try:
        process = await asyncio.create_subprocess_exec(
            path, "-c", CHECK, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
    except OSError as fault:
        raise Invalid(f"{SETTING}: {path} cannot be started: {fault.strerror}.", field=SETTING) from None
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            told, _ = await process.communicate()
        version, is_new_enough, missing = json.loads(told)
    except (TimeoutError, ValueError):
        raise Invalid(f"{SETTING}: {path} does not run as a Python.", field=SETTING) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return version, is_new_enough, missing


def _linked(work: Path) -> Path:
    links = work / LINKS
    links.mkdir(mode=0o700, exist_ok=True)
    link = links / mlhost.__name__
    if not link.is_symlink():
        link.symlink_to(Path(mlhost.__file__).parent)
    return links
