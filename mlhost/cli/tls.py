"""`mlhost tls`: certificates."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mlhost.cli.options import config_option, data_option, data_path
from mlhost.config import load
from mlhost.http.tls import self_signed, write_pair
from mlhost.remote import errors_in_words


@click.group()
def tls() -> None:
    """Certificates."""


@tls.command("self-signed")
@click.argument("names", nargs=-1)
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="How long it is valid.")
@click.option("--replace", is_flag=True, help="Make a new one where there is one; a running server reads it on SIGHUP.")
@data_option
@config_option
def tls_self_signed(
    *, names: tuple[str, ...], days: int, replace: bool, data: str | None, config_file: Path | None
) -> None:
    """Make a certificate for this server, signed by nobody else.

    NAMES are the names and addresses that clients call the server by; localhost, 127.0.0.1 and ::1 go without saying.
    Clients must be given the certificate to trust it: requests takes it as verify=, curl as --cacert.
    """
    with errors_in_words():
        folder = data_path(load(config_file, os.environ, {"server.data": data}))
        cert, key, fingerprint = self_signed(names, days)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = write_pair(folder, (cert, key), replace=replace)
    click.echo(f"Certificate: {paths[0]}\nKey: {paths[1]}\nSHA-256 fingerprint: {fingerprint}")
    click.echo(f"Start the server with it: mlhost serve --tls-cert {paths[0]} --tls-key {paths[1]}")
