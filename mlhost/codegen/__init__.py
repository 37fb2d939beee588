"""A Python client package from a Swagger 2.0 document: read it, plan the code, render it, write it.

What comes out follows the clients that AutoRest made for Machine Learning Server: positional models, snake_case
methods, `custom_headers` as the last positional argument, errors as `models.ErrorException`.
"""

from __future__ import annotations

from pathlib import Path

from mlhost.codegen.document import parse
from mlhost.codegen.naming import check_names, snake
from mlhost.codegen.package import Written, write
from mlhost.codegen.reading import read_api
from mlhost.codegen.rendering import render


def generate(document: bytes, namespace: str, client_name: str, output: Path) -> Written:
    """Write the package `namespace` with the class `client_name` into the folder `output`.

    Invalid names the place in a document that cannot be used; nothing is written then.
    """
    check_names(namespace, client_name)
    api = read_api(parse(document), client_name)
    return write(output.joinpath(*namespace.split(".")), render(api, snake(client_name)))
