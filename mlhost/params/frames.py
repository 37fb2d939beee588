"""Data frames: JSON columns or records to a pandas.DataFrame, and anything tabular back to columns.

pandas is imported when the first one is decoded. Where it is not installed, a data frame is a dict of columns.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import chain
from typing import Any

from mlhost.params import arrays

Columns = dict[str, list[Any]]


def decode_frame(value: Any) -> Any:
    """Columns `{"a": [1, 2]}`, or records `[{"a": 1}, {"a": 2}]`, as a data frame with the columns in that order.

    A column that is a scalar has one row. What a record lacks is missing in the frame.
    """
    if value is None:
        return None
    if not isinstance(value, dict) and not _are_records(value):
        raise TypeError("neither columns nor records")
    columns = _tabulated(value)
    return columns if pandas() is None else pandas().DataFrame(columns)


def encode_frame(value: Any) -> Any:
    """A data frame, Series, array, dict of columns, list of records or of rows as columns, their names strings.

    Columns without a name are called by their position, "0", "1", ...
    """
    if value is None:
        return None
    if hasattr(type(value), "to_frame"):  # a Series or Index, which may have a name
        value = value.to_frame()
    columns = simpler(value)
    return _tabulated(arrays.listed(value)) if columns is value else columns


@cache
def pandas() -> Any:
    """The module; None if it is not installed."""
    try:
        import pandas as pd
    except ImportError:
        return None
    return pd


def simpler(value: Any) -> Any:
    """A data frame as columns, pandas' NA as None, its periods and intervals as text; anything else as it is."""
    pd = sys.modules.get("pandas")
    if pd is None:
        return value
    if isinstance(value, pd.DataFrame):
        return _named((name, column.tolist()) for name, column in value.items())
    if value is pd.NA:
        return None
    return str(value) if isinstance(value, (pd.Period, pd.Interval)) else value


def _tabulated(value: Any) -> Columns:
    if isinstance(value, Mapping):
        columns = _named((name, arrays.as_list(column)) for name, column in value.items())
    elif _are_records(value):
        names = dict.fromkeys(chain.from_iterable(value))
        columns = _named((name, [record.get(name) for record in value]) for name in names)
    else:
        columns = _numbered(arrays.as_list(value))
    lengths = set(map(len, columns.values()))
    if len(lengths) > 1:
        raise ValueError(f"columns of different lengths, from {min(lengths)} to {max(lengths)}")
    return columns


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _named(columns: Iterable[tuple[Any, list[Any]]]) -> Columns:
    named: Columns = {}
    for key, column in columns:
        name = str(key)
        if name in named:
            raise ValueError(f"two columns are named {name!r}")
        named[name] = column
    return named


def _numbered(values: list[Any]) -> Columns:
    """Rows, or the items of a single column, as columns named by position."""
    rows = list(map(arrays.listed, values))
    if not any(isinstance(row, (list, tuple)) for row in rows):
        return {"0": rows}
    if fault := arrays.fault_of_rows(rows):
        raise ValueError(fault)
    return {str(position): list(column) for position, column in enumerate(zip(*rows, strict=True))}
