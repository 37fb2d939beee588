"""Data frames: what JSON makes a frame, and what becomes columns."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from mlhost.params.frames import decode_frame, encode_frame
from mlhost.params.jsontext import parse, render

small = st.integers(-(2**53), 2**53)  # exact as floats, which they become beside a null
texts = st.text(st.characters(exclude_categories=["Cs"]))
cells = st.none() | st.booleans() | small | texts | st.lists(st.integers(), max_size=2)
kinds = (st.booleans(), st.integers(), st.integers(-(2**80), 2**80), st.floats() | small | st.none(), texts, cells)
columns = st.integers(0, 4).flatmap(
    lambda rows: st.dictionaries(texts, st.one_of([st.lists(kind, min_size=rows, max_size=rows) for kind in kinds]))
)


def finite(value: Any) -> Any:
    return None if isinstance(value, float) and not abs(value) < inf else value


@given(columns)
@example({})
@example({"a": [], "": []})
@example({"z": [2**63], "a": [2**64], "m": [-(2**63)]})
@example({"text": ["\0", None], "none": [None, None], "mixed": [True, 1], "float": [nan, inf]})
def test_columns_come_back_as_they_were_sent_with_null_for_what_is_missing(sent: dict[str, list[Any]]) -> None:
    frame = decode_frame(sent)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == list(sent)
    back = parse(render(encode_frame(frame)))
    assert list(back) == list(sent), "in the order sent"
    assert back == {name: [finite(cell) for cell in column] for name, column in sent.items()}


def test_records_are_a_frame_with_columns_as_they_first_appear() -> None:
    frame = decode_frame([{"b": 1, "a": "x"}, {"b": 2.5, "c": True}])
    assert_frame_equal(frame, pd.DataFrame({"b": [1, 2.5], "a": ["x", None], "c": [None, True]}))
    assert decode_frame([]).shape == (0, 0)


def test_columns_that_are_scalars_have_one_row() -> None:
    assert_frame_equal(decode_frame({"a": 1, "b": "x"}), pd.DataFrame({"a": [1], "b": ["x"]}))


def test_a_column_with_nulls_among_its_numbers_is_of_floats() -> None:
    frame = decode_frame({"n": [1, None], "whole": [1, 2], "flag": [True, False]})
    assert list(map(str, frame.dtypes)) == ["float64", "int64", "bool"]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"a": [1, 2], "b": [1]}, "columns of different lengths, from 1 to 2"),
        ({"a": [1, 2], "b": 1}, "columns of different lengths, from 1 to 2"),
        ({"a": {"0": 1}}, "not a list"),
        ([1, 2], "neither columns nor records"),
        ([[1, 2]], "neither columns nor records"),
        ([{"a": 1}, 2], "neither columns nor records"),
        ("abc", "neither columns nor records"),
        (5, "neither columns nor records"),
    ],
)
def test_what_is_no_frame_is_refused_on_the_way_in(value: Any, fault: str) -> None:
    with pytest.raises((ValueError, TypeError), match=fault):
        decode_frame(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (pd.DataFrame({"a": [1.5, nan]}, index=["x", "y"]), '{"a":[1.5,null]}'),
        (pd.DataFrame({0: [1], "b": [2], None: [3]}), '{"0":[1],"b":[2],"None":[3]}'),
        (pd.DataFrame(columns=["a", "b"]), '{"a":[],"b":[]}'),
        (pd.DataFrame({"t": [pd.Timestamp("2020-01-02T03:04"), pd.NaT]}), '{"t":["2020-01-02T03:04:00",null]}'),
        (pd.DataFrame({"c": pd.Categorical(["x", "y"])}), '{"c":["x","y"]}'),
        (pd.DataFrame({"a": np.array([0.5], np.float32)}), '{"a":[0.5]}'),
        (pd.Series([1, 2]), '{"0":[1,2]}'),
        (pd.Series([1, 2], name="y"), '{"y":[1,2]}'),
        (pd.Index(["a"]), '{"0":["a"]}'),
        (np.array([1.5, 2.5]), '{"0":[1.5,2.5]}'),
        (np.array([[1, 2], [3, 4]]), '{"0":[1,3],"1":[2,4]}'),
        (np.array(5), '{"0":[5]}'),
        ({"a": np.array([1]), "b": pd.Series([2]), "c": (3,), 4: "x"}, '{"a":[1],"b":[2],"c":[3],"4":["x"]}'),
        ([{"a": 1}, {"b": 2}], '{"a":[1,null],"b":[null,2]}'),
        ([1, 2], '{"0":[1,2]}'),
        ([(1, "a"), (2, "b")], '{"0":[1,2],"1":["a","b"]}'),
        ("abc", '{"0":["abc"]}'),
        ({}, "{}"),
        ([], "{}"),
    ],
)
def test_tabular_outputs_are_columns(value: Any, text: str) -> None:
    assert render(encode_frame(value)).decode() == text


@pytest.mark.parametrize(
    "value",
    [
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        {1: [1], "1": [2]},
        {"a": [1], "b": [1, 2]},
        {"a": {"b": 1}},
        [[1], [1, 2]],
        np.zeros((1, 1, 1)),
    ],
)
def test_what_is_no_frame_is_refused_on_the_way_out(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode_frame(value)
