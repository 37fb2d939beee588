"""The table of types: spellings, schemas, and each scalar's way in and out."""

from __future__ import annotations

import enum
from datetime import date
from decimal import Decimal
from fractions import Fraction
from math import inf, nan
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlhost.params.jsontext import parse, render
from mlhost.params.types import TYPES, UNTYPED, ParameterType, canonical, lookup

pytestmark = pytest.mark.usefixtures("codec")

texts = st.text(st.characters(exclude_categories=["Cs"]))


class Colour(enum.Enum):
    RED = "red"


def back_and_forth(name: str, value: Any) -> Any:
    """What a client gets of a value that the user's code returns as it came."""
    kind = TYPES[name]
    return parse(render(kind.encode(kind.decode(value))))


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_swagger_of_each_type_is_the_contracts() -> None:
    assert {name: row.schema for name, row in TYPES.items()} == {
        "integer": {"type": "integer"},
        "numeric": {"type": "number"},
        "character": {"type": "string"},
        "logical": {"type": "boolean"},
        "vector": {"type": "array", "items": {}},
        "matrix": {"type": "array", "items": {"type": "array", "items": {}}},
        "data.frame": {"type": "object"},
    }


@pytest.mark.parametrize(
    ("spellings", "name"),
    [
        ("integer int Int INTEGER", "integer"),
        ("numeric float number double Float", "numeric"),
        ("character str string String", "character"),
        ("logical bool boolean", "logical"),
        ("vector list array numpy.array ndarray numpy.ndarray Vector", "vector"),
        ("matrix numpy.matrix Matrix", "matrix"),
        ("data.frame DataFrame dataframe pandas.DataFrame Data.Frame", "data.frame"),
    ],
)
def test_a_type_has_many_spellings_and_one_name(spellings: str, name: str) -> None:
    for spelling in spellings.split():
        assert canonical(spelling) == name
        assert lookup(spelling) is TYPES[name]


def test_an_unknown_spelling_stays_as_it_is_and_its_values_too() -> None:
    assert canonical("My.Type") == "My.Type"
    assert canonical("") == ""
    assert lookup("My.Type") is UNTYPED
    assert UNTYPED.schema == {}, "any value fits"
    value = {"a": [1]}
    assert UNTYPED.decode(value) is value
    assert UNTYPED.encode(value) is value


def test_no_two_types_share_a_spelling_and_all_are_in_lower_case() -> None:
    spellings = [spelling for row in TYPES.values() for spelling in (row.name, *row.aliases)]
    assert len(set(spellings)) == len(spellings)
    assert [spelling.lower() for spelling in spellings] == spellings


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TYPES["integer"] = UNTYPED  # type: ignore[index]
    with pytest.raises(AttributeError):
        TYPES["integer"].name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("row", [*TYPES.values(), UNTYPED], ids=lambda row: row.name)
def test_null_is_none_and_none_is_null(row: ParameterType) -> None:
    assert row.decode(None) is None
    assert row.encode(None) is None


# --- scalars come back as they were ----------------------------------------------------------------------------------


@given(st.integers() | st.integers(-(2**80), 2**80))
@example(2**53 + 1)
@example(2**64 + 1)
def test_an_integer_of_any_size_comes_back_exactly(value: int) -> None:
    assert repr(back_and_forth("integer", value)) == repr(value)


@given(st.floats())
def test_a_number_comes_back_exactly_or_as_null_if_it_is_not_finite(value: float) -> None:
    assert repr(back_and_forth("numeric", value)) == repr(value if abs(value) < inf else None)


@given(texts)
@example("\0\N{GRINNING FACE}\u2028\ufeff")
def test_a_text_comes_back_exactly(value: str) -> None:
    assert back_and_forth("character", value) == value


@given(st.booleans())
def test_a_boolean_comes_back_as_one(value: bool) -> None:
    assert back_and_forth("logical", value) is value


