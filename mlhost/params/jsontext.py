"""JSON text to plain Python and back.

More lenient than the standard in what it reads (NaN, Infinity and a byte order mark), never in what it writes: any
JSON parser takes the text of `render`, and `parse` reads all of it. Only text that is Unicode passes, either way.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from mlhost.errors import Invalid

try:
    from mlhost.params.quickjson import items as _items
    from mlhost.params.quickjson import read as _read
    from mlhost.params.quickjson import write as _write
except ImportError:  # a subinterpreter
    from mlhost.params.plainjson import items as _items
    from mlhost.params.plainjson import read as _read
    from mlhost.params.plainjson import write as _write

MAX_RECURSION = 2000  # frames; a C stack of 512 KiB holds as many
SHOWN_LENGTH = 40  # characters of a value in a message


def parse(text: bytes) -> Any:
    """What the text says, integers of any size exact; Invalid tells the line and column where it is not JSON.

    A number beyond the range of a float is infinite, the last of two equal keys counts, as the standard library has
    it. Half of a surrogate pair is Invalid: no file, log or message could hold it.
    """
    try:
        return _within_stack(_read, text)
    except RecursionError:
        raise Invalid("Not JSON that can be read here: nested too deeply.") from None


def items(text: bytes) -> Iterator[bytes]:
    """The texts of an array's items, as they are written there; Invalid where it is not JSON or no array.

    What is inside an item is not built and not always looked at: `parse` says whether an item is sound.
    """
    try:
        yield from _items(text)
    except RecursionError:
        raise Invalid("Not JSON that can be read here: nested too deeply.") from None


def render(value: Any) -> bytes:
    """Compact JSON of Python's, numpy's and pandas' values; TypeError names the type of one that has no form there.

    NaN, infinities, NaT and NA become null; times ISO 8601, durations too ("PT1.5S"); bytes base64; a data frame
    columns without its index; sets and arrays lists, data classes objects; keys of a dict strings. Half of a surrogate
    pair becomes U+FFFD. ValueError if the value is nested too deeply or contains itself.
    """
    try:
        text: bytes = _within_stack(_write, value)
    except RecursionError:
        raise ValueError("nested too deeply, or contains itself") from None
    return text


def shown(value: Any) -> str:
    """A parsed value in a message: its text, shortened; of a list or object only the word."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}…"


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
