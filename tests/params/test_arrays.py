"""Vectors and matrices: dtypes and shapes of what arrives, lists of what leaves."""

from __future__ import annotations

import array
from contextlib import suppress
from itertools import chain
from math import inf, nan
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlhost.params import arrays
from mlhost.params.arrays import decode_matrix, decode_vector, encode_matrix, encode_vector
from mlhost.params.jsontext import parse, render

integers = st.integers() | st.integers(-(2**80), 2**80)
numbers = integers | st.floats() | st.none()
texts = st.text(st.characters(exclude_categories=["Cs"]))
items = st.none() | st.booleans() | numbers | texts | st.dictionaries(texts, numbers, max_size=2)
flat_lists = st.one_of([st.lists(kind) for kind in (st.booleans(), integers, st.floats(), numbers, texts, items)])
shapes = st.tuples(st.integers(0, 4), st.integers(0, 4))
rows_of_anything = shapes.flatmap(
    lambda shape: st.one_of(
        [
            st.lists(st.lists(kind, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0])
            for kind in (st.booleans(), integers, numbers, texts, items)
        ]
    )
)


def sent_back(values: list[Any]) -> list[Any]:
    """What becomes of a list's items on the way in and out: among floats and nulls all numbers are floats."""
    kinds = set(map(type, values))
    if kinds <= {int, float, type(None)} and kinds - {int} and kinds != {type(None)}:
        with suppress(OverflowError):
            values = [nan if value is None else float(value) for value in values]
    return [finite(value) for value in values]


def finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not abs(value) < inf else value


@given(flat_lists)
@example([2**53 + 1, 2**63 - 1, -(2**63)])
@example([2**63, -1])
@example([2**64, 2**200])
@example([10**400, 0.5])
@example([1, None])
@example(["\0", "\N{GRINNING FACE}", ""])
@example([True, 1])
@example([])
def test_a_vector_comes_back_as_it_was_sent_but_for_the_documented_changes(values: list[Any]) -> None:
    vector = decode_vector(values)
    assert isinstance(vector, np.ndarray)
    assert vector.shape == (len(values),)
    assert repr(parse(render(encode_vector(vector)))) == repr(sent_back(values))


@given(rows_of_anything)
@example([[2**64, -(2**70)]])
@example([[1, None], [nan, inf]])
@example([])
@example([[], []])
def test_a_matrix_comes_back_as_it_was_sent_but_for_the_documented_changes(rows: list[list[Any]]) -> None:
    matrix = decode_matrix(rows)
    assert type(matrix) is np.ndarray
    assert matrix.shape == (len(rows), len(rows[0]) if rows else 0)
    flat = sent_back(list(chain.from_iterable(rows)))
    width = matrix.shape[1]
    expected = [flat[start * width : (start + 1) * width] for start in range(len(rows))]
    assert repr(parse(render(encode_matrix(matrix)))) == repr(expected)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([], "float64"),
        ([1, 2], "int64"),
        ([1, 2.5], "float64"),
        ([1.5, None], "float64"),
        ([nan, inf], "float64"),
        ([True, False], "bool"),
        ([True, 1], "object"),
        ([True, None], "object"),
        ([None, None], "object"),
        (["a", "b"], "object"),
        ([1, "b"], "object"),
        ([2**63], "object"),
        ([10**400, 1.5], "object"),
        ([{"a": 1}], "object"),
    ],
)
def test_the_dtype_is_numeric_only_if_all_items_are_numbers(values: list[Any], dtype: str) -> None:
    assert decode_vector(values).dtype == dtype
    assert decode_matrix([values]).dtype == dtype


@pytest.mark.parametrize(
    ("value", "shape", "dtype"),
    [
        (5, (1,), "int64"),
        ("abc", (1,), "object"),
        ([[1, 2, 3], [4, 5, 6]], (2, 3), "int64"),
        ([[[1.5]], [[2]]], (2, 1, 1), "float64"),
        ([[1], [2, 3]], (2,), "object"),
        ([[], []], (2, 0), "float64"),
        ([1, [2]], (2,), "object"),
    ],
)
def test_a_scalar_is_a_vector_of_one_and_even_rows_keep_their_shape(value: Any, shape: Any, dtype: str) -> None:
    vector = decode_vector(value)
    assert (vector.shape, vector.dtype) == (shape, dtype)
    assert encode_vector(vector) == (value if isinstance(value, list) else [value])


def test_nesting_beyond_what_an_array_can_have_stays_lists() -> None:
    nested: Any = 1
    for _ in range(100):
        nested = [nested]
    vector = decode_vector(nested)
    assert (vector.ndim, vector.dtype) == (arrays.MAX_DIMENSIONS, "object")
    assert encode_vector(vector) == nested


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ([[1, 2], [3]], "rows of different lengths, from 1 to 2"),
        ([1, 2], "not a list of rows"),
        ([[1], 2], "not a list of rows"),
        ([[1], None], "not a list of rows"),
        (5, "not a list of rows"),
        ({"a": [1]}, "not a list of rows"),
        ([[[1]]], "more than two dimensions"),
        ([["a", [1]]], "more than two dimensions"),
    ],
)
def test_what_is_no_matrix_is_refused_on_the_way_in(value: Any, fault: str) -> None:
    with pytest.raises((ValueError, TypeError), match=fault):
        decode_matrix(value)


def test_an_object_is_no_vector() -> None:
    with pytest.raises(TypeError, match="an object is not a list"):
        decode_vector({"a": 1})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.array([1.5, nan]), "[1.5,null]"),
        (np.array([[1, 2]]), "[[1,2]]"),
        (np.array(5), "[5]"),
        (np.float32(0.5), "[0.5]"),
        (pd.Series(["a", None]), '["a",null]'),
        (pd.DataFrame({"a": [1, 2]}), "[[1],[2]]"),
        (array.array("d", [1.5]), "[1.5]"),
        ((1, "a"), '[1,"a"]'),
        ({3}, "[3]"),
        (range(3), "[0,1,2]"),
        ({"k": 1}.values(), "[1]"),
        ([np.int64(1), np.array([2])], "[1,[2]]"),
        (5, "[5]"),
        ("abc", '["abc"]'),
        (b"abc", '["YWJj"]'),
        (pd.NaT, "[null]"),
    ],
)
def test_list_like_outputs_are_lists_and_scalars_lists_of_one(value: Any, text: str) -> None:
    assert render(encode_vector(value)).decode() == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.array([[1, 2], [3, 4]]), "[[1,2],[3,4]]"),
        (np.array([[1, 2]]).view(np.matrix), "[[1,2]]"),
        (np.array([1, 2]), "[[1,2]]"),
        (np.array(5), "[[5]]"),
        (np.empty((0, 3)), "[]"),
        (np.empty((2, 0)), "[[],[]]"),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), '[[1,"x"],[2,"y"]]'),
        ([np.array([1, 2]), (3, 4)], "[[1,2],[3,4]]"),
        ([], "[]"),
    ],
)
def test_outputs_of_two_dimensions_are_rows_and_of_one_are_a_single_row(value: Any, text: str) -> None:
    assert render(encode_matrix(value)).decode() == text


@pytest.mark.parametrize("value", [np.zeros((1, 1, 1)), [[1, 2], [3]], [[1], 2], {"a": [1]}, pd.Series.__dict__])
def test_what_is_no_matrix_is_refused_on_the_way_out(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode_matrix(value)
