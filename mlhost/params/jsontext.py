"""JSON text to plain Python and back.

More lenient than the standard in what it reads (NaN, Infinity and a byte order mark), never in what it writes: any
JSON parser takes the text of `render`, and `parse` reads all of it. Only text that is Unicode passes, either way.
"""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import msgspec

from mlhost.errors import Invalid
from mlhost.params import arrays, frames

MAX_RECURSION = 2000  # frames; a C stack of 512 KiB holds as many
SHOWN_LENGTH = 40  # characters of a value in a message

_decode = msgspec.json.Decoder().decode
_check = msgspec.json.Decoder(msgspec.Raw).decode  # reads the text without building anything


# --- reading ---------------------------------------------------------------------------------------------------------


def parse(text: bytes) -> Any:
    """What the text says, integers of any size exact; Invalid tells the line and column where it is not JSON.

    A number beyond the range of a float is infinite, the last of two equal keys counts, as the standard library has
    it. Half of a surrogate pair is Invalid: no file, log or message could hold it.
    """
    try:
        return _within_stack(_parse, text)
    except RecursionError:
        raise Invalid("Not JSON that can be read here: nested too deeply.") from None


def _parse(text: bytes) -> Any:
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):  # the standard library reads more, and says where it fails
        return _parse_leniently(text.removeprefix(codecs.BOM_UTF8))


def _parse_leniently(text: bytes) -> Any:
    try:
        value = json.loads(text.decode())
        if b"\\u" in text:
            _encode(value)  # refuses lone surrogates
    except json.JSONDecodeError as fault:
        raise _malformed(fault.msg, fault.lineno, fault.colno) from None
    except UnicodeDecodeError as fault:
        before = text[: fault.start].decode()
        raise _malformed("not UTF-8", before.count("\n") + 1, len(before) - before.rfind("\n")) from None
    except UnicodeEncodeError:
        raise Invalid("Not JSON that can be read here: a \\u escape is half of a surrogate pair.") from None
    except ValueError:  # reading integers takes time quadratic in their length, so Python limits it
        digits = sys.get_int_max_str_digits()
        raise Invalid(f"Not JSON that can be read here: an integer of more than {digits} digits.") from None
    return value


def _malformed(reason: str, line: int, column: int) -> Invalid:
    return Invalid(f"Not JSON at line {line}, column {column}: {reason}", line=line, column=column)


# --- writing ---------------------------------------------------------------------------------------------------------


def render(value: Any) -> bytes:
    """Compact JSON of Python's, numpy's and pandas' values; TypeError names the type of one that has no form there.

    NaN, infinities, NaT and NA become null; times ISO 8601, durations too ("PT1.5S"); bytes base64; a data frame
    columns without its index; sets and arrays lists, data classes objects; keys of a dict strings. Half of a surrogate
    pair becomes U+FFFD. ValueError if the value is nested too deeply or contains itself.
    """
    try:
        text: bytes = _within_stack(_render, value)
    except RecursionError:
        raise ValueError("nested too deeply, or contains itself") from None
    return text


def shown(value: Any) -> str:
    """A parsed value in a message: its text, shortened; of a list or object only the word."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}…"


def _render(value: Any) -> bytes:
    try:
        text = _encode(value)
        _check(text)
    except (UnicodeEncodeError, msgspec.DecodeError):
        text = _encode(_spelled_out(value))
        _check(text)
    return text


def _spelled_out(value: Any) -> Any:
    """The same value without what msgspec refuses or writes wrongly.

    Refused are strings with half of a surrogate pair. Wrong are Decimals that are not finite, or keys of a dict: it
    writes them bare (msgspec issue 826).
    """
    if isinstance(value, str):
        return _in_characters(value)
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    if isinstance(value, dict):
        return {_key(key): _spelled_out(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_spelled_out(item) for item in value]
    if isinstance(value, Collection) and not isinstance(value, arrays.SCALAR_COLLECTIONS):
        return _spelled_out(_simpler(value))  # a data frame, an array
    return value


def _key(key: Any) -> Any:
    return _in_characters(str(key)) if isinstance(key, (str, Decimal)) else key


def _in_characters(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _simpler(value: Any) -> Any:
    """One step from what msgspec does not know towards what it does.

    None, booleans, tuples and frozen sets it writes itself: they come here only as keys of a dict.
    """
    if value is None or isinstance(value, (bool, tuple, frozenset)):
        return str(value)
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


# Subclasses, numpy's among them, of what msgspec knows; the first that fits: every Integral is a Real as well.
_SCALARS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (Integral, int),
    (Real, float),
    (Decimal, Decimal),
    ((bytes, bytearray), bytes),
    ((datetime, date, time), _iso),
    (timedelta, _duration),
)

_encode = msgspec.json.Encoder(enc_hook=_simpler, decimal_format="number").encode


def _within_stack(function: Callable[[Any], Any], value: Any) -> Any:
    """`function(value)`, where nesting without end is a RecursionError even in a worker whose code raised the limit.

    CPython 3.11 counts C calls by the limit for Python's: with a high one, C code overruns the stack and the process
    dies.
    """
    limit = sys.getrecursionlimit()
    if limit <= MAX_RECURSION:
        return function(value)
    sys.setrecursionlimit(MAX_RECURSION)
    try:
        return function(value)
    finally:
        sys.setrecursionlimit(limit)
