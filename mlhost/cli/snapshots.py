"""`mlhost snapshot`: frozen workspaces on a running server."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from mlhost.cli.arriving import arriving
from mlhost.cli.asking import asks_server, bytes_bar, sure, yes_option
from mlhost.cli.differences import tell_difference
from mlhost.cli.tables import facts, json_option, moment, size, table, tell
from mlhost.client import Client, Difference
from mlhost.client.comparing import of_contents


@click.group()
def snapshot() -> None:
    """Snapshots: list, show, compare, download, delete; named by their id, or by a name that only one has."""


@snapshot.command("list")
@json_option
@asks_server
def list_all(ml: Client, *, as_json: bool) -> None:
    """List your snapshots, the oldest first."""
    taken = ml.snapshots()
    if as_json:
        tell([asdict(each) for each in taken])
        return
    rows = [(each.id, each.name, size(each.size), moment(each.created)) for each in taken]
    table(("ID", "NAME", "SIZE", "TAKEN (UTC)"), rows, "You have no snapshots.")


@snapshot.command("show")
@click.argument("snapshot", metavar="SNAPSHOT")
@json_option
@asks_server
def show(ml: Client, snapshot: str, *, as_json: bool) -> None:
    """Show what a snapshot holds: objects, files, packages. It is downloaded, and nothing of it is opened."""
    found = ml.snapshot(snapshot)
    held = ml.contents(found.id)
    if as_json:
        files = {name: {"bytes": count, "crc": f"{crc:08x}"} for name, (count, crc) in held.files.items()}
        tell(asdict(found) | asdict(held) | {"files": files})
        return
    packages = ", ".join(f"{name} {version}".strip() for name, version in held.packages.items())
    facts(
        (
            ("Snapshot", found.id),
            ("Name", found.name),
            ("Taken", f"{moment(found.created)} UTC"),
            ("Size", size(found.size)),
            ("Python", held.python),
            ("Packages", packages),
        )
    )
    objects = [
        (
            name,
            each.get("type", ""),
            each.get("shape", ""),
            size(each["bytes"]) if "bytes" in each else "",
            each.get("repr", ""),
        )
        for name, each in held.objects.items()
    ]
    click.echo()
    table(("OBJECT", "TYPE", "SHAPE", "SIZE", "LOOKS LIKE"), objects, "It holds no objects.")
    if held.files:
        click.echo()
        table(("FILE", "SIZE"), [(name, size(count)) for name, (count, _) in held.files.items()], "")
    if held.skipped:
        click.echo()
        table(("LEFT OUT", "WHY"), held.skipped.items(), "")


@snapshot.command("diff")
@click.argument("old")
@click.argument("new")
@click.option("--exit-code", is_flag=True, help="End with 1 if something differs, as git diff does.")
@json_option
@asks_server
def diff(ml: Client, old: str, new: str, *, exit_code: bool, as_json: bool) -> None:
    """Compare two snapshots: objects, as they look from outside, files and packages."""
    before, after = (ml.contents(ml.snapshot(each).id) for each in (old, new))
    tell_difference(Difference(of_contents(before, after), []), old, new, as_json=as_json, exit_code=exit_code)


@snapshot.command("download")
@click.argument("snapshot", metavar="SNAPSHOT")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@asks_server
def download(ml: Client, snapshot: str, file: Path | None, *, force: bool) -> None:
    """Write a snapshot to FILE, or to SNAPSHOT's id with .zip, as the zip it is kept as."""
    found = ml.snapshot(snapshot)
    target = file or Path(Path(f"{found.id}.zip").name)  # in this folder, whatever the server says
    with arriving(target, force=force) as (out, _), bytes_bar("downloading") as tell_bytes:
        ml.download_snapshot(found.id, out, tell_bytes)
    click.echo(f"Wrote {target}.")


@snapshot.command("delete")
@click.argument("snapshot", metavar="SNAPSHOT")
@yes_option
@asks_server
def delete(ml: Client, snapshot: str, *, yes: bool) -> None:
    """Delete a snapshot; services that were published from it keep what they have."""
    found = ml.snapshot(snapshot)
    sure(f"Delete snapshot {found.id}?", yes=yes)
    ml.delete_snapshot(found.id)
    click.echo(f"{found.id} is deleted.")
