"""Looking after a server: `mlhost doctor` and `mlhost audit`."""

from __future__ import annotations

import os
import sys
from collections import deque
from pathlib import Path

import click

from mlhost import audit, doctor
from mlhost.cli.options import config_option, data_option, data_path, existing_folder, run
from mlhost.config import load
from mlhost.remote import errors_in_words


@click.command("doctor")
@data_option
@config_option
def examine(data: str | None, config_file: Path | None) -> None:
    """Check the data folder, the installed versions and the store; exit status 1 if something is wrong."""
    with errors_in_words():
        loaded = load(config_file, os.environ, {"server.data": data})
        findings = run(doctor.examine(loaded.config, data_path(loaded)))
    for finding in findings:
        click.echo(finding.line())
    if any(finding.is_problem for finding in findings):
        sys.exit(1)


@click.command("audit")
@click.option("--last", type=click.IntRange(min=1), help="Only so many lines, the newest.")
@click.option("--user", "name", help="Only what this user did, or somebody who said to be them.")
@click.option("--json", "as_json", is_flag=True, help="The lines as they are kept, one JSON object each.")
@data_option
@config_option
def show_audit(
    *, last: int | None, name: str | None, as_json: bool, data: str | None, config_file: Path | None
) -> None:
    """Print the audit log, oldest first: who changed what, signed in or was refused; the server may run."""
    with errors_in_words():
        folder = existing_folder(data, config_file)
        found = (line for line in audit.lines(folder) if name is None or audit.is_about(line, name))
        for line in found if last is None else deque(found, last):
            click.echo(line if as_json else audit.in_words(line))
