"""Pickling the objects of a workspace and opening such a pickle: what is refused and why, which packages it needs.

Functions defined in the workspace refer to its namespace by a persistent id, so after thawing they see the new
workspace's variables, as they did in the old one.
"""

from __future__ import annotations

import contextlib
import copyreg
import importlib
import importlib.metadata
import importlib.util
import io
import pickle
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import AsyncGeneratorType, BuiltinFunctionType, CoroutineType, FunctionType, GeneratorType, ModuleType
from typing import Any, Protocol

import cloudpickle

from mlhost.runtime.capture import OUTPUTS
from mlhost.runtime.parcels import CHUNK_BYTES
from mlhost.runtime.workspace import Workspace

NAMESPACE_ID = "mlhost.workspace"
CLASS_MAKERS = ("cloudpickle.cloudpickle._make_skeleton_class", "cloudpickle.cloudpickle._make_skeleton_enum")
SAFE_RECURSION = 20_000  # CPython 3.11 runs out of C stack at more than twice this depth, whatever its limit says
TOLD_LENGTH = 500  # characters of what a fault says
OWN_WORLD = {"__main__", "builtins", *sys.stdlib_module_names}
# scikit-learn warns of another version at each estimator that loads; it is said when loading fails.
VERSION_WARNING = "Trying to unpickle estimator"

ONLY_HERE = "which only this process has"
SUSPENDED = "which cannot be saved in the middle of its work"
REFUSED: dict[type, str] = {
    GeneratorType: f"a generator, {SUSPENDED}",
    AsyncGeneratorType: f"an asynchronous generator, {SUSPENDED}",
    CoroutineType: f"a coroutine, {SUSPENDED}",
    type(threading.Lock()): f"a lock, {ONLY_HERE}",
    type(threading.RLock()): f"a lock, {ONLY_HERE}",
    threading.Thread: f"a thread, {ONLY_HERE}",
    subprocess.Popen: f"a running program, {ONLY_HERE}",
    socket.socket: f"a network connection, {ONLY_HERE}",
}
# cloudpickle would silently turn a file that is open for reading into its content.
FILES = (io.TextIOWrapper, io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
PICKLING = ("__reduce__", "__reduce_ex__", "__getstate__")  # by which a class says how its objects are pickled
GLOBALS = (type, FunctionType, BuiltinFunctionType, ModuleType)  # whose packages a pickle refers to


class Writable(Protocol):
    """What a pickle is written to."""

    def write(self, content: Any, /) -> int:
        """As a file does."""


class Readable(Protocol):
    """What a pickle is read from."""

    def read(self, size: int, /) -> bytes:
        """As of a file."""


class _Refused(Exception):
    """The object, and what it is in plain words."""

    def __init__(self, value: object, words: str) -> None:
        super().__init__(words)
        self.value = value
        self.words = words


def refusal(value: object) -> str:
    """What an object is that no pickle can hold, in plain words; "" if it may be pickled."""
    kind = type(value)
    known = next((known for known in (*FILES, *REFUSED) if issubclass(kind, known)), None)
    if known is None or _console_name(value) or _knows_how(kind, known):
        return ""
    return REFUSED.get(known) or _told_file(value)


def _knows_how(kind: type, known: type) -> bool:
    """Whether a class derived from a refused one sees to its pickling itself."""
    own = any(getattr(kind, method, None) is not getattr(known, method, None) for method in PICKLING)
    return own or any(kind is registered for registered in copyreg.dispatch_table)


def _console_name(file: object) -> str:
    """ "stdout" or "stderr" if that is what the object is now."""
    return next((name for name in OUTPUTS if file is getattr(sys, name, None)), "")


def _told_file(file: Any) -> str:
    state = "a closed file" if file.closed else "an open file"
    name = getattr(file, "name", None)
    return f"{state} ({name!r})" if isinstance(name, str) else state


def reason(fault: BaseException, value: object) -> str:
    """What kept `value` from being pickled, as a clause."""
    if isinstance(fault, _Refused):
        return f"it {'is' if fault.value is value else 'holds'} {fault.words}"
    if isinstance(fault, RecursionError) or isinstance(fault.__cause__, RecursionError):
        return "it is nested too deeply to be pickled"
    return told(fault)


def told(fault: BaseException) -> str:
    """ "Type: message" of a fault in user code, whose message is user code too."""
    try:
        said = str(fault)[:TOLD_LENGTH]
    except Exception:
        said = "?"
    return f"{type(fault).__name__}: {said}"


# --- writing -------------------------------------------------------------------------------------------------------


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, except that the workspace's namespace is written as a name, and some objects are refused in words.

    Functions of the workspace do not bring along the variables `left_out`. `modules` are the names of the top-level
    modules the pickle refers to.
    """

    def __init__(self, workspace: Workspace, out: Writable, left_out: Collection[str] = ()) -> None:
        super().__init__(out)
        self.modules: set[str] = set()
        self._namespace = workspace.objects
        self._left_out = left_out
        self._kinds: dict[int, tuple[type, bool, bool]] = {}  # by id: a metaclass may forbid hashing
        # cloudpickle asks this table which dict shall be the globals of a function made of that namespace.
        self.globals_ref[id(workspace.objects)] = workspace.objects

    def persistent_id(self, value: object) -> str | None:
        """The namespace's name."""
        return NAMESPACE_ID if value is self._namespace else None

    def reducer_override(self, value: Any) -> Any:
        """Asked about everything but plain data: refuse it, note where it comes from, or have cloudpickle do it."""
        kind = type(value)
        _, is_suspect, is_global = self._kinds.get(id(kind)) or self._look_at(kind)
        if is_suspect:
            if words := refusal(value):
                raise _Refused(value, words)
            if name := _console_name(value):
                return getattr, (sys, name)
        if is_global:
            self._note(value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None))
        reduced = super().reducer_override(value)
        if kind is FunctionType and value.__globals__ is self._namespace and reduced is not NotImplemented:
            slots = reduced[2][1]
            slots["__globals__"] = {name: it for name, it in slots["__globals__"].items() if name not in self._left_out}
        return reduced

    def _look_at(self, kind: type) -> tuple[type, bool, bool]:
        self._note(getattr(kind, "__module__", None))
        seen = (kind, issubclass(kind, (*FILES, *REFUSED)), issubclass(kind, GLOBALS))
        self._kinds[id(kind)] = seen
        return seen

    def _note(self, module: object) -> None:
        if isinstance(module, str):
            self.modules.add(module.partition(".")[0])


