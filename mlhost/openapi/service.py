"""A service version described as a Swagger 2.0 document, after the original's template (contract section 7).

Pure functions on plain data. Generated clients name classes after the title and methods after the operation
ids, so names, sentences and the order of keys are the original's, slips included.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any
from urllib.parse import quote

from mlhost.params.signature import Parameter, Signature
from mlhost.params.types import lookup

Json = dict[str, Any]

DEFAULT_OPERATION_ID = "ConsumeWebService"
JSON_ONLY = ["application/json"]

NO_SERVICE = "404 - Web service not found"
NO_EXECUTION = "404 - Execution not found"
NO_FILE = "404 - File not found"
BAD_REQUEST = "400 - Bad request"
EXPIRED = "401 - Invalid or expired refresh token"


def service_document(
    name: str,
    version: str,
    description: str | None,
    operation_id: str | None,
    signature: Signature,
    output_files: Sequence[str],
) -> Json:
    """The document of one service version; `operation_id` is the method its consumers call.

    Clients append paths to the server's address as they stand, and a blank or an `é` is not allowed in a URL:
    there name and version are percent-encoded. Title, tags and sentences keep the name as it is.
    """
    about = description or ""
    document = {
        "swagger": "2.0",
        "info": {"description": about, "title": name, "version": version},
        "schemes": ["http", "https"],
        "securityDefinitions": {"Bearer": {"type": "apiKey", "name": "Authorization", "in": "header"}},
        "tags": [{"name": name, "description": about}],
        "consumes": JSON_ONLY,
        "produces": JSON_ONLY,
        "paths": {
            **_login_paths(),
            **_service_paths(name, version, operation_id or DEFAULT_OPERATION_ID),
        },
        "definitions": {
            "InputParameters": _record(_parameters(signature.inputs)),
            "OutputParameters": _record(_parameters(signature.outputs)),
            "Error": ERROR,
            "WebServiceResult": _result(with_files=bool(output_files)),
            "StartBatchExecutionResponse": BATCH_STARTED,
            "BatchWebServiceResult": BATCH_RESULT,
            "LoginRequest": LOGIN_REQUEST,
            "RenewTokenRequest": RENEW_TOKEN_REQUEST,
            "AccessTokenResponse": ACCESS_TOKEN_RESPONSE,
        },
    }
    return deepcopy(document)  # the caller's own: the parts below serve every document


def _login_paths() -> Json:
    token = {"name": "refreshToken", "in": "query", "description": "The refresh token to be revoked"}
    return {
        "/login": {
            "post": _login(
                "login",
                "Logs the user in",
                _body("loginRequest", _ref("LoginRequest")),
                "Login successful",
                "401 - Invalid Password",
            ),
        },
        "/login/refreshToken": {
            "post": _login(
                "renewToken",
                "The user renews access token and refresh token",
                _body("renewTokenRequest", _ref("RenewTokenRequest")),
                "Access token and refresh token updated successfully",
                EXPIRED,
            ),
            "delete": _login(
                "revokeRefreshToken",
                "The user revokes a refresh token",
                {**token, "required": True, "type": "string"},
                "Refresh token updated successfully",
                EXPIRED,
            ),
        },
    }


def _login(operation_id: str, summary: str, parameter: Json, success: str, failure: str) -> Json:
    """An operation that needs no token and answers with a pair of them."""
    return {
        "operationId": operation_id,
        "summary": summary,
        "parameters": [parameter],
        "tags": ["User"],
        "responses": {"200": _answer(success, _ref("AccessTokenResponse")), "default": _failures(failure)},
    }


def _service_paths(name: str, version: str, operation_id: str) -> Json:
    service = f"/api/{quote(name, safe='')}/{quote(version, safe='')}"
    batch = f"{service}/batch"
    execution = f"{batch}/{{executionId}}"
    files = f"{execution}/{{index}}/files"
    return {
        service: {"post": _consume(name, operation_id)},
        batch: {"post": _start_batch(name), "get": _list_batches(name)},
        execution: {"get": _batch_status(name), "delete": _cancel_batch(name)},
        files: {"get": _list_files(name)},
        f"{files}/{{fileName}}": {"get": _get_file(name)},
    }


def _consume(name: str, operation_id: str) -> Json:
    parameter = _body("WebServiceParameters", _ref("InputParameters"), INPUTS)
    return {
        **_secured(name),
        "description": f"Consume the {name} web service.",
        "operationId": operation_id,
        "parameters": [parameter],
        "responses": _run_responses("200", _answer("OK", _ref("WebServiceResult"))),
    }


def _start_batch(name: str) -> Json:
    parameter = _body("BatchWebServiceParameters", _list_of(_ref("InputParameters")), INPUTS)
    return {
        **_secured(name),
        "description": f"Consume the {name} web service asynchronously.",
        "operationId": "StartBatchExecution",
        "parameters": [parameter, PARALLEL_COUNT],
        "responses": _run_responses("202", _answer("Accepted", _ref("StartBatchExecutionResponse"))),
    }


def _run_responses(status: str, answer: Json) -> Json:
    return {
        status: answer,
        "400": {"description": "Bad Request."},
        "500": {"description": "Internal Server Error."},
        "default": _answer("Unexpected error.", _ref("Error")),
    }


def _list_batches(name: str) -> Json:
    return {
        **_batch(name, f"Gets all batch executions for {name}.", "GetBatchExecutions"),
        "responses": _responses(_list_of(TEXT), NO_SERVICE, BAD_REQUEST),
    }


def _batch_status(name: str) -> Json:
    return {
        **_batch(name, f"Gets all batch executions for {name}.", "GetBatchExecutionStatus"),
        "parameters": [EXECUTION_ID, SHOW_PARTIAL_RESULTS],
        "responses": _responses(_ref("BatchWebServiceResult"), NO_SERVICE, NO_EXECUTION, BAD_REQUEST),
    }


def _cancel_batch(name: str) -> Json:
    execution_id = EXECUTION_ID | {"description": "Execution id of the execution."}  # the original's full stop
    return {
        **_batch(name, f"Cancels and deletes all batch executions for {name}.", "CancelAndDeleteBatchExecution"),
        "parameters": [execution_id],
        "responses": _responses(_list_of(TEXT), NO_SERVICE, NO_EXECUTION, BAD_REQUEST),
    }


def _list_files(name: str) -> Json:
    return {
        **_batch(name, f"Gets all files from an individual execution in {name}.", "GetBatchExecutionFiles"),
        "parameters": [EXECUTION_ID, INDEX],
        "responses": _responses(_list_of(TEXT), NO_SERVICE, NO_EXECUTION, BAD_REQUEST),
    }


def _get_file(name: str) -> Json:
    return {
        **_batch(name, f"Gets a specific file from an execution in {name}.", "GetBatchExecutionFile"),
        "parameters": [EXECUTION_ID, INDEX, FILE_NAME],
        "responses": _responses({"type": "file"}, NO_SERVICE, NO_EXECUTION, NO_FILE, BAD_REQUEST),
    }


def _secured(name: str) -> Json:
    return {"security": [{"Bearer": []}], "tags": [name]}


def _batch(name: str, summary: str, operation_id: str) -> Json:
    return {
        **_secured(name),
        "summary": summary,
        "operationId": operation_id,
        "consumes": JSON_ONLY,
        "produces": JSON_ONLY,
    }


def _responses(schema: Json, *failures: str) -> Json:
    return {"200": _answer("OK", schema), "default": _failures(*failures)}


def _failures(*lines: str) -> Json:
    return _answer("Error" + "".join(f" \n * {line}" for line in lines), _ref("Error"))


def _answer(description: str, schema: Json) -> Json:
    return {"description": description, "schema": schema}


def _body(name: str, schema: Json, description: str = "") -> Json:
    about = {"description": description} if description else {}
    return {"name": name, "in": "body", "required": True, **about, "schema": schema}


def _in_path(name: str, description: str, kind: str) -> Json:
    return {"name": name, "in": "path", "description": description, "required": True, "type": kind}


def _in_query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "required": False, **schema}


def _ref(definition: str) -> Json:
    return {"$ref": f"#/definitions/{definition}"}


def _list_of(items: Json) -> Json:
    return {"type": "array", "items": items}


def _record(properties: Json) -> Json:
    return {"type": "object", "properties": properties}


def _parameters(parameters: Sequence[Parameter]) -> Json:
    return {parameter.name: _described(lookup(parameter.type).schema, parameter.type) for parameter in parameters}


def _described(schema: Json, description: str) -> Json:
    return {**schema, "description": description}


def _result(*, with_files: bool) -> Json:
    files = {"outputFiles": {"type": "object", "additionalProperties": {"type": "string", "format": "byte"}}}
    return _record(
        {
            **RESULT,
            **(files if with_files else {}),
            "outputParameters": _ref("OutputParameters"),
        }
    )


TEXT: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "format": "int32"}

INPUTS = "Input parameters to the web service."
EXECUTION_ID = _in_path("executionId", "Execution id of the execution", "string")
INDEX = _in_path("index", "Index of the execution in the batch.", "integer")
FILE_NAME = _in_path("fileName", "Name of the file to be returned.", "string")
PARALLEL_COUNT = _in_query(
    "parallelCount",
    "Number of threads used to process entries in the batch. Default value is 10. "
    "Please make sure not to use too high of a number because it might negatively impact performance.",
    COUNT,
)
SHOW_PARTIAL_RESULTS = _in_query(
    "showPartialResults",
    "Returns the already processed results of the batch execution even if it hasn't been fully completed.",
    {"type": "boolean"},
)

ERROR = _record({"code": COUNT, "message": TEXT, "fields": TEXT})
RESULT: Json = {
    "success": {
        "type": "boolean",
        "description": "Boolean flag indicating the success status of web service execution.",
    },
    "errorMessage": _described(TEXT, "Error messages if any occurred during the web service execution."),
    "consoleOutput": _described(TEXT, "Console output from the web service execution."),
    "changedFiles": _described(
        _list_of(_described(TEXT, "The filename of a modified file during the web service execution.")),
        "The filenames of the files modified during the web service execution.",
    ),
}
BATCH_STARTED = _record({"batchExecutionId": _described(TEXT, "Id of the asynchronous execution.")})
BATCH_RESULT = _record(
    {
        "state": {
            "type": "string",
            "enum": ["pending", "inProgress", "ready", "complete"],
            "description": "State of the execution. Can be of the following values:\n"
            " - Pending: The batch execution was submitted but is not yet scheduled.\n"
            "Ready: The batch execution was submitted and can be executed.\n"
            "InProgress: The batch execution is currently being processed.\n"
            "Complete: The batch execution has been completed.",
        },
        "completedItemCount": _described(COUNT, "Number of completed items in this batch operation."),
        "totalItemCount": _described(COUNT, "Number of total items in this batch operation."),
        "batchExecutionResults": _described(
            _list_of(_ref("WebServiceResult")), "The responses of the individual executions."
        ),
    }
)
LOGIN_REQUEST = _record(
    {
        "username": _described(TEXT, "The name of the user."),
        "password": _described(TEXT, "The password of the user."),
    }
)
RENEW_TOKEN_REQUEST = _record({"refreshToken": _described(TEXT, "A currently valid refresh token.")})
ACCESS_TOKEN_RESPONSE = _record(dict.fromkeys(("token_type", "access_token", "expires_on", "refresh_token"), TEXT))
