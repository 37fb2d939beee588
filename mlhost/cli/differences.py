"""How differences are told, of services and of snapshots."""

from __future__ import annotations

import sys
from itertools import groupby

import click

from mlhost.cli.tables import plain, table, tell
from mlhost.client import Difference
from mlhost.remote import REFUSED

COLORS = {"+": "green", "-": "red", "@": "cyan"}  # on a terminal; click leaves them out elsewhere


def tell_difference(difference: Difference, old: str, new: str, *, as_json: bool, exit_code: bool) -> None:
    """Print what differs, and end with 1 then if that is wanted."""
    if as_json:
        tell(difference.told())
    else:
        _tell_people(difference, old, new)
    if exit_code and not difference.is_none:
        sys.exit(REFUSED)


def _tell_people(difference: Difference, old: str, new: str) -> None:
    if difference.is_none:
        words = "do not differ in what could be compared" if difference.unknown else "are the same"
        click.echo(f"{plain(old)} and {plain(new)} {words}.")
    for kind, changes in groupby(difference.changes, lambda each: each.kind):
        table((kind.upper(), "OLD", "NEW"), [(each.name, each.old or "-", each.new or "-") for each in changes], "")
        click.echo()
    for line in difference.code:
        click.secho("\t".join(plain(part) for part in line.split("\t")), fg=COLORS.get(line[:1]))
    if difference.unknown:
        click.echo(difference.unknown, err=True)
