"""What an object looks like from outside: type, shape, size and a short repr, whatever it does when it is asked.

An object's own code runs here. It is interruptible, and once describing has taken a second in all no more of it runs.
"""

from __future__ import annotations

import reprlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sized
from itertools import islice
from time import monotonic
from typing import Any, TypedDict

from mlhost.runtime.interrupt import interruptible

REPR_LENGTH = 80  # characters
LARGE_LENGTH = 1000  # of a container beyond which its own repr, which tells every item, is not asked for
MOST_SECONDS = 1.0  # for all objects of a workspace
MOST_BYTES = 1 << 63  # that a size can have to travel
_qualname: Callable[[type], str] = vars(type)["__qualname__"].__get__  # whatever a metaclass says
CONTAINERS = (str, bytes, bytearray, list, tuple, dict, set, frozenset, deque)


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
    """reprlib, except that nothing is sorted or told as a whole only to be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = REPR_LENGTH

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, CONTAINERS) and type(x) not in (str, list, tuple, deque):
            return self._container(x, level)
        return super().repr1(x, level)

    def _container(self, x: Any, level: int) -> str:
        if type(x) in (set, frozenset):
            return self._set(x, level)
        if type(x) is dict:
            return self._dict(x, level)
        if len(x) <= LARGE_LENGTH:
            return self.repr_instance(x, level)
        return f"<{type(x).__name__} of {len(x)}>"

    def _dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0 and x:
            return "{...}"
        shown = [
            f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}"
            for key, value in islice(x.items(), self.maxdict)
        ]
        return "{" + _joined(shown, x, self.maxdict) + "}"

    def _set(self, x: set[Any] | frozenset[Any], level: int) -> str:
        if not x:
            return f"{type(x).__name__}()"
        shown = [self.repr1(item, level - 1) for item in islice(x, self.maxset)] if level > 0 else []
        text = "{" + _joined(shown, x, len(shown)) + "}"
        return text if type(x) is set else f"frozenset({text})"


def _joined(shown: Iterable[str], whole: Sized, most: int) -> str:
    return ", ".join([*shown, *(["..."] if len(whole) > most else [])])


_short = _Short()
