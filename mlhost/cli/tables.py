"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

GAP = "  "
SHORT_TIME = len("2026-01-31 23:59:59")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def tell(value: Any) -> None:
    """Print plain data as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def table(titles: Sequence[str], rows: Iterable[Sequence[object]], none: str) -> None:
    """Print aligned columns under their titles, or the sentence `none` where there are no rows."""
    lines = [[plain(cell) for cell in row] for row in rows]
    if not lines:
        click.echo(none)
        return
    widths = [max(len(cell) for cell in column) for column in zip(titles, *lines, strict=True)]
    for line in (titles, *lines):
        click.echo(GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Print what is known of one thing: a title and a value a line; what there is none of is left out."""
    told = [(title, plain(value)) for title, value in pairs if value not in (None, "", (), [])]
    width = max(len(title) for title, _ in told)
    for title, value in told:
        click.echo(f"{title.ljust(width)}{GAP}{value}")


def plain(value: object) -> str:
    """A text that does nothing to a terminal: others may have chosen it."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(value))


def moment(iso: str) -> str:
    """A time of the server's, in UTC, to the second."""
    return iso.replace("T", " ")[:SHORT_TIME]


def size(count: float) -> str:
    """Bytes, as people say it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def signature(definitions: Iterable[dict[str, str]]) -> str:
    """Parameters as they are declared: `x: numeric, name: character`."""
    return ", ".join(f"{each['name']}: {each['type']}" for each in definitions)
