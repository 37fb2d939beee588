"""JSON by the standard library and Python alone, to the byte as `quickjson` has it.

Different is how deep a value may be nested (both stay within the recursion limit, each by its own count), and that
what is of msgspec's own types (Struct, Raw, UNSET) has no form here.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from json.encoder import encode_basestring as _quoted
from math import isfinite
from types import NoneType
from typing import Any
from uuid import UUID

from mlhost.errors import Invalid
from mlhost.params.objects import simpler

Put = Callable[[str], None]

_MARKS = {marks: re.compile(rf"[ \t\n\r]*([{re.escape(marks)}])[ \t\n\r]*") for marks in ("[", "]", ",]")}
_scan = json.JSONDecoder().raw_decode

# --- reading ---------------------------------------------------------------------------------------------------------


def read(text: bytes) -> Any:
    """What the text says; Invalid, RecursionError."""
    text = text.removeprefix(codecs.BOM_UTF8)
    try:
        value = json.loads(text.decode())
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # refuses lone surrogates
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


def items(text: bytes) -> Iterator[bytes]:
    """The texts of an array's items; Invalid, RecursionError."""
    try:
        yield from _split(text.removeprefix(codecs.BOM_UTF8).decode())
    except json.JSONDecodeError as fault:
        raise _malformed(fault.msg, fault.lineno, fault.colno) from None
    except UnicodeDecodeError:
        raise Invalid("Not JSON: not UTF-8.") from None
    except ValueError:
        raise Invalid("Not JSON that can be read here: an integer of too many digits.") from None


def _split(array: str) -> Iterator[bytes]:
    if not _MARKS["["].match(array):
        raise Invalid("Not a JSON array.")
    mark, at = _mark("[", array, 0)
    if _MARKS["]"].match(array, at):
        mark, at = _mark("]", array, at)
    while mark != "]":
        _, end = _scan(array, at)
        yield array[at:end].encode()
        mark, at = _mark(",]", array, end)
    if at != len(array):
        raise json.JSONDecodeError("Extra data", array, at)


def _mark(wanted: str, text: str, at: int) -> tuple[str, int]:
    """The mark there, and where the text goes on after it and the blanks around it."""
    found = _MARKS[wanted].match(text, at)
    if found is None:
        raise json.JSONDecodeError(f"Expecting {' or '.join(map(repr, wanted))}", text, at)
    return found[1], found.end()


def _malformed(reason: str, line: int, column: int) -> Invalid:
    return Invalid(f"Not JSON at line {line}, column {column}: {reason}", line=line, column=column)


# --- writing ---------------------------------------------------------------------------------------------------------


def write(value: Any) -> bytes:
    """Compact JSON; TypeError, RecursionError."""
    parts: list[str] = []
    _put(value, parts.append)
    text = "".join(parts)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair; two halves are a character
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _put(value: Any, put: Put) -> None:
    """Write a value of any kind; one frame a level, so that as many levels as may be fit the recursion limit."""
    kind = type(value)
    if bare := _BARE.get(kind):
        put(bare(value))
    elif quotable := _QUOTABLE.get(kind):
        put(_quoted(quotable(value)))
    elif issubclass(kind, dict):
        mark = "{"
        for key, item in dict.items(value):
            put(f"{mark}{_quoted(_key(key))}:")
            _put(item, put)
            mark = ","
        put("}" if mark == "," else "{}")
    elif issubclass(kind, (list, tuple, set, frozenset)):
        mark = "["
        for item in _items(value, kind):
            put(mark)
            _put(item, put)
            mark = ","
        put("]" if mark == "," else "[]")
    else:
        _put(_opened(value, kind), put)


def _opened(value: Any, kind: Any) -> Any:
    """What an object stands for, or one step towards it."""
    if issubclass(kind, Enum):
        return value._value_
    if issubclass(kind, UUID):
        return UUID.__str__(value)
    if hasattr(kind, "__dataclass_fields__"):
        return _fields(value, kind.__dataclass_fields__)
    if hasattr(kind, "__attrs_attrs__"):
        return _public(value, [each.name for each in kind.__attrs_attrs__])
    return simpler(value)


