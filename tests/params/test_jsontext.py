"""JSON text: what is read, what is refused and where, and what Python's, numpy's and pandas' objects become."""

from __future__ import annotations

import enum
import json
import subprocess
import sys
from collections import ChainMap, Counter, UserDict, deque, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from math import inf, nan
from types import MappingProxyType, ModuleType
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlhost.errors import Invalid
from mlhost.params import jsontext, quickjson
from mlhost.params.jsontext import MAX_RECURSION, items, parse, render, shown

pytestmark = pytest.mark.usefixtures("codec")

integers = st.integers() | st.integers(-(2**80), 2**80)
texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | integers | st.floats() | texts
json_values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)
json_like = st.text('[]{}",:0123456789.eE+-NaInfitytrulsudD8 \n\\\ufeff', max_size=30).map(str.encode)


def finite(value: Any) -> Any:
    """The value with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if abs(value) < inf else None
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return value


# --- reading ---------------------------------------------------------------------------------------------------------


@given(json_values, st.booleans())
def test_what_the_standard_library_writes_is_read_as_it_was(value: Any, ascii_only: bool) -> None:
    assert repr(parse(json.dumps(value, ensure_ascii=ascii_only).encode())) == repr(value)


@given(st.binary() | json_like)
@example(b"")
@example(b"\xff\xfe[\x00]\x00")
@example(b'"\xed\xa0\x80"')
@example(b'{"a":1,"a":2}')
@example(b"[1] x")
@example(b"1e400")
def test_any_bytes_are_read_as_the_standard_library_reads_them_or_are_invalid(text: bytes) -> None:
    try:
        value = parse(text)
    except Invalid as fault:
        assert _refused_by_the_standard(text) or "surrogate" in fault.message
    else:
        assert repr(json.loads(text.decode("utf-8-sig"))) == repr(value)


def _refused_by_the_standard(text: bytes) -> bool:
    try:
        json.loads(text.decode("utf-8-sig"))
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"[NaN, Infinity, -Infinity]", [nan, inf, -inf]),
        (b"1e400", inf),
        (b"9007199254740993", 2**53 + 1),
        (b"-36893488147419103233", -(2**65) - 1),
        (b'"\\ud83d\\ude00\\u0000"', "\N{GRINNING FACE}\0"),
        (b"\xef\xbb\xbf[1]", [1]),
    ],
)
def test_these_texts_are_read(text: bytes, value: Any) -> None:
    assert repr(parse(text)) == repr(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": 1,\n "b": x}', "line 2, column 7: Expecting value"),
        ('["é",\n"ü", '.encode() + b"\xff]", "line 2, column 6: not UTF-8"),
        (b"", "line 1, column 1"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"\\udc00": NaN}', "half of a surrogate pair"),
        (b"1" * 5000, "more than 4300 digits"),
        (b"[" * 100_000, "nested too deeply"),
        (b'[{"a":' * 100_000 + b"NaN", "nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_invalid_and_says_where_or_why(text: bytes, message: str) -> None:
    with pytest.raises(Invalid) as fault:
        parse(text)
    assert message in fault.value.message


def test_the_place_is_also_there_for_programs() -> None:
    with pytest.raises(Invalid) as fault:
        parse(b"[1,\n\n  ,]")
    assert fault.value.details == {"line": 3, "column": 3}


def test_two_hundred_levels_pass_both_ways() -> None:
    text = b"[" * 200 + b"]" * 200
    assert render(parse(text)) == text


STACK_SCRIPT = """
import sys
sys.setrecursionlimit(10**6)
if sys.argv[1] == "mlhost.params.plainjson":
    sys.modules["msgspec"] = None
from mlhost.errors import Invalid
from mlhost.params.jsontext import parse, render
around = []
around.append(around)
for function, hostile in ((parse, b"[" * 10**6), (parse, b"[NaN," * 10**6), (render, around)):
    try:
        function(hostile)
    except (Invalid, ValueError) as fault:
        print(fault)
