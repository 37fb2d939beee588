"""The documents of the API: valid, complete, and the original's but for what is listed here by name."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import ValidationError
from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV31SpecValidator

from mlhost.http.app import documents
from mlhost.http.guard import ANYONE, PERMISSIONS
from mlhost.openapi import service_document
from mlhost.params.signature import Signature
from tests.conformance import Contract
from tests.parts import SHARED, Api

Json = dict[str, Any]
SWAGGER: Json = json.loads(documents().swagger)
OPENAPI: Json = json.loads(documents().openapi)
OFFICIAL = {
    "9.1.0": SHARED / "contract" / "rserver-swagger-9.1.0.json",
    "9.3.0": SHARED / "contract" / "mlserver-swagger-9.3.0.json",
}
official = pytest.mark.skipif(
    not all(file.is_file() for file in OFFICIAL.values()),
    reason="the official documents (../shared/contract) are absent",
)

REFUSAL = {"message": "why", "link": "", "exceptionType": "", "code": 401, "fields": ""}
ALONE = {("GET", "/swagger.json"), ("GET", "/openapi.json")}  # told by no document: they are the documents
# Told by their RFCs and by the metadata: they take forms and refuse in a shape of their own.
OAUTH = {route for route in PERMISSIONS if "oauth" in route[1]}
# Nothing that a program calls.
FOR_BROWSERS = {
    route for route in PERMISSIONS if route[1] == "/" or route[1].startswith(("/console", "/static", "/login/oidc"))
}


# --- valid and complete


def test_the_openapi_document_is_valid() -> None:
    assert not list(OpenAPIV31SpecValidator(OPENAPI).iter_errors())


def test_the_swagger_document_is_valid() -> None:
    """The validator does not know `file`, the type of an answer that is one (Swagger 2.0, Response Object)."""
    assert {error.instance for error in OpenAPIV2SpecValidator(SWAGGER).iter_errors()} == {"file"}


def test_every_route_is_told_by_both_documents_or_by_those_of_services() -> None:
    in_service = addresses(service_document("NAME", "VERSION", None, None, Signature((), ()), ()))
    consumption = {
        (method, path.replace("NAME", "{name}").replace("VERSION", "{version}")) for method, path in in_service
    }
    assert addresses(SWAGGER) == addresses(OPENAPI)
    assert addresses(SWAGGER) | ALONE | OAUTH | FOR_BROWSERS | consumption == PERMISSIONS.keys()


def addresses(document: Json) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, item in document["paths"].items() for method in item}


def test_every_operation_has_a_name_of_its_own_a_summary_and_a_known_tag() -> None:
    for document in (SWAGGER, OPENAPI):
        told = [operation for item in document["paths"].values() for operation in item.values()]
        assert len({operation["operationId"] for operation in told}) == len(told)
        assert len({operation["summary"] for operation in told}) == len(told)
        assert all(operation["summary"] for operation in told)
        assert {operation["tags"][0] for operation in told} == {tag["name"] for tag in document["tags"]}
    assert operations(SWAGGER).keys() == operations(OPENAPI).keys()


def test_additions_to_the_original_say_that_they_are() -> None:
    assert all(
        "original" in operations(SWAGGER)[name]["description"] for name in ("livez", "readyz", "createPersonalToken")
    )
    for definition, name in (
        ("CreateSessionRequest", "placement"),
        ("PublishWebServiceRequest", "placement"),
        ("CreateSnapshotRequest", "strict"),
        ("ServicePoolStatusResponse", "busy"),
    ):
        for schemas in (SWAGGER["definitions"], OPENAPI["components"]["schemas"]):
            assert "not in the original" in schemas[definition]["properties"][name]["description"].lower()


def test_every_path_parameter_and_every_refusal_is_told() -> None:
    for (method, path), permission in PERMISSIONS.items():
        operation = OPENAPI["paths"].get(path, {}).get(method.lower())
        if operation is None:
            continue
        told = [one["name"] for one in operation.get("parameters", []) if one["in"] == "path"]
        assert told == [part.strip("{}") for part in path.split("/") if part.startswith("{")]
        assert operation["security"] == ([] if permission is ANYONE else [{"Bearer": []}])
        assert "500" in operation["responses"]
        if permission is not ANYONE:
            assert {"401", "403", "503"} <= operation["responses"].keys()
        if "requestBody" in operation:
            assert {"400", "413"} <= operation["responses"].keys()
        for status, answer in operation["responses"].items():
            if status >= "400" and operation["operationId"] != "readyz":
                error = {"$ref": "#/components/schemas/Error"}
                assert answer["content"] == {"application/json": {"schema": error}}


def test_headers_of_answers_are_told() -> None:
    told = operations(OPENAPI)
    for name in ("createSession", "CreateSnapshot", "publishWebService", "publishRealtimeWebServiceByNameVersion"):
        assert told[name]["responses"]["201"]["headers"]["Location"]["required"]
    assert "headers" not in told["uploadSessionFile"]["responses"]["201"]
    for operation in told.values():
        answers = operation["responses"]
        assert answers.get("401", {"headers": {"WWW-Authenticate": {}}})["headers"].keys() == {"WWW-Authenticate"}
    assert told["createSession"]["responses"]["503"]["headers"]["Retry-After"]["schema"] == {"type": "integer"}


def test_an_id_is_said_to_be_that_of_a_session_or_of_a_snapshot() -> None:
    for document in (SWAGGER, OPENAPI):
        for noun in ("session", "snapshot"):
            [told, *_] = document["paths"][f"/{noun}s/{{id}}"]["delete"]["parameters"]
            assert told["description"] == f"Id of the {noun}."


def test_bodies_tell_their_required_properties_and_their_types() -> None:
    schemas = OPENAPI["components"]["schemas"]
    assert schemas["LoginRequest"]["required"] == ["username", "password"]
    assert schemas["ExecuteRequest"]["required"] == ["code"]
    assert schemas["CreateSnapshotRequest"]["properties"]["name"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    upload = OPENAPI["paths"]["/sessions/{id}/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert upload["required"] == ["file"]


def test_an_operation_that_answers_with_a_file_says_that_its_refusals_are_json() -> None:
    in_swagger = operations(SWAGGER)
    assert in_swagger["GetSnapshotContent"]["produces"] == ["application/zip", "application/json"]
    for name in ("getSessionFile", "getWorkspaceObject"):
        assert in_swagger[name]["produces"] == ["application/octet-stream", "application/json"]


def example(operation_id: str) -> Any:
    return operations(OPENAPI)[operation_id]["requestBody"]["content"]["application/json"]["example"]


async def test_the_examples_of_bodies_work(admin: Api) -> None:
    opened = await admin("POST", "/sessions", 201, example("createSession"))
    session = f"/sessions/{opened['sessionId']}"
    done = await admin("POST", f"{session}/execute", 200, example("executeCode"))
    assert done["outputParameters"] == [{"name": "y", "value": 42}]
    taken = await admin("POST", f"{session}/snapshot", 201, example("CreateSnapshot"))
    await admin("DELETE", f"/snapshots/{taken['snapshotId']}")
    await admin("DELETE", session)
    for name in ("publishWebService", "publishWebServiceVersion"):
        await admin("POST", "/services/exemplary/1", 201, example(name))
        await admin("PATCH", "/services/exemplary/1", 200, example("patchWebServiceVersion"))
        await admin("POST", "/services/exemplary/1/pool", 200, example("createOrUpdateServicePool"))
        assert (await admin("POST", "/api/exemplary/1", 200, {"x": 2}))["outputParameters"] == {"y": 4}
        await admin("DELETE", "/services/exemplary/1")
    assert example("login").keys() == {"username", "password"}


# --- served, and kept


async def test_anyone_may_read_the_documents(anonymous: Api, admin: Api) -> None:
    for api in (anonymous, admin):
        assert await api("GET", "/swagger.json") == SWAGGER
        assert await api("GET", "/openapi.json") == OPENAPI


def test_an_answer_that_is_not_told_is_caught() -> None:
    contract, json_type = Contract(OPENAPI), "application/json"
    contract.check("GET", "/sessions/abc/history", 200, json_type, b'["x = 1"]')
    contract.check("DELETE", "/login/refreshToken/a/b+c=", 200, json_type, b"{}")
    contract.check("DELETE", "/login/refreshToken/a\nb", 401, json_type, json.dumps(REFUSAL).encode())
    contract.check("GET", "/unheard/of", 200, json_type, b"")
    name = "revokeRefreshTokenByPath"
    assert contract.seen == {("listSessionHistory", 200), (name, 200), (name, 401)}
    for status, kind, body in (
        (201, json_type, b'["x = 1"]'),
        (200, "text/plain", b'["x = 1"]'),
        (200, json_type, b"[1]"),
        (409, json_type, b'{"message": "why"}'),
        (404, json_type, b'{"message": "why"}'),
    ):
        with pytest.raises((AssertionError, ValidationError)):
            contract.check("GET", "/sessions/abc/history", status, kind, body)
    with pytest.raises(AssertionError):
        contract.check("DELETE", "/services/a/1", 200, json_type, b"{}")


# --- every difference from the original's documents, and why -------------------------------------------------------

DELIBERATE = {
    # What the original does not have.
    "adds operation revokeRefreshTokenByPath": "the previews of 9.0 and 9.1 spelled it so",
    "adds operation livez": "for whoever watches the process",
    "adds operation readyz": "for whoever sends it traffic",
    "adds definition Health": "what these two answer",
    "adds operation getMetrics": "for Prometheus",
    "adds operation getMetricsHistory": "for charts",
    "adds definition MetricsHistory": "what it answers",
    "adds operation getBackup": "a copy of a running server",
    "adds operation listUsers": "users of a running server",
    "adds operation createUser": "users of a running server",
    "adds operation updateUser": "users of a running server",
    "adds operation revokeUserTokens": "users of a running server",
    "adds definition UserResponse": "what these take and give",
    "adds definition CreateUserRequest": "what these take and give",
    "adds definition UpdateUserRequest": "what these take and give",
    "adds operation listPersonalTokens": "for scripts, which should not hold a password",
    "adds operation createPersonalToken": "for scripts, which should not hold a password",
    "adds operation deletePersonalToken": "for scripts, which should not hold a password",
    "adds definition PersonalTokenResponse": "what these three take and give",
    "adds definition CreatePersonalTokenRequest": "what these three take and give",
    "adds definition CreatePersonalTokenResponse": "what these three take and give",
    "adds operation getWorkspaceObjectValue": "for clients that open no pickles",
    "adds definition ObjectValue": "what it gives",
    "adds definition Revoked": "an empty object, as the original's texts have it",
    "adds property CreateSessionRequest.placement": "where code runs can be chosen",
    "adds property PublishWebServiceRequest.placement": "where code runs can be chosen",
    "adds property WebService.placement": "where code runs can be chosen",
    "adds property Session.placement": "where code runs can be chosen",
    "adds property Session.pythonVersion": "workers may run another Python than the server",
    "adds property WebService.pythonVersion": "workers may run another Python than the server",
    "adds property WebService.engine": "a model may be compiled",
    "adds property WebService.engineReason": "a model may be compiled",
    "adds property CreateSnapshotRequest.strict": "an incomplete snapshot can be refused",
    "adds property AccessTokenResponse.expires_in": "sent by the original, and missing from its documents",
    "adds property Error.code": "the original's service documents have it, and one error serves both",
    "adds property Error.fields": "the original's service documents have it, and one error serves both",
    # What the original says and does not do.
    "changes the answer 200 of revokeRefreshToken": "it is empty, as the original's texts have it",
    "changes property Snapshot.creationTime": "a time, not a day",
    # Bodies that are no JSON.
    "produces of getSessionFile": "bytes, and JSON only where it is refused",
    "produces of getWorkspaceObject": "bytes, and JSON only where it is refused",
    "produces of GetSnapshotContent": "a zip, and JSON only where it is refused",
    "produces of uploadSessionFile": "an empty body has no type",
    # What cannot happen here.
    "never 400: GetWebServiceSwagger": "any name can be asked for",
}
REQUIRED = {  # What is always there; the original says so in words only, or not at all.
    "AccessTokenResponse: token_type, access_token, expires_in, expires_on, refresh_token",
    "ConsoleOutputResponse: consoleOutput",
    "CreateSessionResponse: sessionId",
    "CreateSnapshotResponse: snapshotId",
    "Error: message, link, exceptionType, code, fields",
    "ExecuteRequest: code",
    "ExecuteResponse: success, errorMessage, outputParameters, consoleOutput, changedFiles",
    "LoginRequest: username, password",
    "ParameterDefinition: name, type",
    "RenewTokenRequest: refreshToken",
    "Session: id, name, owner, runtimeType",
    "Snapshot: id, name, owner, creationTime, contentSize",
    "StatusResponse: statusCode, details",
    "WebService: versionPublishedBy, creationTime, runtimeType, inputParameterDefinitions,"
    " outputParameterDefinitions, outputFileNames, myPermissionOnService",
    "WorkspaceObject: name",
}
SINCE_9_1 = {
    "adds definition CreateOrUpdateServicePoolRequest": "9.3",
    "adds definition GetComputeNodesResponse": "9.2.1",
    "adds definition ServicePoolStatusResponse": "9.3",
    "adds definition UpdateComputeNodesRequest": "9.2.1",
    "adds operation addComputeNode": "9.2.1",
    "adds operation createOrUpdateServicePool": "9.3",
    "adds operation deleteServicePool": "9.3",
    "adds operation getComputeNodes": "9.2.1",
    "adds operation getServicePoolStatus": "9.3",
    "adds operation removeComputeNode": "9.2.1",
    "adds operation setComputeNodes": "9.2.1",
}
IN_9_3 = {
    "adds property ServicePoolStatusResponse.busy": "what the workers do can be seen",
    "adds property ServicePoolStatusResponse.idle": "what the workers do can be seen",
    "adds property ServicePoolStatusResponse.starting": "what the workers do can be seen",
    "adds property ServicePoolStatusResponse.waiting": "what the workers do can be seen",
    "adds property ServicePoolStatusResponse.calls": "where the time goes can be seen",
    "adds property ServicePoolStatusResponse.queueSeconds": "where the time goes can be seen",
    "adds property ServicePoolStatusResponse.runSeconds": "where the time goes can be seen",
    "adds property ServicePoolStatusResponse.initialPoolSize": "the bounds in force can be seen",
    "adds property ServicePoolStatusResponse.maxPoolSize": "the bounds in force can be seen",
    "never 400: deleteServicePool": "there is nothing to be got wrong",
    "requires ServicePoolStatusResponse: ComputeNodeEndpoint, Status, busy, idle, starting, waiting, initialPoolSize,"
    " maxPoolSize, calls, queueSeconds, runSeconds": "as REQUIRED",
    "requires GetComputeNodesResponse: computeNodes": "as REQUIRED",
    "requires UpdateComputeNodesRequest: entries": "as REQUIRED",
}
LISTED = {
    "9.1.0": DELIBERATE.keys() | SINCE_9_1.keys() | {f"requires {one}" for one in REQUIRED},
    "9.3.0": DELIBERATE.keys() | IN_9_3.keys() | {f"requires {one}" for one in REQUIRED},
}
ADDED_STATUSES = {
    "400": "names and bodies are checked everywhere, and code may fail",
    "403": "a user without a role may do nothing",
    "404": "what is not there is said to be so everywhere",
    "408": "a body may come too slowly",
    "409": "a file may be a folder; the text of the original says 403 where a version is taken",
    "410": "a session whose worker died tells how, whatever is asked of it",
    "413": "a body may be too large",
    "429": "whoever fails to log in too often waits",
    "500": "a fault of ours",
    "503": "all workers may be busy, the disk may be full",
}


@official
@pytest.mark.parametrize("version", OFFICIAL)
def test_the_swagger_document_differs_from_the_official_one_as_listed_and_not_otherwise(version: str) -> None:
    theirs = json.loads(OFFICIAL[version].read_text("utf-8-sig"))
    assert set(differences(theirs, SWAGGER)) == LISTED[version]


@official
def test_the_statuses_of_errors_that_are_added_are_these() -> None:
    known, here = operations(json.loads(OFFICIAL["9.3.0"].read_text("utf-8-sig"))), operations(SWAGGER)
    assert set().union(*(refusals(here[name]) - refusals(known[name]) for name in known)) == ADDED_STATUSES.keys()


def differences(theirs: Json, ours: Json) -> Iterator[str]:
    """All there are, but for prose and the statuses of errors that are added."""
    yield from (
        f"{key} of the document" for key in ("swagger", "schemes", "consumes", "produces") if theirs[key] != ours[key]
    )
    yield from () if theirs["info"]["title"] == ours["info"]["title"] else ["the title"]
    known, here = operations(theirs), operations(ours)
    yield from (f"adds operation {name}" for name in here.keys() - known.keys())
    yield from (f"lacks operation {name}" for name in known.keys() - here.keys())
    for name in known.keys() & here.keys():
        yield from operation_differences(name, known[name], here[name])
    yield from (f"adds definition {name}" for name in ours["definitions"].keys() - theirs["definitions"].keys())
    yield from (f"lacks definition {name}" for name in theirs["definitions"].keys() - ours["definitions"].keys())
    for name in theirs["definitions"].keys() & ours["definitions"].keys():
        yield from definition_differences(name, theirs["definitions"][name], ours["definitions"][name])


def operations(document: Json) -> dict[str, Json]:
    """By id; with the address."""
    return {
        operation["operationId"]: {"address": (method, path), **operation}
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def operation_differences(name: str, theirs: Json, ours: Json) -> Iterator[str]:
    for key in ("address", "tags", "consumes", "produces"):
        if theirs.get(key) != ours.get(key):
            yield f"{key} of {name}"
    if bare(theirs.get("parameters", [])) != bare(ours.get("parameters", [])):
        yield f"parameters of {name}"
    if theirs["responses"].keys() != ours["responses"].keys():
        yield f"answers of {name}"
    for status in theirs["responses"].keys() & ours["responses"].keys():
        if bare(theirs["responses"][status].get("schema")) != bare(ours["responses"][status].get("schema")):
            yield f"changes the answer {status} of {name}"
    yield from (f"never {status}: {name}" for status in sorted(refusals(theirs) - refusals(ours)))


def refusals(operation: Json) -> set[str]:
    """The statuses that the description of the default answer names, each in backticks."""
    return set(operation["responses"]["default"]["description"].split("`")[1::2])


def definition_differences(name: str, theirs: Json, ours: Json) -> Iterator[str]:
    known, here = theirs.get("properties", {}), ours.get("properties", {})
    yield from (f"adds property {name}.{one}" for one in here.keys() - known.keys())
    yield from (f"lacks property {name}.{one}" for one in known.keys() - here.keys())
    yield from (
        f"changes property {name}.{one}" for one in known.keys() & here.keys() if bare(known[one]) != bare(here[one])
    )
    if [one for one in here if one in known] != [one for one in known if one in here]:
        yield f"order of {name}"
    if more := set(ours.get("required", [])) - set(theirs.get("required", [])):
        yield f"requires {name}: {', '.join(one for one in here if one in more)}"
    yield from (
        f"never requires {name}.{one}" for one in set(theirs.get("required", [])) - set(ours.get("required", []))
    )
    rest = (
        {key: value for key, value in one.items() if key not in ("properties", "required")} for one in (theirs, ours)
    )
    if bare(next(rest)) != bare(next(rest)):
        yield f"changes definition {name}"


def bare(node: Any) -> Any:
    """Without prose, the order of an enumeration, and what only says that null may come."""
    if isinstance(node, dict):
        node = node | {"enum": sorted(node["enum"])} if "enum" in node else node
        return {key: bare(value) for key, value in node.items() if key not in ("description", "example", "x-nullable")}
    return [bare(one) for one in node] if isinstance(node, list) else node
