"""Vectors and matrices: JSON lists to numpy arrays, and anything list-like back to lists.

numpy is imported when the first one is decoded. Where it is not installed, a vector and a matrix stay lists.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from functools import cache
from itertools import chain
from types import NoneType
from typing import Any

MAX_DIMENSIONS = 16  # of a nested vector; numpy's own bound was 32 before 2.0
FINE_UNITS = {"ns", "ps", "fs", "as"}  # of numpy's times; a microsecond is the least that Python's hold

PLAIN = {NoneType, bool, int, float, str, list, tuple, dict}
NUMBERS = {int, float, NoneType}
SCALAR_COLLECTIONS = (str, bytes, bytearray, memoryview)  # what JSON has as one string


# --- JSON -> Python --------------------------------------------------------------------------------------------------


def decode_vector(value: Any) -> Any:
    """A list as an array of one dimension; a scalar is a list of one.

    dtype bool if all items are booleans, int64 if all are integers that fit, float64 if all are numbers or null (NaN),
    else object, which leaves each item as it is. Rows within rows, of equal lengths, are as many dimensions.
    """
    if value is None:
        return None
    if isinstance(value, dict):
        raise TypeError("an object is not a list")
    items = value if isinstance(value, list) else [value]
    return items if numpy() is None else _array(*_flat(items, MAX_DIMENSIONS))


def decode_matrix(value: Any) -> Any:
    """A list of rows as an array, rows by columns, of the dtype a vector of its items would have."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise TypeError("not a list of rows")
    items, kinds, shape = _flat(value, 2) if value else ([], set(), [0, 0])
    if len(shape) == 1 or list in kinds:
        raise ValueError(fault_of_rows(value))
    return value if numpy() is None else _array(items, kinds, shape)


@cache
def numpy() -> Any:
    """The module; None if it is not installed."""
    try:
        import numpy as np
    except ImportError:
        return None
    return np


def _flat(items: list[Any], max_dimensions: int) -> tuple[list[Any], set[type], list[int]]:
    """The items in one list, their types, and the shape they had."""
    shape = [len(items)]
    kinds = set(map(type, items))
    while kinds == {list} and len(shape) < max_dimensions and len(lengths := set(map(len, items))) == 1:
        shape.append(lengths.pop())
        items = list(chain.from_iterable(items))
        kinds = set(map(type, items))
    return items, kinds, shape


def _array(items: list[Any], kinds: set[type], shape: list[int]) -> Any:
    flat = _flat_array(items, kinds)
    return flat if len(shape) == 1 else flat.reshape(shape)


def _flat_array(items: list[Any], kinds: set[type]) -> Any:
    np = numpy()
    try:
        if kinds == {int}:
            return np.array(items, np.int64)
        if kinds <= NUMBERS and kinds != {NoneType}:
            return np.array(items, np.float64)
        if kinds == {bool}:
            return np.array(items, np.bool_)
    except OverflowError:  # an integer too large for the dtype: all stay Python's
        pass
    return np.fromiter(items, object, len(items))


# --- Python -> JSON --------------------------------------------------------------------------------------------------


def encode_vector(value: Any) -> Any:
    """An array (of any shape), Series, list, set or the like as a list; a scalar is a list of one."""
    return None if value is None else as_list(value)


def encode_matrix(value: Any) -> Any:
    """An array, data frame or list of rows as a list of rows; one dimension is one row, as numpy.matrix has it."""
    if value is None:
        return None
    rows = list(map(listed, as_list(value)))
    if rows and not any(isinstance(row, (list, tuple)) for row in rows):
        return [rows]
    if fault := fault_of_rows(rows):
        raise ValueError(fault)
    return rows


def fault_of_rows(rows: list[Any]) -> str:
    """Why these are not the rows of a matrix; "" if they are."""
    if not all(isinstance(row, (list, tuple)) for row in rows):
        return "not a list of rows"
    lengths = set(map(len, rows))
    if len(lengths) > 1:
        return f"rows of different lengths, from {min(lengths)} to {max(lengths)}"
    if {list, tuple} & set(map(type, chain.from_iterable(rows))):
        return "more than two dimensions"
    return ""


def as_list(value: Any) -> list[Any]:
    """What `value` holds; a scalar is a list of one. TypeError for what has keys."""
    value = listed(value)
    if type(value) is list:
        return value
    if isinstance(value, Mapping):
        raise TypeError(f"an object of type {type(value).__qualname__} is not a list")
    if isinstance(value, Collection) and not isinstance(value, SCALAR_COLLECTIONS):
        return list(value)
    return [value]


def listed(value: Any) -> Any:
    """An array, Series, tensor or numpy scalar as Python's own lists and scalars; anything else as it is."""
    kind = type(value)  # which is asked, as an instance may answer to any name
    if kind in PLAIN:
        return value
    if hasattr(kind, "tolist"):
        plain = _in_microseconds(value).tolist()
        return value if type(plain) is kind else plain  # numpy.longdouble gives itself
    if hasattr(kind, "__array__") and numpy():
        return listed(numpy().asarray(value))
    return value


def _in_microseconds(value: Any) -> Any:
    """numpy's times in a unit that Python's have: finer ones would become integers."""
    np = sys.modules.get("numpy")
    if np is None or not isinstance(value, (np.ndarray, np.generic)) or value.dtype.kind not in "mM":
        return value
    fine = np.datetime_data(value.dtype)[0] in FINE_UNITS
    return value.astype(f"{value.dtype.kind}8[us]") if fine else value
