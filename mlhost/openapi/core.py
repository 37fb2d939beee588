"""The documents of the server's own API, made from its routes: Swagger 2.0 and OpenAPI 3.1.

The Swagger 2.0 one is for generators made for the original's: names, tags and the order of properties are the
original's, errors are one `default` answer, and no security scheme makes a client take its token differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlhost.openapi.operations import About, Bytes, Field, Form, Operation, Route, phrase
from mlhost.openapi.schemas import IN_OPENAPI, IN_SWAGGER, Json, openapi_schemas, swagger_schemas

JSON = "application/json"
FORM = "multipart/form-data"
CONTENT = {"contentMediaType": "application/octet-stream"}
CREATED = 201


@dataclass(frozen=True, slots=True)
class Header:
    """A header of an answer."""

    name: str
    sentence: str
    type: str = "string"
    is_sure: bool = True


MADE = Header("Location", "Where what was made is found.")  # wherever its name is in the body
REFUSED = {
    401: Header("WWW-Authenticate", "Bearer: the kind of token that is asked for."),
    503: Header("Retry-After", "Seconds to wait, where trying again helps.", "integer", is_sure=False),
}

Schemas = Iterator[Json]  # of the wire types of all operations, in the order of `_kinds`


def swagger_document(about: About, routes: Sequence[Route], error: type) -> Json:
    """All routes as a Swagger 2.0 document; `error` is the wire type of refusals."""
    schemas, definitions = swagger_schemas([*_kinds(routes), error])
    return {
        "swagger": "2.0",
        "info": _info(about),
        "tags": _tags(about),
        "schemes": ["http", "https"],
        "produces": [JSON],
        "consumes": [JSON],
        "paths": _paths(routes, schemas, _swagger_operation),
        "definitions": definitions,
    }


def openapi_document(about: About, routes: Sequence[Route], error: type) -> Json:
    """All routes as an OpenAPI 3.1 document; `error` is the wire type of refusals."""
    schemas, named = openapi_schemas([*_kinds(routes), error])
    bearer = {
        "type": "http",
        "scheme": "bearer",
        "description": "The access_token that POST /login answers, or a personal one.",
    }
    return {
        "openapi": "3.1.0",
        "info": _info(about),
        "tags": _tags(about),
        "paths": _paths(routes, schemas, _openapi_operation),
        "components": {"schemas": named, "securitySchemes": {"Bearer": bearer}},
    }


def _info(about: About) -> Json:
    return {"title": about.title, "description": about.description, "version": about.version}


def _tags(about: About) -> list[Json]:
    return [{"name": name, "description": sentence} for name, sentence in about.tags.items()]


def _kinds(routes: Iterable[Route]) -> Iterator[Any]:
    """The wire types of all operations, each operation's body before its answers."""
    for route in routes:
        if isinstance(route.operation.takes, type):
            yield route.operation.takes
        yield from (kind for kind in route.operation.gives.values() if _is_json(kind))


def _is_json(kind: Any) -> bool:
    return kind is not None and not isinstance(kind, Bytes)


def _paths(routes: Sequence[Route], schemas: Iterable[Json], told: Callable[[Route, Schemas], Json]) -> Json:
    paths: dict[str, Json] = {}
    in_order = iter(schemas)
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = told(route, in_order)
    return paths


def _head(route: Route) -> Json:
    operation = route.operation
    head = {"summary": route.summary, "operationId": operation.id, "tags": [route.tag]}
    told = {"description": operation.note} if operation.note else {}
    return head | told | ({"deprecated": True} if operation.is_deprecated else {})


# --- Swagger 2.0 ---------------------------------------------------------------------------------------------------


def _swagger_operation(route: Route, schemas: Schemas) -> Json:
    operation = route.operation
    parameters = [
        *(
            {"name": name, "in": "path", "required": True, "description": route.about(name), "type": "string"}
            for name in route.path_parameters
        ),
        *(_swagger_field("query", one) for one in operation.query),
        *_swagger_body(route, schemas),
    ]
    refusals = "\n".join(f"* `{status}` - {phrase(status)}" for status in route.errors)
    return {
        **_head(route),
        **_media(operation),
        **({"parameters": parameters} if parameters else {}),
        "responses": {
            **{str(status): _swagger_answer(status, kind, schemas) for status, kind in operation.gives.items()},
            "default": {"description": refusals, "schema": {"$ref": IN_SWAGGER.format(name="Error")}},
        },
    }