print(sys.getrecursionlimit())
"""


def test_nesting_does_not_overrun_the_stack_where_user_code_raised_the_recursion_limit(codec: ModuleType) -> None:
    command = [sys.executable, "-c", STACK_SCRIPT, codec.__name__]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *faults, limit = done.stdout.splitlines()
    assert len(faults) == 3
    assert all("nested too deeply" in fault for fault in faults)
    assert limit == "1000000"
    assert sys.getrecursionlimit() < 10**6
    assert MAX_RECURSION >= 1000, "the default limit is left alone"


# --- an array's items ------------------------------------------------------------------------------------------------


@given(st.lists(json_values, max_size=5), st.sampled_from([None, 1]))
def test_an_arrays_items_are_read_as_in_the_array(values: list[Any], indent: int | None) -> None:
    texts = list(items(json.dumps(values, indent=indent).encode()))
    assert repr([parse(text) for text in texts]) == repr(values)


@given(st.binary() | json_like.map(lambda text: b"[" + text + b"]"))
@example(b"\xef\xbb\xbf [ {} , NaN ] ")
def test_what_is_an_array_has_items_and_what_is_none_is_invalid(text: bytes) -> None:
    try:
        value = parse(text)
    except Invalid:
        return
    if isinstance(value, list):
        assert repr([parse(item) for item in items(text)]) == repr(value)
    else:
        with pytest.raises(Invalid, match="array"):
            list(items(text))


def test_very_many_items_are_found_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickjson, "MANY", 2)
    monkeypatch.setattr(jsontext, "_items", quickjson.items)
    found = items(b"[1, {}, [2, 3], 4, 5 oops")
    assert [next(found) for _ in range(4)] == [b"1", b"{}", b"[2, 3]", b"4"]
    with pytest.raises(Invalid):
        list(found)


@pytest.mark.parametrize("text", [b"", b"[1,]", b"[1 2]", b"[1", b"[", b"[]]", b"[1]x", b"{}", b"[,1]", b"[" * 100_000])
def test_what_is_no_array_is_invalid(text: bytes) -> None:
    with pytest.raises(Invalid):
        list(items(text))


# --- writing ---------------------------------------------------------------------------------------------------------

zones = st.sampled_from([None, UTC, timezone(timedelta(hours=-3, minutes=-30)), timezone(timedelta(seconds=1))])
objects = (
    st.decimals()
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.times(timezones=zones)
    | st.timedeltas()
    | st.binary()
    | st.uuids()
    | st.fractions()
    | st.text(st.characters())  # lone surrogates included
)
numpy_types = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes()
    | hnp.floating_dtypes(sizes=(16, 32, 64, 128))
    | hnp.datetime64_dtypes()
    | hnp.timedelta64_dtypes()
    | hnp.unicode_string_dtypes()
    | hnp.byte_string_dtypes()
)
numpy_arrays = hnp.arrays(numpy_types, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
numpy_scalars = hnp.arrays(numpy_types, ()).map(lambda array: array[()])
keys = (scalars | objects | numpy_scalars | st.tuples(integers, texts)).filter(
    lambda key: not (isinstance(key, Decimal) and key.is_snan())  # which has no hash
)
anything = st.recursive(
    scalars | objects | numpy_arrays | numpy_scalars,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(keys, inner, max_size=4)
        | st.lists(inner).map(deque)
        | st.lists(inner, max_size=3).map(lambda items: pd.Series(items, dtype=object))
    ),
    max_leaves=10,
)


@given(anything)
@example({Decimal("NaN"): Decimal("sNaN12"), Decimal("1.50"): "NaN", "i": [Decimal("-Infinity"), 'a"Infinity']})
@example({"\ud800": ("\udfff", np.array(["\udc80"]), {"\ud83d\ude00"}, b"x", date(2020, 1, 1))})
def test_what_is_written_is_always_json_and_can_be_read_here(value: Any) -> None:
    text = render(value)
    json.loads(text, parse_constant=_no_constant)
    parse(text)


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@given(json_values)
def test_plain_values_come_back_as_they_were_but_for_null_in_place_of_nan_and_infinity(value: Any) -> None:
    assert repr(parse(render(value))) == repr(finite(value))


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int
    y: Any


class Word(str):
    __slots__ = ()


class Celsius(float):
    __slots__ = ()


class Count(int):
    __slots__ = ()


class Tensor:
    def tolist(self) -> list[float]:
        return [1.0, 2.0]


class Exposed:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array([[1, 2]])


DATE_KEYS = '{"2020-01-02":1,"red":2,"00000000-0000-0000-0000-000000000001":3}'
Pair = namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**80, "1208925819614629174706176"),
        (-0.0, "-0.0"),
        ((1, {2}, frozenset({3}), range(2), deque([4])), "[1,[2],[3],[0,1],[4]]"),
        ({1: 1, 2.5: 2, None: 3, False: 4, (1, 2): 5}, '{"1":1,"2.5":2,"None":3,"False":4,"(1, 2)":5}'),
        ({np.int64(1): 1, np.False_: 2, np.str_("s"): 3, frozenset(): 4}, '{"1":1,"False":2,"s":3,"frozenset()":4}'),
        ({date(2020, 1, 2): 1, Colour.RED: 2, UUID(int=1): 3}, DATE_KEYS),
        ((Colour.RED, Colour.PAIR, Level.HIGH), '["red",[1,2],3]'),
        ((MappingProxyType({"a": 1}), UserDict(b=2)), '[{"a":1},{"b":2}]'),
        ((ChainMap({"a": 1}), Counter("b")), '[{"a":1},{"b":1}]'),
        ({"a": 1}.keys(), '["a"]'),
        ((Point(1, Pair(2, 3)), Word("w")), '[{"x":1,"y":[2,3]},"w"]'),
        ((Celsius(1.5), Count(2**64 + 1)), "[1.5,18446744073709551617]"),
        ((b"\xff", bytearray(b"a"), memoryview(b"b"), np.bytes_(b"c")), '["/w==","YQ==","Yg==","Yw=="]'),
        ((Decimal("1.10"), Decimal("NaN"), Decimal("-Infinity"), Fraction(1, 4)), "[1.10,null,null,0.25]"),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (datetime(2020, 1, 2, 3, 4, 5, 6), '"2020-01-02T03:04:05.000006"'),
        (datetime(2020, 1, 2, tzinfo=timezone(timedelta(hours=2))), '"2020-01-02T00:00:00+02:00"'),
        (datetime(2020, 1, 2, tzinfo=UTC), '"2020-01-02T00:00:00Z"'),
        ((date(2020, 1, 2), time(3, 4)), '["2020-01-02","03:04:00"]'),
        ((timedelta(seconds=1.5), timedelta(days=-1)), '["PT1.5S","-P1D"]'),
        ("a\ud800b", '"a\N{REPLACEMENT CHARACTER}b"'),
        (["\ud800", b"abc", {Decimal(1): bytearray(b"abc")}], '["\N{REPLACEMENT CHARACTER}","YWJj",{"1":"YWJj"}]'),
        ("\ud83d\ude00", '"\N{GRINNING FACE}"'),
        ((np.float32(0.5), np.float64(nan), np.int8(1), np.bool_(False), np.longdouble(2)), "[0.5,null,1,false,2.0]"),
        ((np.array(5), np.array([[1, 2]]), np.array([]), np.array([None, "a"])), '[5,[[1,2]],[],[null,"a"]]'),
        (np.ma.array([1, 2], mask=[True, False]), "[null,2]"),
        (np.array(["2020-01-02T03:04:05.123456789", "NaT"], "M8[ns]"), '["2020-01-02T03:04:05.123456",null]'),
        ((np.datetime64("2020-01-02"), np.timedelta64(1_500_000_000, "ns")), '["2020-01-02","PT1.5S"]'),
        (pd.Series([1.5, None]), "[1.5,null]"),
        (pd.Series([1, None], dtype="Int64"), "[1,null]"),
        ((pd.Index(["a", "b"]), pd.Categorical(["x", None])), '[["a","b"],["x",null]]'),
        ((pd.NaT, pd.NA, pd.Timestamp("2020-01-02", tz="UTC")), '[null,null,"2020-01-02T00:00:00+00:00"]'),
        ((pd.Timedelta(days=-1, seconds=1), pd.Timedelta("1.5s")), '["-PT86399S","PT1.5S"]'),
        ((pd.Period("2020-01"), pd.Interval(0, 1)), '["2020-01","(0, 1]"]'),
        (pd.DataFrame({"a": [1, 2], 3: ["x", None]}, index=[7, 8]), '{"a":[1,2],"3":["x",null]}'),
        (pd.DataFrame({("u", 1): [True]}), '{"(\'u\', 1)":[true]}'),
        (pd.DataFrame(), "{}"),
        ({"nested": [pd.DataFrame({"t": [pd.Timestamp("2020-01-02")]})]}, '{"nested":[{"t":["2020-01-02T00:00:00"]}]}'),
        ((Tensor(), Exposed()), "[[1.0,2.0],[[1,2]]]"),
    ],
)  # fmt: skip
def test_these_objects_are_written_so(value: Any, text: str) -> None:
    assert render(value).decode() == text


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "object"),
        ([1j], "complex"),
        (np.array([1j]), "complex"),
        ((item for item in [1]), "generator"),
        ({"f": len}, "builtin_function_or_method"),
        (np, "module"),
        ({object(): 1}, "object"),
    ],
)
def test_an_object_without_a_form_in_json_is_a_type_error_that_names_its_type(value: Any, named: str) -> None:
    with pytest.raises(TypeError, match=f"of type {named} cannot be written as JSON"):
        render(value)


def test_two_columns_of_one_name_are_an_error_rather_than_one_column() -> None:
    with pytest.raises(ValueError, match="two columns are named '1'"):
        render(pd.DataFrame([[1, 2]], columns=["1", 1]))


def _around() -> list[Any]:
    around_list: list[Any] = []
    around_list.append(around_list)
    around_dict: dict[str, Any] = {}
    around_dict["self"] = [around_dict]
    around_array = np.empty(1, object)
    around_array[0] = around_array
    return [around_list, around_dict, around_array, ["\ud800", around_list]]


@pytest.mark.parametrize("value", _around(), ids=["list", "dict", "array", "list of a lone surrogate"])
def test_what_contains_itself_is_an_error(value: Any) -> None:
    with pytest.raises(ValueError, match="contains itself"):
        render(value)


def test_a_value_in_a_message_is_short() -> None:
    assert shown([1] * 1000) == "a list"
    assert shown({"a": 1}) == "an object"
    assert shown("x" * 1000) == '"' + "x" * 39 + "…"
    assert [shown(value) for value in (None, True, nan, "é")] == ["null", "true", "NaN", '"é"']
