"""The console where the code runs: Python's text streams over descriptors whose other end the host reads.

In a process worker these are the descriptors 1 and 2, so whatever Python, C code or a child process prints arrives at
the host in the order it was written. In a subinterpreter they are one other descriptor, which only Python knows of. A
thread of the server that holds a workspace has streams of its own, over one pipe: what Python code in that thread
prints. Its `sys.stdout` is its own too: setting it (`redirect_stdout`)
touches no other thread. Reading, bounding and showing is the host's part (`mlhost.executors.console`).
"""

from __future__ import annotations

import copyreg
import importlib
import io
import os
import sys
import threading
from types import ModuleType
from typing import Any

INPUT, OUT, ERR = "stdin", "stdout", "stderr"
OUTPUTS = (OUT, ERR)
_descriptors = {OUT: 1, ERR: 2}


def install(console: int | None = None) -> None:
    """Point `sys.stdout` and `sys.stderr` at descriptors 1 and 2, or both at another, a line at a time."""
    if console is not None:
        _descriptors.update(dict.fromkeys(OUTPUTS, console))
    for name in OUTPUTS:
        setattr(sys, name, _stream(_descriptors[name]))


def outputs() -> tuple[Any, Any]:
    """`sys.stdout` and `sys.stderr` as they are now.

    Not by `sys.stdout`: CPython 3.14, once that has run often, looks past the class of `sys`, where a thread's own are.
    """
    return getattr(sys, OUT), getattr(sys, ERR)


def put_back(streams: tuple[Any, Any]) -> None:
    """Have them be what `outputs` gave, with nothing left in their buffers."""
    out, err = streams
    if getattr(sys, OUT, None) is not out:
        setattr(sys, OUT, out)
    if getattr(sys, ERR, None) is not err:
        setattr(sys, ERR, err)
    try:
        out.flush()
        err.flush()
    except Exception:
        flush()


def flush() -> None:
    """Write out what Python still buffers; a stream that user code closed, detached or deleted is opened again."""
    for name in OUTPUTS:
        try:
            getattr(sys, name).flush()
        except Exception:  # it may be any object that user code put there
            if _is_gone(name):
                own = _here.own
                setattr(sys, name, _stream(_descriptors[name]) if own is None else own.open())


def _is_gone(name: str) -> bool:
    if not hasattr(sys, name):
        return True
    try:
        return bool(getattr(getattr(sys, name), "closed", False))
    except Exception:  # a stream that is detached does not tell
        return True


def _stream(descriptor: int) -> io.TextIOWrapper:
    return _text(io.FileIO(descriptor, "w", closefd=False))


def _text(raw: io.FileIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True)


# --- streams of a thread -------------------------------------------------------------------------------------------


class Streams:
    """What `sys.stdin`, `sys.stdout` and `sys.stderr` are for one thread, or for all that have none of their own."""

    def __init__(self, **streams: Any) -> None:
        self._now = streams
        self._before = dict(streams)

    def get(self, name: str) -> Any:
        """The stream of that name; AttributeError if code deleted it."""
        if name not in self._now:
            raise AttributeError(f"module 'sys' has no attribute {name!r}")
        return self._now[name]

    def set(self, name: str, stream: Any) -> None:
        """Replace it; one of `_Routed`, which stands for all of them, brings back the one before."""
        if isinstance(stream, _Routed):
            stream = self._before[name]
        self._before[name], self._now[name] = self._now.get(name, stream), stream

    def delete(self, name: str) -> None:
        """As `del sys.stdout` does."""
        self._before[name] = self.get(name)
        del self._now[name]


class OwnStreams(Streams):
    """The calling thread's own, until they are closed: output to the descriptor, which is theirs now, and no input.

    Whoever still holds one of them afterwards (a logging handler, say) gets an error, and never another's descriptor.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._raw: list[io.FileIO] = []
        super().__init__(stdin=io.StringIO(), stdout=self.open(), stderr=self.open())
        _share()
        _here.own = self

    def open(self) -> io.TextIOWrapper:
        """One more stream over the descriptor."""
        self._raw = [raw for raw in self._raw if not raw.closed]
        self._raw.append(io.FileIO(self._descriptor, "w", closefd=False))
        return _text(self._raw[-1])

    def close(self) -> None:
        """Close the descriptor and all streams over it; the thread prints where all threads do."""
        _here.own = None
        for raw in self._raw:
            raw.close()
        os.close(self._descriptor)


class _Here(threading.local):
    own: OwnStreams | None = None


_here = _Here()
_all = Streams()
_sharing = threading.Lock()


def _streams() -> Streams:
    own = _here.own
    return _all if own is None else own


class _Routed:
    """Stands where the interpreter itself looks (`print`, `input`) for the stream of the thread that asks."""

    def __init__(self, name: str) -> None:
        self._name = name

    def write(self, text: str) -> int:
        stream = _streams().get(self._name)
        return len(text) if stream is None else stream.write(text)  # None: there is no such stream, as under a daemon

    def flush(self) -> None:
        stream = _streams().get(self._name)
        if stream is not None:
            stream.flush()

    def __getattr__(self, attribute: str) -> Any:
        return getattr(_streams().get(self._name), attribute)


def _routing(name: str) -> property:
    return property(
        lambda _: _streams().get(name),
        lambda _, stream: _streams().set(name, stream),
        lambda _: _streams().delete(name),
    )


class _RoutedSys(ModuleType):
    """The class of the module `sys` once a thread has streams of its own, and of no other module."""

    def __new__(cls, name: str, doc: str | None = None) -> ModuleType:  # type: ignore[misc]
        """A common module: the import system makes every module as one of the class that `sys` has."""
        return ModuleType(name, doc)

    stdin, stdout, stderr = _routing("stdin"), _routing("stdout"), _routing("stderr")


def _again(module: ModuleType) -> tuple[Any, ...]:
    """How a pickle names it; picklers know modules of the common class only."""
    return importlib.import_module, (module.__name__,)


copyreg.pickle(_RoutedSys, _again)


def _share() -> None:
    """Once per interpreter: give every thread the streams it has had so far, but by way of the routing."""
    global _all  # noqa: PLW0603 - there is one `sys`
    with _sharing:
        if isinstance(sys, _RoutedSys):
            return
        _all = Streams(**{name: getattr(sys, name) for name in (INPUT, *OUTPUTS)})
        vars(sys).update({name: _Routed(name) for name in (INPUT, *OUTPUTS)})
        sys.__class__ = _RoutedSys
