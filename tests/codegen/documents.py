"""Documents to generate from: those of the original server, and one with everything odd in it."""

from pathlib import Path
from typing import Any

import pytest

from mlhost.codegen import generate
from tests.parts import SHARED

# file: namespace, class
OFFICIAL = {
    "mlserver-swagger-9.3.0.json": ("deployrclient", "DeployRClient"),
    "rserver-swagger-9.1.0.json": ("rserver", "MRSServer"),
    "TxService-1.0.swagger.json": ("tx", "TxService"),
    "WeatherService.swagger.json": ("weather", "WeatherService"),
}
LONG = "aPropertyWithANameSoLongThatItDoesNotFitIntoALineOfAnyFormatterWhateverYouTryToDoAboutIt"


def official(name: str) -> bytes:
    """One of the original server's documents; the test is skipped where it is not beside the project."""
    path = SHARED / "contract" / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    return path.read_bytes()


def generate_official(name: str, output: Path) -> None:
    generate(official(name), *OFFICIAL[name], output)


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/definitions/{name}"}


def answers(schema: Any = None, status: int = 200) -> dict[str, Any]:
    answer = {"description": "OK"} | ({"schema": schema} if schema is not None else {})
    return {str(status): answer, "default": {"description": "Bad", "schema": ref("Fault")}}


ODD: dict[str, Any] = {
    "swagger": "2.0",
    "info": {"title": 'Odd "things"\n', "version": "1", "description": 'Ends with a quote "'},
    "host": "odd.example:8080",
    "basePath": "/base/",
    "schemes": ["https"],
    "parameters": {"Trace": {"name": "X-Trace", "in": "header", "type": "string"}},
    "responses": {"Gone": {"description": "It ended", "schema": ref("Ended")}},
    "paths": {
        "/echo/{from}/{name}": {
            "parameters": [
                {"name": "from", "in": "path", "required": True, "type": "string"},
                {"$ref": "#/parameters/Trace"},
            ],
            "post": {
                "operationId": "import",
                "summary": 'Says """ and \\ and more',
                "parameters": [
                    {"name": "name", "in": "query", "type": "array", "items": {"type": "string"}},
                    {"name": "name", "in": "path", "required": True, "type": "integer"},
                    {"name": "count", "in": "query", "type": "integer", "default": 3},
                    {"name": "flag", "in": "query", "type": "boolean", "default": False},
                    {
                        "name": "many",
                        "in": "query",
                        "type": "array",
                        "items": {"type": "number"},
                        "collectionFormat": "multi",
                    },
                    {"name": "since", "in": "query", "type": "string", "format": "date-time"},
                    {"name": "body", "in": "body", "schema": ref("thing.v-1")},
                ],
                "responses": answers(ref("thing.v-1")) | {"410": {"$ref": "#/responses/Gone"}},
            },
        },
        "/text": {
            "put": {
                "operationId": "Texts_put_one",
                "consumes": ["text/plain"],
                "produces": ["text/plain"],
                "parameters": [{"name": "text", "in": "body", "required": True, "schema": {"type": "string"}}],
                "responses": answers({"type": "string"}),
            },
            "post": {
                "operationId": "Texts_quote",
                "consumes": ["application/xml", "application/json"],
                "produces": ["application/xml", "application/json"],
                "parameters": [{"name": "text", "in": "body", "required": True, "schema": {"type": "string"}}],
                "responses": answers({"type": "string"}),
            },
        },
        "/form": {
            "post": {
                "operationId": "send_form",
                "consumes": ["application/x-www-form-urlencoded"],
                "parameters": [
                    {"name": "a b", "in": "formData", "type": "string", "required": True},
                    {"name": "ok", "in": "formData", "type": "boolean"},
                ],
                "responses": answers(status=204),
            },
            "put": {
                "operationId": "sendForm",
                "consumes": ["multipart/form-data"],
                "parameters": [{"name": "note", "in": "formData", "type": "string"}],
                "responses": answers(),
            },
        },
        "/file": {
            "post": {
                "operationId": "upload",
                "consumes": ["multipart/form-data"],
                "parameters": [
                    {"name": "note", "in": "formData", "type": "string"},
                    {"name": "file", "in": "formData", "type": "file", "required": True},
                ],
                "responses": answers(status=201),
            },
            "get": {"operationId": "download", "responses": answers({"type": "file"})},
            "put": {
                "operationId": "replace",
                "consumes": ["application/octet-stream"],
                "parameters": [
                    {
                        "name": "content",
                        "in": "body",
                        "required": True,
                        "schema": {"type": "string", "format": "binary"},
                    }
                ],
                "responses": answers(ref("Names"), status=202) | {"200": {"description": "Nothing new"}},
            },
        },
        "/no id/{x}": {
            "get": {
                "parameters": [{"name": "x", "in": "path", "required": True, "type": "string"}],
                "responses": {"default": {"description": "Whatever", "schema": {"type": "object"}}},
            },
        },
        "/close": {
            "post": {"operationId": "close", "responses": answers({"type": "array", "items": ref("Colour")})},
            "x-note": "not an operation",
        },
        "x-paths": {},
    },
    "definitions": {
        "Fault": {"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}},
        "FaultException": {"type": "object", "properties": {"list": {"type": "string"}}},
        "Ended": {"type": "object", "properties": {"message": {"type": "string"}, "at": {"type": "string"}}},
        "Names": {"type": "object", "additionalProperties": ref("Colour")},
        "Colour": {"type": "string", "enum": ["red", "dark blue", "None", "", "2nd"]},
        "Base": {"type": "object", "required": ["kind"], "properties": {"kind": {"type": "integer", "default": 1}}},
        "thing.v-1": {
            "description": 'A "thing"\\',
            "allOf": [
                ref("Base"),
                {
                    "type": "object",
                    "required": ["class", "maybe"],
                    "properties": {
                        "list": {"type": "array", "items": ref("thing.v-1")},
                        "str": {"type": "string", "default": 'it\'s "so"'},
                        "class": {"type": "string", "enum": ["a", "b"], "description": "Which."},
                        "maybe": {"type": "string", "x-nullable": True},
                        "data.frame": {"type": "object", "additionalProperties": {"type": "array", "items": {}}},
                        "data_frame": {"type": "number"},
                        "2x": {"type": "integer"},
                        "été": {"type": "boolean"},
                        "!": {},
                        "self": {"type": "string", "format": "byte"},
                        "from_json": {"type": "string", "format": "date"},
                        "madeAt": {"type": "string", "format": "date-time"},
                        "colour": ref("Colour"),
                        "inner": {"type": "object", "properties": {"Any": {"type": "string"}}},
                        "either": {"type": ["string", "null"]},
                        LONG: {"type": "array", "items": {"type": "object", "additionalProperties": ref("Base")}},
                    },
                },
            ],
            "additionalProperties": {"type": "integer"},
        },
        "Any": {"type": "object", "properties": {}},
        "None": {"type": "object", "properties": {"dataclasses": {"type": "string"}, "datetime": {"type": "string"}}},
    },
}
