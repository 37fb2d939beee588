"""The inputs of a call as a shell gives them: `name=value`, or a JSON object."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlhost.errors import Invalid
from mlhost.params.jsontext import parse
from mlhost.params.types import SPELLED, ParameterType, lookup

TEXT = "character"
SCALARS = ("integer", "numeric", "logical")


def gathered(given: Sequence[str], json_file: str | None, types: Mapping[str, str]) -> dict[str, Any]:
    """The inputs by name, as JSON has them; what is given by itself goes before what the file says.

    Invalid names what is missing, unknown or no value of its type.
    """
    inputs = {} if json_file is None else _of_file(json_file)
    for each in given:
        name, equals, text = each.partition("=")
        if not equals:
            raise Invalid(f"{each!r} is no input: they are written INPUT=VALUE, after the version.", field=each)
        inputs[name] = _value(name, text, types.get(name, ""))
    takes = f"it takes {', '.join(f'{name} ({kind})' for name, kind in types.items()) or 'no inputs'}"
    if unknown := [name for name in inputs if name not in types]:
        raise Invalid(f"There is no input {', '.join(unknown)}; {takes}.", field=unknown[0])
    if missing := [name for name in types if name not in inputs]:
        raise Invalid(f"No value is given for {', '.join(missing)}; {takes}.", field=missing[0])
    return inputs


def _of_file(name: str) -> dict[str, Any]:
    try:
        text = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as fault:
        raise Invalid(f"{name} cannot be read: {fault.strerror}.", field="json-file") from fault
    inputs = parse(text)
    if not isinstance(inputs, dict):
        raise Invalid("The file must hold one JSON object: input names and their values.", field="json-file")
    return inputs


def _value(name: str, text: str, kind: str) -> Any:
    """A text as the type has it; Invalid with an example if it is none of that type."""
    row = lookup(kind)
    if row.name == TEXT or text in SPELLED:  # NaN and its like, which travel as texts
        return text
    try:
        value = parse(text.encode())
    except Invalid:
        if not row.name:
            return text  # of a type that only the publisher knows: what reads as no JSON is a text
        value = text
    if fault := _fault(value, row):
        raise Invalid(f"{name}={text} does not fit, as {name} is of type {kind}: {fault}.", field=name)
    return value


def _fault(value: Any, row: ParameterType) -> str:
    """What is wrong with a value; whether arrays and frames are sound is for the server to say, which has numpy."""
    if row.name not in SCALARS:
        return "not JSON, such as [1, 2]" if row.name and isinstance(value, str) else ""
    try:
        row.decode(value)
    except (ValueError, TypeError, OverflowError) as fault:
        return str(fault)
    return ""