@contextmanager
def bounded_recursion() -> Iterator[None]:
    """No deeper than the stack allows, even if user code has lifted the limit."""
    limit = sys.getrecursionlimit()
    if limit <= SAFE_RECURSION:
        yield
        return
    sys.setrecursionlimit(SAFE_RECURSION)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


# --- reading -------------------------------------------------------------------------------------------------------


class Unpickler(pickle.Unpickler):
    """Opens a pickle by `Pickler`: only in a worker, since it runs whatever the pickle says."""

    def __init__(self, workspace: Workspace, member: Readable) -> None:
        super().__init__(io.BufferedReader(_Pieces(member), CHUNK_BYTES))
        self._namespace = workspace.objects

    def find_class(self, module: str, name: str) -> Any:
        """A class or function that the pickle names."""
        found = super().find_class(module, name)
        # cloudpickle would bring a class that exists in this interpreter up to date instead of making another; but it
        # is another workspace's, or one of ours that objects made since depend on.
        return partial(_untracked, found) if f"{module}.{name}" in CLASS_MAKERS else found

    def persistent_load(self, pid: Any) -> Any:
        """The workspace's namespace."""
        if pid != NAMESPACE_ID:
            raise pickle.UnpicklingError(f"unknown persistent id {pid!r}")
        return self._namespace


class _Pieces(io.RawIOBase):
    """Reads into what the reader brings, without a second copy of it all."""

    def __init__(self, member: Readable) -> None:
        self._member = member

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        piece = self._member.read(min(len(into), CHUNK_BYTES))
        into[: len(piece)] = piece
        return len(piece)


def _untracked(make: Callable[..., Any], *args: Any) -> Any:
    """Call one of CLASS_MAKERS without the id by which cloudpickle recognizes a class: its last argument but one."""
    return make(*args[:-2], None, args[-1])


@contextmanager
def quiet_about_versions() -> Iterator[None]:
    """Let no package warn that an object was made by another version of it."""
    warnings.filterwarnings("ignore", VERSION_WARNING)
    # Not `catch_warnings`: of two threads that use it at once, one leaves the filters of the other behind.
    own = warnings.filters[0]
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            warnings.filters.remove(own)  # type: ignore[attr-defined]


# --- packages ------------------------------------------------------------------------------------------------------


def versions(modules: Collection[str]) -> dict[str, str]:
    """Package -> version, "" if it tells none, of those modules that do not come with Python."""
    found = sorted(name for name in modules if name not in OWN_WORLD)
    return {name: _version(name) for name in found if getattr(sys.modules.get(name), "__spec__", None) is not None}


def differences(packages: Mapping[str, str]) -> list[str]:
    """How the packages here differ from those of another time or place, a clause each."""
    told = []
    for name, then in packages.items():
        here = _version(name)
        if not here and not _is_installed(name):
            told.append(f"{name} is not installed here")
        elif here and then and here != then:
            told.append(f"taken with {name} {then}, here {here}")
    return told


def _version(name: str) -> str:
    with contextlib.suppress(Exception):  # a module may do anything when it is asked
        if isinstance(version := getattr(sys.modules.get(name), "__version__", None), str):
            return version
        return importlib.metadata.version(name)
    return ""


def _is_installed(name: str) -> bool:
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
