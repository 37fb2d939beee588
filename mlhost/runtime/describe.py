"""What an object looks like from outside: type, shape, size and a short repr, whatever it does when it is asked.

An object's own code runs here. It is interruptible, and once describing has taken a second in all no more of it runs.
"""

from __future__ import annotations

import reprlib
import sys
from collections import deque
from collections.abc import Callable
from itertools import islice
from time import monotonic
from typing import Any, TypedDict

from mlhost.runtime.interrupt import interruptible

REPR_LENGTH = 80  # characters
ARRAY_LENGTH = 20  # numbers beyond which only the first and last few are shown
MOST_SECONDS = 1.0  # for all objects of a workspace
MOST_BYTES = 1 << 63  # that a size can have to travel
_qualname: Callable[[type], str] = vars(type)["__qualname__"].__get__  # whatever a metaclass says


class Described(TypedDict, total=False):
    """One object; what it does not have or would not tell is left out."""

    type: str
    shape: str  # "150 x 4"
    bytes: int  # in memory, without what it refers to
    repr: str


def describe_all(objects: dict[str, Any]) -> dict[str, Described]:
    """All of them by name."""
    latest = monotonic() + MOST_SECONDS
    return {name: _describe(value, latest) for name, value in objects.items()}


def _describe(value: Any, latest: float) -> Described:
    described = Described(type=_qualname(type(value)))
    if shape := _asked("shape", _shape, value, latest):
        described["shape"] = shape
    if isinstance(size := _asked("size", _bytes, value, latest), int):
        described["bytes"] = size
    if text := _asked("repr", _repr, value, latest):
        described["repr"] = text
    return described


def _asked(part: str, ask: Callable[[Any], Any], value: Any, latest: float) -> Any:
    if monotonic() > latest:
        return None
    try:
        with interruptible():
            return ask(value)
    except KeyboardInterrupt:
        raise
    except BaseException as fault:  # user code can raise anything
        return f"<{part} failed: {_qualname(type(fault))}>"


def _shape(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return " x ".join(str(length) for length in shape)[:REPR_LENGTH] if isinstance(shape, tuple) else ""


def _bytes(value: Any) -> int | None:
    size = getattr(value, "nbytes", None)
    size = int.__index__(size) if isinstance(size, int) else sys.getsizeof(value)
    return size if 0 <= size < MOST_BYTES else None


def _repr(value: Any) -> str:
    return str.__getitem__(_short.repr(value), slice(REPR_LENGTH))  # a repr may be a str of the user's own kind


class _Short(reprlib.Repr):
    """reprlib, except that nothing is sorted and no container, of whatever kind, is told as a whole only to be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = REPR_LENGTH
        self._tellers: dict[type, Callable[[Any, int], str]] = {
            str: self.repr_str,
            bytes: _told_bytes,
            bytearray: _told_bytes,
            list: self.repr_list,
            tuple: self.repr_tuple,
            deque: self.repr_deque,
            dict: self._dict,
            set: self._set,
            frozenset: self._set,
        }

    def repr1(self, x: Any, level: int) -> str:
        """Of any object; a kind of container that the user made is shown as the one it is a kind of."""
        kind = type(x)
        for known, tell in self._tellers.items():
            if issubclass(kind, known):
                return tell(x, level) if kind is known else f"{kind.__name__}({tell(x, level)})"
        return super().repr1(x, level)

    def repr_ndarray(self, x: Any, level: int) -> str:
        """A NumPy array, whose own repr takes milliseconds for a thousand numbers."""
        del level
        text: str = sys.modules["numpy"].array2string(x, separator=", ", threshold=ARRAY_LENGTH, prefix="array(")
        return f"array({text})"

    def _dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0 and x:
            return "{...}"
        shown: list[str] = []
        for key, value in islice(x.items(), self.maxdict):
            shown.append(f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}")
            if len(shown[-1]) > REPR_LENGTH:  # an array, say, which takes its time; what follows would be cut off
                break
        return "{" + ", ".join(shown) + (", ...}" if len(x) > self.maxdict else "}")

    def _set(self, x: set[Any] | frozenset[Any], level: int) -> str:
        shown = ", ".join([self.repr1(item, level - 1) for item in islice(x, self.maxset)] if level > 0 else [])
        text = "{" + shown + (", ...}" if len(x) > self.maxset else "}") if x else ""
        return text if x and isinstance(x, set) else f"{type(x).__name__}({text})"


def _told_bytes(x: bytes | bytearray, level: int) -> str:
    del level
    return repr(x[:REPR_LENGTH])


_short = _Short()
