"""Values that a service's inputs might have: what its form begins with, and what its recipes send."""

from __future__ import annotations

from typing import Any

from mlhost.params.types import canonical
from mlhost.realtime import Header
from mlhost.services import NamedType

EXAMPLES: dict[str, Any] = {
    "integer": 1,
    "numeric": 1.5,
    "character": "text",
    "logical": True,
    "vector": [1, 2, 3],
    "matrix": [[1, 2], [3, 4]],
    "data.frame": {"a": [1, 2], "b": ["x", "y"]},
}


def examples(inputs: tuple[NamedType, ...], header: Header | None = None) -> dict[str, Any]:
    """One for each input, by its type; that of a model as the model's header has it, if it says anything."""
    found = {name: EXAMPLES.get(canonical(kind)) for name, kind in inputs}
    row = _row(header) if header else None
    if row:
        return {name: {column: [value] for column, value in row.items()} for name in found}
    return found


def _row(header: Header) -> dict[str, Any] | None:
    """A row that the model can be asked about."""
    if header.example is not None:
        return header.example
    return None if header.columns is None else dict.fromkeys(header.columns, 0)
