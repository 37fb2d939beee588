"""`mlhost backup` and `mlhost restore`: all that a server is, in one file that is verified."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from mlhost.backups.restoring import restored, verified
from mlhost.backups.taking import taken
from mlhost.cli.arriving import arriving
from mlhost.cli.asking import bytes_bar, password_of
from mlhost.cli.options import config_option, data_option, data_path, existing_folder
from mlhost.cli.tables import size
from mlhost.client import connect
from mlhost.config import load
from mlhost.errors import Conflict, Unavailable
from mlhost.places import ADMIN, local_server
from mlhost.remote import errors_in_words
from mlhost.store.folder import DataFolder


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--url", help="Ask the running server at this address; MLHOST_PASSWORD or a prompt.")
@click.option("--as", "asker", envvar="MLHOST_USER", default=ADMIN, show_default=True, help="Sign in as this Owner.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@data_option
@config_option
def backup(*, file: Path, url: str | None, asker: str, force: bool, data: str | None, config_file: Path | None) -> None:
    """Write all that a server is to FILE: users, services, snapshots, keys; it may run meanwhile.

    Of the server at --url, or of the one whose data is in the data folder: if it runs there, it is asked. FILE is
    verified before it gets its name. Keep it as secret as the server: whoever has it can make any token.
    """
    with errors_in_words(), arriving(file, force=force) as (out, made):
        if url is not None:
            _ask(url, asker, password_of(asker), out)
        else:
            _of_folder(existing_folder(data, config_file), asker, out)
        out.flush()
        held = verified(made)
    services = f"{len(held.members)} files, {size(held.size)}"
    click.echo(f"Wrote {file}: {services}, verified. Keep it secret: it holds the server's keys.")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--force", is_flag=True, help="Also into a folder that is not empty, which is moved aside.")
@click.option("--check", is_flag=True, help="Only verify the file.")
@data_option
@config_option
def restore(*, file: Path, force: bool, check: bool, data: str | None, config_file: Path | None) -> None:
    """Make the data folder that FILE, written by mlhost backup, holds.

    All of FILE is verified first. The server must not run; a folder that is not empty is left alone without --force,
    and with it moved aside, in one step with the new one taking its place.
    """
    with errors_in_words():
        if check:
            held = verified(file)
            click.echo(f"{file} is whole: made {held.created[:19]} UTC by mlhost {held.mlhost}.")
            return
        target = data_path(load(config_file, os.environ, {"server.data": data}))
        held, old = restored(file, target, force=force)
    click.echo(f"{target} is as it was on {held.created[:19]} UTC. Start the server with: mlhost serve --data {target}")
    if old is not None:
        click.echo(f"What was there is in {old}: remove it when you are sure.")


def _of_folder(path: Path, asker: str, out: IO[bytes]) -> None:
    """From the folder if no server has it, else from that server."""
    running = local_server(path)
    if running is not None:
        url, first = running
        password = os.environ.get("MLHOST_PASSWORD") or (first if asker == ADMIN else "") or password_of(asker)
        _ask(url, asker, password, out)
        return
    with _free(path) as folder, taken(folder) as made, bytes_bar("backing up") as tell:
        done = 0
        for piece in made.pieces():
            out.write(piece)
            done += len(piece)
            tell(done, made.size)


def _ask(url: str, asker: str, password: str, out: IO[bytes]) -> None:
    with connect(url, user=asker, password=password) as ml, bytes_bar("backing up") as tell:
        ml.backup(out, tell)


@contextmanager
def _free(path: Path) -> Iterator[DataFolder]:
    try:
        folder = DataFolder.open(path)
    except Conflict as taken_by:
        raise Unavailable(f"{taken_by.message}; or wait until it listens, to be asked for the backup.") from taken_by
    with folder:
        yield folder
