"""Documents that cannot be used are refused by the place that is wrong."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlhost.codegen import generate
from mlhost.codegen.document import parse
from mlhost.codegen.reading import read_api
from mlhost.errors import Invalid
from tests.codegen.documents import ODD, ref

Change = Callable[[Any], Any]


def refused(document: bytes) -> str:
    with pytest.raises(Invalid) as caught:
        read_api(parse(document), "Client")
    return caught.value.message


def put(*keys: Any) -> Change:
    """Sets what all but the last of the keys lead to."""

    def change(document: Any) -> None:
        for key in keys[:-2]:
            document = document[key]
        document[keys[-2]] = keys[-1]

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("swagger", "1.2"), '#/swagger: only Swagger "2.0" is supported.'),
        (put("openapi", "3.0.1"), "#/openapi: OpenAPI 3 is not supported"),
        (put("paths", None), '#: "paths" is missing.'),
        (put("paths", []), "#/paths: an object was expected here."),
        (put("paths", "login", {}), "#/paths/login: a path starts with a slash."),
        (
            put("paths", "/file", "get", "operationId", 7),
            "#/paths/~1file/get/operationId: a string was expected here.",
        ),
        (put("paths", "/file", "get", {}), '#/paths/~1file/get: "responses" is missing.'),
        (put("paths", "/file", "get", "responses", {"2xx": {}}), "#/paths/~1file/get/responses/2xx: a response is"),
        (
            put("paths", "/text", "put", "parameters", 0, "in", "cookie"),
            '#/paths/~1text/put/parameters/0/in: "cookie" is none of path, query',
        ),
        (
            put("paths", "/text", "put", "parameters", 0, "schema", ref("Nothing")),
            '#/paths/~1text/put/parameters/0/schema: there is no "#/definitions/Nothing".',
        ),
        (
            put("paths", "/text", "put", "parameters", 0, "schema", ref("Base")),
            "#/paths/~1text/put/parameters/0: a body of text/plain",
        ),
        (put("paths", "/no id/{x}", "get", "parameters", []), '#/paths/~1no id~1{x}/get: {x} is no parameter "in"'),
        (put("definitions", "Base", ref("Base")), "#/definitions/Base: this reference leads back to itself."),
        (
            put("definitions", "Base", {"$ref": "other.json#/Base"}),
            '#/definitions/Base: "other.json#/Base" leads out of the document',
        ),
        (
            put("definitions", "Base", {"type": "array", "items": ref("Base")}),
            "#/definitions/Base/items: this schema is made of itself.",
        ),
        (
            put("definitions", "Base", {"allOf": [ref("Base")]}),
            "#/definitions/Base: this schema is made of itself.",
        ),
        (
            put("definitions", "Base", "discriminator", "kind"),
            "#/definitions/Base/discriminator: polymorphic schemas are not supported.",
        ),
        (
            put("definitions", "Base", "properties", "kind", "type", "complex"),
            '#/definitions/Base/properties/kind: the type "complex" is none of string',
        ),
        (put("definitions", "Base", "required", "kind"), "#/definitions/Base/required: an array was expected here."),
        (put("definitions", "Base", 5), "#/definitions/Base: an object was expected here."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_document_is_refused_by_the_place_that_is_wrong(change: Change, says: str) -> None:
    document = copy.deepcopy(ODD)
    change(document)
    assert refused(json.dumps(document).encode()).startswith(says)


def test_what_is_no_json_object_is_refused() -> None:
    assert "YAML has to be converted" in refused(b"swagger: '2.0'")
    assert refused(b"[]") == "#: a Swagger document is an object."
    assert refused(b"{}") == '#: "swagger" is missing.'


@pytest.mark.parametrize(
    ("namespace", "client"), [("a-b", "C"), ("class", "C"), ("a.", "C"), ("requests", "C"), ("a", "1C"), ("a", "None")]
)
def test_names_that_python_cannot_use_are_refused(namespace: str, client: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be"):
        generate(json.dumps(ODD).encode(), namespace, client, tmp_path)
    assert not list(tmp_path.iterdir())