def _items(value: Any, kind: type) -> Iterator[Any]:
    """What is in it, whatever a subclass says."""
    if issubclass(kind, (list, tuple)):
        return (list if issubclass(kind, list) else tuple).__iter__(value)
    return iter(value)


def _fields(value: Any, names: Any) -> dict[str, Any]:
    """Those that are set."""
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _public(value: Any, names: list[str]) -> dict[str, Any]:
    """Those of an attrs object, and what else was set on it."""
    names = [*getattr(value, "__dict__", ()), *names]
    return _fields(value, [name for name in names if name[0] != "_"])


def _key(key: Any) -> str:
    kind = type(key)
    if isinstance(key, str):
        return key
    if kind in _KEYS:
        return _KEYS[kind](key)
    if issubclass(kind, Enum):
        return _key(key._value_)
    return UUID.__str__(key) if issubclass(kind, UUID) else _key(simpler(key))


def _number(value: float) -> str:
    return _finite(value) if isfinite(value) else "null"


def _finite(value: float) -> str:
    """Python's shortest text, but for the exponent: 1e16 and 1e-7 instead of 1e+16 and 1e-07; 0.00001 has none."""
    digits, exponent, power = float.__repr__(value).partition("e")
    if not exponent:
        return digits
    if power == "-05":
        sign, digits = ("-", digits[1:]) if digits[0] == "-" else ("", digits)
        return f"{sign}0.0000{digits.replace('.', '')}"
    return f"{digits}e{int(power)}"


def _float_key(value: float) -> str:
    return _finite(value) if isfinite(value) else float.__repr__(value)


def _decimal(value: Decimal) -> str:
    return str(value) if value.is_finite() else "null"


def _base64(value: bytes | bytearray | memoryview) -> str:
    return b64encode(value).decode()


def _datetime(value: datetime) -> str:
    return value.replace(tzinfo=None).isoformat() + _offset(value.tzinfo, value)


def _time(value: time) -> str:
    return value.replace(tzinfo=None).isoformat() + _offset(value.tzinfo, None)


def _offset(zone: tzinfo | None, moment: datetime | None) -> str:
    """Hours and minutes, the seconds rounded, as RFC 3339 has it; Z if there are none."""
    offset = None if zone is None else zone.utcoffset(moment)
    if offset is None:
        return ""
    sign, seconds = ("-", 86400 - offset.seconds) if offset.days == -1 else ("+", offset.seconds)
    hours, minutes = divmod((seconds + 29) // 60 % 1440, 60)
    return f"{sign}{hours:02}:{minutes:02}" if hours or minutes else "Z"


def _duration(value: timedelta) -> str:
    """ISO 8601 in days and seconds."""
    sign, value = ("-", -value) if value.days < 0 else ("", value)
    days = f"{value.days}D" if value.days or not value else ""
    fraction = f".{value.microseconds:06}".rstrip("0") if value.microseconds else ""
    seconds = f"T{value.seconds}{fraction}S" if value.seconds or fraction else ""
    return f"{sign}P{days}{seconds}"


_BARE: dict[type, Callable[[Any], str]] = {
    NoneType: lambda _: "null",
    bool: lambda value: "true" if value else "false",
    int: int.__repr__,
    float: _number,
    Decimal: _decimal,
}
_QUOTABLE: dict[type, Callable[[Any], str]] = {
    str: str.__str__,
    bytes: _base64,
    bytearray: _base64,
    memoryview: _base64,
    datetime: _datetime,
    date: date.isoformat,
    time: _time,
    timedelta: _duration,
}
_KEYS: dict[type, Callable[[Any], str]] = {
    int: int.__repr__,
    float: _float_key,
    Decimal: str,
    **{kind: quotable for kind, quotable in _QUOTABLE.items() if kind is not memoryview},
}
