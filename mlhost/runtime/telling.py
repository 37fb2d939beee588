"""An object of a workspace as typed JSON, for clients that do not open the pickles a server sends them."""

from __future__ import annotations

import sys
from numbers import Integral, Real
from typing import Any, TypedDict

from mlhost.errors import CodeFailed
from mlhost.params.jsontext import render
from mlhost.params.types import lookup
from mlhost.runtime.interrupt import interruptible
from mlhost.runtime.workspace import Workspace, find_object

_SCALARS: tuple[tuple[type, str], ...] = (  # a bool is an int, and an int a real number
    (bool, "logical"),
    (Integral, "integer"),
    (Real, "numeric"),
    (str, "character"),
)
_COLLECTIONS = (("numpy", "ndarray", "vector"), ("pandas", "DataFrame", "data.frame"), ("pandas", "Series", "vector"))


class Told(TypedDict):
    """An object as data."""

    type: str  # a parameter's; "" for what is JSON as it is
    value: bytes  # JSON


def tell_object(workspace: Workspace, name: str) -> Told:
    """One object as a service of that type would answer it; NotFound, or CodeFailed if JSON has no form for it."""
    value = find_object(workspace, name)
    kind = _type_of(value)
    try:
        with interruptible():
            return Told(type=kind, value=render(lookup(kind).encode(value)))
    except Exception as fault:
        raise CodeFailed(f"{name!r} has no form in JSON: {fault}.") from fault


def _type_of(value: Any) -> str:
    for kind, told in _SCALARS:
        if isinstance(value, kind):
            return told
    for package, name, told in _COLLECTIONS:
        module = sys.modules.get(package)  # an object of a package that is not loaded cannot be
        if module is not None and isinstance(value, getattr(module, name)):
            return "matrix" if told == "vector" and value.ndim == 2 else told
    return ""
