"""`mlhost config`: the settings."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mlhost.cli.options import config_option
from mlhost.config import SETTINGS, load, toml_value
from mlhost.remote import errors_in_words


@click.group("config")
def config() -> None:
    """The settings."""


@config.command("show")
@click.option("--origin", is_flag=True, help="Tell where each value came from.")
@config_option
def config_show(*, origin: bool, config_file: Path | None) -> None:
    """Print all settings as they are in force, as TOML."""
    with errors_in_words():
        loaded = load(config_file, os.environ, {})
    section = ""
    for key, row in SETTINGS.items():
        if row.section != section:
            section = row.section
            click.echo(f"[{section}]")
        comment = f"  # {loaded.origins[key]}" if origin else ""
        click.echo(f"{row.name} = {toml_value(loaded.value(key))}{comment}")
