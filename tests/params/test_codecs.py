"""The two JSON codecs: msgspec's and the standard library's have the same results, and either stands alone."""

from __future__ import annotations

import enum
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlhost.errors import Invalid
from mlhost.params import plainjson, quickjson
from tests.params.test_jsontext import anything, json_like, json_values


class Kind(enum.Enum):
    NONE = None
    PAIR = (1, 2)
    EXACT = Decimal("1.0")
    NOTHING = Decimal("NaN")
    HALF = "\ud800"


class Flags(enum.IntFlag):
    LEFT = 1
    RIGHT = 2


@dataclass
class Record:
    _first: Any
    never: int = field(init=False)
    last: int = 3


@attrs.define
class Attrs:
    seen: int
    _hidden: int = 2


@attrs.define(slots=False)
class Open:
    seen: int
    _hidden: int = 2


class Sevens(list[int]):
    def __iter__(self) -> Any:
        yield 7


class Zone(tzinfo):
    def __init__(self, offset: timedelta | None) -> None:
        self.offset = offset

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return self.offset


def opened() -> Open:
    value = Open(1)
    value.more = 5  # type: ignore[attr-defined]
    return value


ODD = [
    *Kind,
    Flags.LEFT | Flags.RIGHT,
    Record(Decimal("Infinity")),
    Record({"\ud800": Attrs(1)}),
    opened(),
    Sevens([1]),
    {Kind.NONE: 1, Kind.PAIR: 2, Kind.EXACT: 3, Kind.NOTHING: 4, Kind.HALF: 5, Flags.LEFT: 6},
    memoryview(b"abcd").cast("H"),
    memoryview(b"abcd")[::2],
    {range(2): 1},
    {memoryview(b"a"): 1},
    {Kind: 1},
    Kind,
    10**4299,
    10**4300,
    {10**4300: 1},
]


def result(function: Callable[[Any], Any], given: Any) -> Any:
    try:
        return repr(function(given))
    except (Invalid, TypeError, ValueError, OverflowError, BufferError) as fault:
        return type(fault), str(fault)


@settings(max_examples=500)
@given(anything)
def test_both_write_the_same(value: Any) -> None:
    assert result(quickjson.write, value) == result(plainjson.write, value)


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_both_write_odd_objects_the_same_or_refuse_them_in_the_same_words(value: Any) -> None:
    assert result(quickjson.write, value) == result(plainjson.write, value)


@settings(max_examples=2000)
@given(st.floats() | st.floats(1e-9, 1e-3) | st.floats(-1e-3, -1e-9) | st.floats(1e14, 1e24))
@example(-1e-5)
@example(1.5e-5)
def test_both_have_one_text_for_a_float(value: float) -> None:
    assert quickjson.write([value, {value: 1}]) == plainjson.write([value, {value: 1}])


@given(st.timedeltas(timedelta(days=-1), timedelta(days=1)) | st.none())
@example(timedelta(seconds=30))
@example(timedelta(seconds=-30))
@example(timedelta(hours=23, minutes=59, seconds=31))
@example(timedelta(seconds=3630, microseconds=999999))
def test_both_round_the_offset_of_a_zone_to_the_same_minute(offset: timedelta | None) -> None:
    zone = Zone(offset)
    times = [datetime(2020, 1, 2, 3, 4, 5, 600, tzinfo=zone), time(3, 4, tzinfo=zone), time(3, 4, tzinfo=UTC)]
    assert quickjson.write(times) == plainjson.write(times)


@settings(max_examples=500)
@given(st.binary() | json_like | json_values.map(lambda value: json.dumps(value).encode()))
def test_both_read_the_same_or_refuse_it_in_the_same_words(text: bytes) -> None:
    assert result(quickjson.read, text) == result(plainjson.read, text)


# --- stated differences ----------------------------------------------------------------------------------------------


class Struct(msgspec.Struct):
    x: int


@pytest.mark.parametrize("value", [Struct(1), msgspec.Raw(b"1")], ids=["Struct", "Raw"])
def test_types_of_msgspecs_own_have_a_form_only_with_msgspec(value: Any) -> None:
    assert json.loads(quickjson.write(value))
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        plainjson.write(value)


@pytest.mark.parametrize("codec", [quickjson, plainjson], ids=["msgspec", "json"])
def test_how_deep_a_value_may_be_nested_is_each_codecs_own_but_never_little(codec: Any) -> None:
    deep: list[Any] = []
    for _ in range(sys.getrecursionlimit() - 300):
        deep = [deep]
    text = codec.write(deep)
    assert codec.write(codec.read(text)) == text
    deep.append(deep)
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        codec.write(deep)


# --- which one is used -----------------------------------------------------------------------------------------------

WITHOUT_MSGSPEC = """
import sys
if sys.argv[1] == "without":
    sys.modules["msgspec"] = None
from mlhost.params import jsontext
print(jsontext._read.__module__, jsontext._write.__module__)
print(jsontext.render(jsontext.parse(b'[NaN, 1.0, "x"]')))
"""


@pytest.mark.parametrize(("argument", "used"), [("with", "quickjson"), ("without", "plainjson")])
def test_msgspec_is_used_where_it_can_be_imported(argument: str, used: str) -> None:
    command = [sys.executable, "-c", WITHOUT_MSGSPEC, argument]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    modules, text = done.stdout.splitlines()
    assert modules == f"mlhost.params.{used} mlhost.params.{used}"
    assert text == "b'[null,1.0,\"x\"]'"
