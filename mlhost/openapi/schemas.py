"""Wire types as JSON schemas: those of OpenAPI 3.1, which are JSON Schema's own, and the dialect of Swagger 2.0."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

Json = dict[str, Any]

IN_OPENAPI = "#/components/schemas/{name}"
IN_SWAGGER = "#/definitions/{name}"
LEFT_OUT = ("title", "default")  # the name once more; and null, which an optional property need not be told


def openapi_schemas(kinds: Iterable[Any]) -> tuple[list[Json], Json]:
    """A schema for each type, and those they refer to by name."""
    return _schemas(kinds, IN_OPENAPI, _plain)


def swagger_schemas(kinds: Iterable[Any]) -> tuple[list[Json], Json]:
    """The same in the dialect of Swagger 2.0, which has no null and no schema for just any value."""
    return _schemas(kinds, IN_SWAGGER, _dialect)


def _schemas(kinds: Iterable[Any], reference: str, finished: Callable[[Json], Json]) -> tuple[list[Json], Json]:
    schemas, named = msgspec.json.schema_components(kinds, ref_template=reference)
    return [finished(_tidy(schema)) for schema in schemas], {
        name: finished(_tidy(named[name])) for name in sorted(named)
    }


def _tidy(schema: Mapping[str, Any]) -> Json:
    """Without what says nothing; a type for every enumeration; a record without fields is any object."""
    tidy = {key: _inside(key, value, _tidy) for key, value in schema.items() if key not in LEFT_OUT}
    if tidy.get("properties") == {}:
        del tidy["properties"]
    if not tidy.get("required", True):
        del tidy["required"]
    if "enum" in tidy:
        tidy = {"type": "string", **tidy}
    if tidy.get("type") == "object" and "properties" not in tidy:
        tidy.setdefault("additionalProperties", {})
    return tidy


def _plain(schema: Json) -> Json:
    """An enumeration that is open to other values (AutoRest's idea) is a list of examples; null needs no sentence."""
    plain = {key: _inside(key, value, _plain) for key, value in schema.items()}
    for option in plain.get("anyOf", ()):
        if "description" in option:
            plain = {"description": option.pop("description"), **plain}
    if plain.pop("x-ms-enum", {}).get("modelAsString"):
        plain["examples"] = plain.pop("enum")
    return plain


def _dialect(schema: Json) -> Json:
    if "anyOf" in schema:
        [one] = [option for option in schema["anyOf"] if option != {"type": "null"}]
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return {**_dialect(one), **rest, "x-nullable": True}
    spoken = {key: _inside(key, value, _dialect) for key, value in schema.items()}
    if "required" in spoken:
        given = [name for name in spoken["required"] if "x-nullable" not in spoken["properties"][name]]
        spoken |= {"required": given}
        if not given:
            del spoken["required"]
    # What the original's documents and their generators know as "any value": an object without properties.
    return spoken if spoken.keys() & {"type", "$ref"} else {"type": "object", **spoken}


def _inside(key: str, value: Any, change: Callable[[Any], Json]) -> Any:
    """The value of a keyword with the schemas in it changed."""
    if key == "properties":
        return {name: change(schema) for name, schema in value.items()}
    if key in ("items", "additionalProperties") and isinstance(value, dict):
        return change(value)
    return [change(schema) for schema in value] if key == "anyOf" else value