def _media(operation: Operation) -> Json:
    """Where it is not JSON on either side."""
    takes, given = operation.takes, [kind for kind in operation.gives.values() if isinstance(kind, Bytes)]
    consumed = {"consumes": [FORM]} if isinstance(takes, Form) else {}
    if isinstance(takes, Bytes):
        consumed = {"consumes": [takes.media_type]}
    return consumed | ({"produces": [given[0].media_type, JSON]} if given else {})  # refusals are JSON


def _swagger_body(route: Route, schemas: Schemas) -> list[Json]:
    takes = route.operation.takes
    if takes is None:
        return []
    if isinstance(takes, Form):
        return [_swagger_field("formData", one) for one in takes.fields]
    schema = {"type": "string", "format": "binary"} if isinstance(takes, Bytes) else next(schemas)
    return [{"name": route.body_name, "in": "body", "required": True, "schema": schema}]


def _swagger_field(place: str, one: Field) -> Json:
    about = {"name": one.name, "in": place, "description": one.sentence, "required": one.required}
    return about | {"type": "file" if one.is_file else "string"}


def _swagger_answer(status: int, kind: Any, schemas: Schemas) -> Json:
    answer: Json = {"description": phrase(status)}
    if isinstance(kind, Bytes):
        return answer | {"schema": {"type": "file"}}
    return answer if kind is None else answer | {"schema": next(schemas)}


# --- OpenAPI 3.1 ---------------------------------------------------------------------------------------------------


def _openapi_operation(route: Route, schemas: Schemas) -> Json:
    operation = route.operation
    parameters = [
        *(_openapi_parameter("path", Field(name, route.about(name), required=True)) for name in route.path_parameters),
        *(_openapi_parameter("query", one) for one in operation.query),
    ]
    body = {} if operation.takes is None else {"requestBody": _openapi_body(operation, schemas)}
    answers = {str(status): _openapi_answer(status, kind, schemas) for status, kind in operation.gives.items()}
    refusal = {"content": {JSON: {"schema": {"$ref": IN_OPENAPI.format(name="Error")}}}}
    refusals = {
        str(status): {"description": phrase(status), **_headers(REFUSED.get(status)), **refusal}
        for status in route.errors
    }
    return {
        **_head(route),
        "security": [{"Bearer": []}] if route.needs_token else [],
        **({"parameters": parameters} if parameters else {}),
        **body,
        "responses": refusals | answers,
    }


def _headers(one: Header | None) -> Json:
    if one is None:
        return {}
    return {"headers": {one.name: {"description": one.sentence, "required": one.is_sure, "schema": {"type": one.type}}}}


def _openapi_parameter(place: str, one: Field) -> Json:
    about = {"name": one.name, "in": place, "description": one.sentence, "required": one.required}
    return about | {"schema": {"type": "string", "minLength": 1}}


def _openapi_body(operation: Operation, schemas: Schemas) -> Json:
    takes = operation.takes
    if isinstance(takes, Bytes):
        return {"required": True, "content": {takes.media_type: {"schema": {"type": "string", "format": "binary"}}}}
    if isinstance(takes, Form):
        return {"required": True, "content": {FORM: {"schema": _form(takes)}}}
    example = {} if operation.example is None else {"example": operation.example}
    return {"required": True, "content": {JSON: {"schema": next(schemas), **example}}}


def _form(form: Form) -> Json:
    return {
        "type": "object",
        "properties": {
            one.name: {"type": "string", "description": one.sentence, **(CONTENT if one.is_file else {})}
            for one in form.fields
        },
        "required": [one.name for one in form.fields if one.required],
    }


def _openapi_answer(status: int, kind: Any, schemas: Schemas) -> Json:
    answer: Json = {"description": phrase(status)}
    if isinstance(kind, Bytes):
        return answer | {"content": {kind.media_type: {}}}
    if kind is None:
        return answer
    return answer | _headers(MADE if status == CREATED else None) | {"content": {JSON: {"schema": next(schemas)}}}