# --- what else a scalar may be ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [
        ("integer", 2.0, 2),
        ("integer", 1e20, 10**20),
        ("integer", -0.0, 0),
        ("numeric", 120, 120.0),
        ("numeric", "NaN", nan),
        ("numeric", "Infinity", inf),
        ("numeric", "-Infinity", -inf),
        ("numeric", "Inf", inf),
        ("numeric", "-Inf", -inf),
        ("character", 5, "5"),
        ("character", 2.5, "2.5"),
        ("character", True, "true"),
        ("logical", 1, True),
        ("logical", 0.0, False),
    ],
)
def test_these_inputs_are_coerced(name: str, value: Any, seen: Any) -> None:
    assert repr(TYPES[name].decode(value)) == repr(seen)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("integer", [2.5, nan, inf, True, "2", "", [2], {}]),
        ("numeric", [True, "2.5", "nan", "", [2.5], {}, 10**400]),
        ("character", [["a"], {}]),
        ("logical", [2, 0.5, nan, "true", "", [True], {}]),
    ],
)
def test_these_inputs_are_refused(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises((ValueError, TypeError, OverflowError)):
            TYPES[name].decode(value)


SINGLE = (np.array, lambda items: np.array([items]), pd.Series, list, tuple, pd.Index)


@pytest.mark.parametrize("around", SINGLE)
@pytest.mark.parametrize(
    ("name", "value"), [("integer", 7), ("numeric", 0.5), ("character", "setosa"), ("logical", True)]
)
def test_the_only_item_of_an_array_series_or_list_is_a_scalar_output(around: Any, name: str, value: Any) -> None:
    encoded = TYPES[name].encode(around([value]))
    assert (encoded, type(encoded)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("integer", np.int64(2**62 + 1), "4611686018427387905"),
        ("integer", np.uint64(2**64 - 1), "18446744073709551615"),
        ("integer", np.float32(3), "3"),
        ("integer", np.array(5), "5"),
        ("integer", True, "1"),
        ("integer", Decimal("3.0"), "3"),
        ("integer", nan, "null"),
        ("integer", pd.NA, "null"),
        ("numeric", 5, "5"),
        ("numeric", 2**70, str(2**70)),
        ("numeric", Decimal("0.10"), "0.10"),
        ("numeric", Decimal("NaN"), "null"),
        ("numeric", Fraction(1, 2), "0.5"),
        ("numeric", np.float32(0.5), "0.5"),
        ("numeric", np.bool_(True), "1"),
        ("numeric", -inf, "null"),
        ("character", 5, '"5"'),
        ("character", np.str_("a"), '"a"'),
        ("character", True, '"true"'),
        ("character", date(2020, 1, 2), '"2020-01-02"'),
        ("character", pd.Timestamp("2020-01-02"), '"2020-01-02T00:00:00"'),
        ("character", pd.NaT, "null"),
        ("character", nan, "null"),
        ("character", Colour.RED, '"red"'),
        ("character", b"abc", '"YWJj"'),
        ("logical", np.bool_(False), "false"),
        ("logical", 1, "true"),
        ("logical", np.float64(0), "false"),
        ("logical", nan, "null"),
    ],
)
def test_these_outputs_are_sent_so(name: str, value: Any, text: str) -> None:
    assert render(TYPES[name].encode(value)).decode() == text


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("integer", [2.5, "2", np.array([1, 2]), [], {}, 1j, object()]),
        ("numeric", ["2.5", np.array([1.5, 2.5]), pd.Series([], dtype=float), {"a": 1}, 1j, date(2020, 1, 2)]),
        ("character", [["a", "b"], {"a": "b"}, pd.DataFrame({"a": [1]}), object()]),
        ("logical", [2, "true", np.array([True, False]), {}]),
    ],
)
def test_these_outputs_are_refused(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises((ValueError, TypeError)):
            TYPES[name].encode(value)
