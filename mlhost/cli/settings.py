"""`mlhost config` and `mlhost init`: the settings, and a file to change them in."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mlhost.cli.arriving import arriving
from mlhost.cli.options import config_option
from mlhost.config import FILE_NAME, SETTINGS, load, template, toml_value
from mlhost.remote import errors_in_words

READABLE = 0o644


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


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=FILE_NAME)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(file: Path, *, force: bool) -> None:
    """Write a file of all settings, each with its sentence and commented out at its default.

    FILE is mlhost.toml in the current folder if not given, which mlhost serve reads when it is started there.
    """
    with errors_in_words(), arriving(file, force=force) as (out, made):
        out.write(template().encode())
        made.chmod(READABLE)  # it holds no secrets: settings name the files that do
    flag = "" if file == Path(FILE_NAME) else f" --config {file}"
    click.echo(f"Wrote {file}. Change it, see what is in force with mlhost config show --origin{flag},")
    click.echo(f"and start the server with it: mlhost serve{flag}")
