"""Values on their way: inputs to JSON, outputs from it, by the type the service declares for each.

Nothing that comes from a server is ever run here: typed JSON becomes numbers, texts, numpy arrays and data frames.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlhost.errors import Invalid
from mlhost.params.types import lookup

NamedTypes = tuple[tuple[str, str], ...]


def encoded(inputs: Mapping[str, Any], types: NamedTypes) -> dict[str, Any]:
    """What `render` writes as the server reads it; Invalid names the input that does not fit its type."""
    return {name: _encoded(name, kind, inputs[name]) for name, kind in types}


def _encoded(name: str, kind: str, value: Any) -> Any:
    try:
        return lookup(kind).encode(value)
    except (ValueError, TypeError, OverflowError) as fault:
        raise Invalid(f"input {name!r} must be of type {kind}: {fault}", field=name, expected=kind) from fault


def decoded(outputs: Mapping[str, Any], types: NamedTypes) -> dict[str, Any]:
    """The outputs by name; Invalid if the server does not keep to what it declares."""
    try:
        return {name: lookup(kind).decode(outputs[name]) for name, kind in types}
    except (KeyError, ValueError, TypeError, OverflowError) as fault:
        raise Invalid(f"The answer does not have the outputs that are declared: {fault}") from fault


def bound(types: NamedTypes, defaults: Mapping[str, Any], values: Sequence[Any], named: Mapping[str, Any]) -> Any:
    """The inputs of a call by name; TypeError, as of a function, for one too many, one twice or one that is missing."""
    names = [name for name, _ in types]
    given = dict(zip(names, values, strict=False))
    takes = f"it takes {', '.join(names) or 'no inputs'}"
    if len(values) > len(names):
        raise TypeError(f"{len(values)} values were given; {takes}")
    if wrong := [name for name in named if name in given or name not in names]:
        raise TypeError(f"{', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} given twice or unknown; {takes}")
    inputs = {**defaults, **given, **named}
    if missing := [name for name in names if name not in inputs]:
        raise TypeError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; {takes}")
    return inputs


def is_frame(value: Any) -> bool:
    """Whether it is a pandas.DataFrame, without importing pandas to find out."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def records(rows: Any, types: NamedTypes) -> list[Mapping[str, Any]]:
    """The inputs of each record of a batch: of the rows of a data frame, or of mappings.

    A frame has a column for each input; or it is itself, a row a record, what a service's only vector takes.
    """
    if not is_frame(rows):
        return [dict(row) for row in _mappings(rows)]
    names = [name for name, _ in types]
    if set(names) <= set(rows.columns):
        columns = [rows[name].tolist() for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    if len(types) == 1 and types[0][1] == "vector":
        return [{names[0]: row.tolist()} for row in rows.to_numpy()]
    missing = ", ".join(name for name in names if name not in rows.columns)
    raise Invalid(f"The data frame has no columns {missing}, which are inputs of the service.", field=missing)


def _mappings(rows: Iterable[Any]) -> Iterable[Mapping[str, Any]]:
    for row in rows:
        if not isinstance(row, Mapping):
            raise Invalid(f"A batch takes a data frame or mappings of inputs, not {type(row).__name__}.")
        yield row
