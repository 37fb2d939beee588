"""The document of a service version, against the original's own two and by its own rules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mlhost.openapi import service_document
from mlhost.params.signature import Parameter, Signature

GOLDEN = Path(__file__).parents[2] / "shared" / "contract"
golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden documents: {GOLDEN} is absent")

TRANSMISSION = Signature(
    inputs=(Parameter("hp", "numeric"), Parameter("wt", "numeric")),
    outputs=(Parameter("answer", "data.frame"),),
)
WEATHER = Signature(
    inputs=(Parameter("latitude", "numeric"), Parameter("longitude", "numeric")),
    outputs=(Parameter("report", "character"),),
)
NOTHING = Signature(inputs=(), outputs=())
OPERATIONS = {
    "ConsumeWebService",
    "StartBatchExecution",
    "GetBatchExecutions",
    "GetBatchExecutionStatus",
    "CancelAndDeleteBatchExecution",
    "GetBatchExecutionFiles",
    "GetBatchExecutionFile",
}


def document(
    name: str = "Tx",
    version: str = "1.0",
    *,
    description: str | None = None,
    operation_id: str | None = None,
    signature: Signature = NOTHING,
    output_files: Sequence[str] = (),
) -> dict[str, Any]:
    return service_document(name, version, description, operation_id, signature, output_files)


def assert_same(ours: dict[str, Any], file_name: str) -> None:
    """Equal with no exception, the order of keys included."""
    theirs = json.loads((GOLDEN / file_name).read_text("utf-8-sig"))
    assert ours == theirs
    assert json.dumps(ours, indent=1) == json.dumps(theirs, indent=1)


@golden
def test_a_service_with_artifacts_has_the_original_document() -> None:
    ours = document(
        "TxService",
        description="My first python model",
        operation_id="manualTransmission",
        signature=TRANSMISSION,
        output_files=["plot.png"],
    )
    assert_same(ours, "TxService-1.0.swagger.json")


@golden
def test_a_service_without_artifacts_has_the_original_document() -> None:
    ours = document("WeatherService", "v1.0.0", operation_id="getWeatherReport", signature=WEATHER)
    assert_same(ours, "WeatherService.swagger.json")


def test_the_keys_come_in_the_order_of_the_template() -> None:
    ours = document(signature=TRANSMISSION, output_files=["a"])
    assert list(ours) == [
        "swagger",
        "info",
        "schemes",
        "securityDefinitions",
        "tags",
        "consumes",
        "produces",
        "paths",
        "definitions",
    ]
    assert list(ours["paths"]) == [
        "/login",
        "/login/refreshToken",
        "/api/Tx/1.0",
        "/api/Tx/1.0/batch",
        "/api/Tx/1.0/batch/{executionId}",
        "/api/Tx/1.0/batch/{executionId}/{index}/files",
        "/api/Tx/1.0/batch/{executionId}/{index}/files/{fileName}",
    ]


def test_parameters_keep_their_order_and_name_their_server_type() -> None:
    definitions = document(signature=TRANSMISSION)["definitions"]
    assert list(definitions["InputParameters"]["properties"].items()) == [
        ("hp", {"type": "number", "description": "numeric"}),
        ("wt", {"type": "number", "description": "numeric"}),
    ]
    assert definitions["OutputParameters"] == {
        "type": "object",
        "properties": {"answer": {"type": "object", "description": "data.frame"}},
    }


@pytest.mark.parametrize(
    ("spelling", "schema"),
    [
        ("integer", {"type": "integer"}),
        ("logical", {"type": "boolean"}),
        ("character", {"type": "string"}),
        ("vector", {"type": "array", "items": {}}),
        ("matrix", {"type": "array", "items": {"type": "array", "items": {}}}),
    ],
)
def test_every_type_is_described_as_the_contract_has_it(spelling: str, schema: dict[str, Any]) -> None:
    ours = document(signature=Signature(inputs=(Parameter("x", spelling),), outputs=()))
    assert ours["definitions"]["InputParameters"]["properties"]["x"] == {**schema, "description": spelling}


def test_a_type_the_server_does_not_know_is_described_by_its_spelling_alone() -> None:
    ours = document(signature=Signature(inputs=(Parameter("x", "tensor"),), outputs=()))
    assert ours["definitions"]["InputParameters"]["properties"]["x"] == {"description": "tensor"}


def test_a_service_without_parameters_still_has_both_records() -> None:
    definitions = document()["definitions"]
    assert definitions["InputParameters"] == {"type": "object", "properties": {}}
    assert definitions["OutputParameters"] == {"type": "object", "properties": {}}


def test_artifacts_are_described_only_where_output_files_are_declared() -> None:
    without = document()["definitions"]["WebServiceResult"]["properties"]
    with_files = document(output_files=["plot.png"])["definitions"]["WebServiceResult"]["properties"]
    assert list(without) == ["success", "errorMessage", "consoleOutput", "changedFiles", "outputParameters"]
    assert list(with_files) == [*list(without)[:-1], "outputFiles", "outputParameters"]


def test_without_an_alias_the_operation_is_called_consume_web_service() -> None:
    for missing in (None, ""):
        assert document(operation_id=missing)["paths"]["/api/Tx/1.0"]["post"]["operationId"] == "ConsumeWebService"
    assert document(operation_id="predict")["paths"]["/api/Tx/1.0"]["post"]["operationId"] == "predict"


def test_without_a_description_it_is_empty() -> None:
    ours = document()
    assert ours["info"]["description"] == ""
    assert ours["tags"] == [{"name": "Tx", "description": ""}]


@pytest.mark.parametrize(
    ("name", "version", "path"),
    [
        ("My Model", "v 1", "/api/My%20Model/v%201"),
        ("Mödel", "1.0", "/api/M%C3%B6del/1.0"),
        ("a+b@c~d_e-f", "1", "/api/a%2Bb%40c~d_e-f/1"),
    ],
)
def test_a_path_is_a_url_and_every_other_place_has_the_name_itself(name: str, version: str, path: str) -> None:
    ours = document(name, version)
    service_paths = [at for at in ours["paths"] if not at.startswith("/login")]
    assert service_paths[0] == path
    assert all(at.startswith(path) and at.isascii() and " " not in at for at in service_paths)
    assert ours["info"]["title"] == name
    assert ours["info"]["version"] == version
    post = ours["paths"][path]["post"]
    assert post["tags"] == [tag["name"] for tag in ours["tags"]] == [name]
    assert post["description"] == f"Consume the {name} web service."


def test_only_signing_in_needs_no_token() -> None:
    paths = document()["paths"]
    operations = {verb["operationId"]: verb for path in paths.values() for verb in path.values()}
    assert {name for name, verb in operations.items() if verb.get("security") == [{"Bearer": []}]} == OPERATIONS
    assert operations.keys() - OPERATIONS == {"login", "renewToken", "revokeRefreshToken"}


def test_every_reference_leads_to_a_definition_and_every_definition_is_used() -> None:
    ours = document(signature=TRANSMISSION, output_files=["a"])
    used = {at.rpartition("/")[2] for at in references(ours)}
    assert used == ours["definitions"].keys()


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        here = [node["$ref"]] if "$ref" in node else []
        return here + [at for child in node.values() for at in references(child)]
    return [at for child in node for at in references(child)] if isinstance(node, list) else []


def test_every_part_of_a_path_in_braces_is_a_parameter_of_its_operations() -> None:
    for path, operations in document()["paths"].items():
        braces = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
        for operation in operations.values():
            parameters = operation.get("parameters", [])
            assert [one["name"] for one in parameters if one["in"] == "path"] == braces


def test_a_document_is_the_callers_own() -> None:
    before = json.dumps(document())
    changed = document()
    changed["definitions"]["Error"]["properties"]["code"].clear()
    changed["consumes"].clear()
    assert json.dumps(document()) == before
