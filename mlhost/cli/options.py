"""What several commands take, and how they run: the same options, errors in words, the data folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from mlhost.config import Loaded, load
from mlhost.errors import NotFound
from mlhost.places import data_folder

Result = TypeVar("Result")

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Read settings from this TOML file (default: mlhost.toml in the current folder, if there).",
)
data_option = click.option(
    "--data", type=click.Path(file_okay=False), help="The folder that the server keeps everything in."
)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end, on uvloop where it exists."""
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def data_path(loaded: Loaded) -> Path:
    """Where the server that is set up so keeps its data."""
    return Path(loaded.config.server.data or data_folder())


def existing_folder(data: str | None, config_file: Path | None) -> Path:
    """The data folder a command is to work in; NotFound if there is none."""
    path = data_path(load(config_file, os.environ, {"server.data": data}))
    if not path.exists():
        raise NotFound(f"There is no data folder {path}; start the server once, or name another with --data.")
    return path
