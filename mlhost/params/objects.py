"""Objects that JSON does not know, one step at a time towards what it does.

It knows None, booleans, numbers, texts, bytes, times and durations, lists, dicts, enums and data classes; a step may
come out at another object that needs one more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

from mlhost.params import arrays, frames


def simpler(value: Any) -> Any:
    """One step; TypeError names the type of what has no form in JSON.

    What JSON has a form for comes here only as the key of a dict, which is a text there.
    """
    if value is None or isinstance(value, (bool, tuple, frozenset)):
        return str(value)
    if isinstance(value, (list, dict, set)):
        raise TypeError(f"an object of type {type(value).__qualname__} cannot be a key in JSON")
    for step in (frames.simpler, arrays.listed, _scalar, _collection):
        simpler = step(value)
        if simpler is not value:
            return simpler
    raise TypeError(f"an object of type {type(value).__qualname__} cannot be written as JSON")


def _scalar(value: Any) -> Any:
    for kinds, convert in _SCALARS:
        if isinstance(value, kinds):
            return convert(value)
    return value


def _collection(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Collection) else value


def _iso(value: date | time) -> str | None:
    return None if value != value else value.isoformat()  # noqa: PLR0124 - NaT, which is a datetime, differs from itself


def _duration(value: timedelta) -> timedelta:
    return timedelta(value.days, value.seconds, value.microseconds)


# Subclasses, numpy's among them, of what JSON knows; the first that fits: every Integral is a Real as well.
_SCALARS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (Integral, int),
    (Real, float),
    (Decimal, Decimal),
    ((bytes, bytearray), bytes),
    ((datetime, date, time), _iso),
    (timedelta, _duration),
)
