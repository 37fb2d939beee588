"""`mlhost batch`: many records that a running server scores under one id."""

from __future__ import annotations

from dataclasses import asdict

import click

from mlhost.cli.asking import asks_server, is_watched, sure, yes_option
from mlhost.cli.tables import json_option, table, tell
from mlhost.client import Client
from mlhost.errors import CodeFailed, NotFound


@click.group()
def batch() -> None:
    """Batches: list, watch, cancel."""


@batch.command("list")
@click.argument("service", required=False)
@json_option
@asks_server
def list_all(ml: Client, service: str | None, *, as_json: bool) -> None:
    """List the batches that the server keeps, of all services or of SERVICE: yours, to Owners everybody's."""
    rows = []
    for each in ml.batches(service):
        try:
            rows.append((each, each.progress()))
        except NotFound:  # it was deleted meanwhile
            continue
    if as_json:
        tell(
            [
                {"id": each.id, "service": each.service, "version": each.version} | asdict(progress)
                for each, progress in rows
            ]
        )
        return
    table(
        ("ID", "SERVICE", "VERSION", "STATE", "RECORDS"),
        [(each.id, each.service, each.version, it.state, f"{it.done} of {it.total}") for each, it in rows],
        "There are no batches.",
    )


@batch.command("watch")
@click.argument("id", metavar="ID")
@click.option("--results", is_flag=True, help="Print the results as JSON at the end.")
@json_option
@asks_server
def watch(ml: Client, id: str, *, results: bool, as_json: bool) -> None:  # noqa: A002
    """Wait until a batch has ended, with a bar on a terminal; Ctrl-C leaves it running. Ends with 3 if it failed."""
    found = ml.batch(id)
    ended = found.wait(progress=is_watched())
    if results:
        tell(found.results())
    elif as_json:
        tell(asdict(ended))
    else:
        click.echo(f"{ended.state}: {ended.done} of {ended.total} records are scored.")
    if ended.state == "Failed":
        raise CodeFailed(ended.failure or "The batch could not run.")


@batch.command("cancel")
@click.argument("id", metavar="ID")
@yes_option
@asks_server
def cancel(ml: Client, id: str, *, yes: bool) -> None:  # noqa: A002
    """Cancel a batch and delete it, with the results there are."""
    found = ml.batch(id)
    sure(f"Cancel batch {id} and delete its results?", yes=yes)
    found.cancel()
    click.echo(f"{id} is cancelled and deleted.")
