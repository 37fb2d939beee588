"""`mlhost codegen`: client packages from Swagger documents."""

from __future__ import annotations

from pathlib import Path

import click

from mlhost import codegen
from mlhost.codegen.document import fetch
from mlhost.remote import errors_in_words


@click.command("codegen")
@click.argument("swagger")
@click.option("--namespace", required=True, metavar="NAME", help="The package to make; dots make packages in packages.")
@click.option("--client-name", required=True, metavar="CLASS", help="The class whose methods are the operations.")
@click.option(
    "--output",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to put the package in; a program that imports it needs this folder on its path.",
)
def generate(swagger: str, namespace: str, client_name: str, output: Path) -> None:
    """Make a Python client package from a Swagger 2.0 document.

    SWAGGER is a JSON file, an http(s) URL, or - for the standard input. The document of a service asks for a token, so
    fetch it first:

    \b
      curl -H "Authorization: Bearer $TOKEN" $URL/api/Iris/1.0/swagger.json |
        mlhost codegen - --namespace iris --client-name Iris --output .

    The package needs only requests and Python 3.8 or later. Models take their properties by position, the required ones
    first; methods take their parameters in the document's order and `custom_headers` last; errors are raised as
    models.ErrorException, with `.error.message` and `.response`.

    Run again, it replaces the files that it made and removes those it makes no more. Other files in the folder stay as
    they are; if one is in the way, nothing is written.
    """
    with errors_in_words():
        made = codegen.generate(fetch(swagger), namespace, client_name, output)
    click.echo(f"Wrote {', '.join(made.written)} to {made.folder}.")
    if made.removed:
        click.echo(f"Removed {', '.join(made.removed)}, made before and not any more.")
    if made.foreign:
        click.echo(f"Left {', '.join(made.foreign)} as found: not made by mlhost codegen.")
