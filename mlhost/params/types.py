"""The server's types: how each is spelled, described in Swagger, decoded from JSON and encoded to it.

One table, read-only (contract section 3). A spelling it does not have is not an error: such a parameter is whatever
JSON says. Types convert where nothing is lost and refuse the rest:

    integer     int    in: whole numbers, 2.0 among them; no booleans, no texts
                       out: the same, and True as 1
    numeric     float  in: numbers, and "NaN", "Infinity", "-Infinity", "Inf", "-Inf"; no booleans, no other texts
                       out: any number, integers exact, True as 1
    character   str    in and out: texts; a number or boolean as JSON has it ("5", "true"); out also times, bytes ...
    logical     bool   in and out: true and false, 0 and 1; no texts
    vector, matrix     see `arrays`
    data.frame         see `frames`

A scalar output may come as the only item of an array, Series or list. What is not finite leaves as null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import inf, nan
from types import MappingProxyType
from typing import Any

from mlhost.params.arrays import decode_matrix, decode_vector, encode_matrix, encode_vector
from mlhost.params.frames import decode_frame, encode_frame
from mlhost.params.jsontext import parse, render

# What clients write for numbers that JSON lacks; the short forms are R's.
SPELLED = {"NaN": nan, "Infinity": inf, "-Infinity": -inf, "Inf": inf, "-Inf": -inf}


@dataclass(frozen=True, slots=True)
class ParameterType:
    """A row of the table.

    `decode` takes a JSON value to what the user's code sees, `encode` what that code made to something `render`
    writes in the type's shape. Both leave null and None alone, and raise ValueError, TypeError or OverflowError with a
    fragment of a sentence ("not a whole number").
    """

    name: str
    aliases: tuple[str, ...]  # in lower case
    schema: dict[str, Any]  # Swagger 2.0
    decode: Callable[[Any], Any]
    encode: Callable[[Any], Any]


# --- JSON -> Python --------------------------------------------------------------------------------------------------


def _decode_integer(value: Any) -> Any:
    if value is None or type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise ValueError("not a whole number")


def _decode_numeric(value: Any) -> Any:
    if value is None or type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    if type(value) is str and value in SPELLED:
        return SPELLED[value]
    raise ValueError("not a number")


def _decode_character(value: Any) -> Any:
    if value is None or type(value) is str:
        return value
    if isinstance(value, (list, dict)):
        raise TypeError("not a text")
    return render(value).decode()


def _decode_logical(value: Any) -> Any:
    if value is None or type(value) is bool:
        return value
    if type(value) in {int, float} and value in {0, 1}:
        return bool(value)
    raise ValueError("neither true nor false")


# --- Python -> JSON --------------------------------------------------------------------------------------------------


def _encode_integer(value: Any) -> Any:
    if type(value) is int:
        return value
    value = _single(value)
    return int(value) if type(value) is bool else _decode_integer(value)


def _encode_numeric(value: Any) -> Any:
    if type(value) in {float, int, Decimal}:
        return value
    value = _single(value)
    if type(value) is str:
        raise ValueError("not a number")
    return int(value) if type(value) is bool else value


def _encode_character(value: Any) -> Any:
    return value if type(value) is str else _decode_character(_single(value))


def _encode_logical(value: Any) -> Any:
    return value if type(value) is bool else _decode_logical(_single(value))


def _single(value: Any) -> Any:
    """The JSON value of a scalar, or of the only item of an array, Series or list."""
    value = parse(render(value))
    while isinstance(value, list):
        if len(value) != 1:
            raise ValueError(f"{len(value)} values instead of one")
        value = value[0]
    if isinstance(value, dict):
        raise TypeError("an object instead of one value")
    return value


def _as_it_is(value: Any) -> Any:
    return value


# --- the table -------------------------------------------------------------------------------------------------------

LIST: dict[str, Any] = {"type": "array", "items": {}}
LIST_OF_LISTS: dict[str, Any] = {"type": "array", "items": LIST}

UNTYPED = ParameterType("", (), {}, _as_it_is, _as_it_is)

TYPES: Mapping[str, ParameterType] = MappingProxyType(
    {
        row.name: row
        for row in (
            ParameterType("integer", ("int",), {"type": "integer"}, _decode_integer, _encode_integer),
            ParameterType(
                "numeric", ("float", "number", "double"), {"type": "number"}, _decode_numeric, _encode_numeric
            ),
            ParameterType("character", ("str", "string"), {"type": "string"}, _decode_character, _encode_character),
            ParameterType("logical", ("bool", "boolean"), {"type": "boolean"}, _decode_logical, _encode_logical),
            ParameterType(
                "vector",
                ("list", "array", "numpy.array", "ndarray", "numpy.ndarray"),
                LIST,
                decode_vector,
                encode_vector,
            ),
            ParameterType("matrix", ("numpy.matrix",), LIST_OF_LISTS, decode_matrix, encode_matrix),
            ParameterType(
                "data.frame", ("dataframe", "pandas.dataframe"), {"type": "object"}, decode_frame, encode_frame
            ),
        )
    }
)

_BY_SPELLING = {spelling: row for row in TYPES.values() for spelling in (row.name, *row.aliases)}


def canonical(spelling: str) -> str:
    """The server's name for a type, however it is spelled; a spelling unknown here stays as it is."""
    return lookup(spelling).name or spelling


def lookup(spelling: str) -> ParameterType:
    """The row of a type, however it is spelled; UNTYPED, whose name is empty, for an unknown one."""
    return _BY_SPELLING.get(spelling.lower(), UNTYPED)
