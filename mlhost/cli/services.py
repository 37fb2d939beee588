"""`mlhost service`: what is published on a running server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mlhost.cli.asking import asks_server, sure, yes_option
from mlhost.cli.differences import tell_difference
from mlhost.cli.inputs import gathered
from mlhost.cli.tables import facts, json_option, moment, plain, signature, table, tell
from mlhost.client import Client
from mlhost.errors import Invalid, NotFound
from mlhost.params.jsontext import render


@click.group()
def service() -> None:
    """Services: list, show, call, delete, compare."""


@service.command("list")
@click.argument("name", required=False)
@json_option
@asks_server
def list_all(ml: Client, name: str | None, *, as_json: bool) -> None:
    """List what is published, the oldest first; all versions, or those of NAME."""
    records = [each.record for each in ml.services(name)]
    if as_json:
        tell(records)
        return
    table(
        ("NAME", "VERSION", "RUNTIME", "TAKES", "GIVES", "PUBLISHED BY", "SINCE (UTC)"),
        [_row(each) for each in records],
        f"There is no service {name!r}." if name else "No service is published.",
    )


@service.command("show")
@click.argument("name")
@click.argument("version", required=False)
@click.option("--code", "with_code", is_flag=True, help="Print its code and nothing else.")
@json_option
@asks_server
def show(ml: Client, name: str, version: str | None, *, with_code: bool, as_json: bool) -> None:
    """Show a version, the latest if none is given."""
    found = ml.get(name, version)
    record = found.record
    if as_json:
        tell(record)
    elif with_code:
        if record["code"] is None:
            raise NotFound("There is no code to show: only its publisher and Owners see it, and a model has none.")
        click.echo(record["code"])
    else:
        facts(
            (
                ("Service", f"{name} {record['version']}"),
                ("Description", record["description"]),
                ("Takes", signature(record["inputParameterDefinitions"])),
                ("Gives", signature(record["outputParameterDefinitions"])),
                ("Files", ", ".join(record["outputFileNames"])),
                ("Runtime", " ".join((record["runtimeType"], record.get("pythonVersion", "")))),
                ("Runs in", record.get("placement")),
                ("Engine", record.get("engineReason")),
                ("Published", f"{moment(record['creationTime'])} UTC by {record['versionPublishedBy']}"),
                ("Snapshot", record["snapshotId"]),
                ("You may", record["myPermissionOnService"]),
                ("Call it at", found.url),
            )
        )


@service.command("call")
@click.argument("name")
@click.argument("given", nargs=-1, metavar="[VERSION] [INPUT=VALUE]...")
@click.option("--json-file", metavar="FILE", help="Take the inputs from this JSON object; - is the standard input.")
@click.option(
    "--save",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Put the files the call makes into this folder.",
)
@json_option
@asks_server
def call(
    ml: Client, name: str, given: tuple[str, ...], *, json_file: str | None, save: Path | None, as_json: bool
) -> None:
    """Call a version, the latest if none is given: mlhost service call iris 1.0 'flower=[5.1, 3.5, 1.4, 0.2]'

    A VALUE is read as the input's type says: a text as it is, anything else as JSON (`x=2.5`, `rows=[[1, 2]]`). An only
    output is printed by itself, several as `name: value`; what the code printed goes to stderr.
    """
    version = given[0] if given and "=" not in given[0] else None
    found = ml.get(name, version)
    inputs = gathered(given[1:] if version else given, json_file, found.inputs)
    answer = found.ask_plainly(inputs)
    if save is not None:
        _save(save, answer.files)
    if as_json:
        tell({"outputs": answer.outputs, "console": answer.console, "files": sorted(answer.made)})
        return
    click.echo(answer.console, err=True, nl=False)
    outputs = answer.outputs
    for output, value in outputs.items():
        text = value if isinstance(value, str) else render(value).decode()
        click.echo(text if len(outputs) == 1 else f"{output}: {text}")


@service.command("delete")
@click.argument("name")
@click.argument("version")
@yes_option
@asks_server
def delete(ml: Client, name: str, version: str, *, yes: bool) -> None:
    """Withdraw a version; its batches go with it."""
    found = ml.get(name, version)
    sure(f"Delete {name} {version}, which may be in use?", yes=yes)
    found.delete()
    click.echo(f"{name} {version} is deleted.")


@service.command("diff")
@click.argument("name")
@click.argument("old")
@click.argument("new", required=False)
@click.option("--exit-code", is_flag=True, help="End with 1 if something differs, as git diff does.")
@json_option
@asks_server
def diff(ml: Client, name: str, old: str, new: str | None, *, exit_code: bool, as_json: bool) -> None:
    """Compare two versions, OLD with the latest if NEW is not given: signature, code, and what their snapshots hold."""
    new = new or ml.get(name).version
    tell_difference(ml.compare(name, old, new), f"{name} {old}", f"{name} {new}", as_json=as_json, exit_code=exit_code)


def _row(record: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        record["name"],
        record["version"],
        record["runtimeType"],
        signature(record["inputParameterDefinitions"]),
        signature(record["outputParameterDefinitions"]),
        record["versionPublishedBy"],
        moment(record["creationTime"]),
    )


def _save(folder: Path, files: Mapping[str, bytes | None]) -> None:
    for name, content in files.items():
        if content is None:
            continue
        if Path(name).name != name or name in ("", ".", ".."):
            raise Invalid(f"The server names a file {name!r}, which would be outside of {folder}; nothing is written.")
        (folder / name).write_bytes(content)
        click.echo(f"Wrote {plain(folder / name)}.", err=True)
