"""Each verb of the client written once, as steps that ask for what they need; who runs them waits in their own way.

A verb is a generator: it yields requests and pauses and is sent the answers (sans-I/O). A noun of the blocking client
runs it on the spot, one of the asynchronous client gives something to await. Nothing here opens a connection.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from mlhost.errors import Invalid, Unavailable
from mlhost.params.jsontext import parse

if TYPE_CHECKING:
    from mlhost.client.awaiting import AwaitingWire
    from mlhost.client.blocking import BlockingWire

Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent: the path is escaped and has its query."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # a token is among them
    into: Sink | None = None  # what takes the body of an answer that is no refusal, which then has none


@dataclass(slots=True)
class Sink:
    """Where a large body goes as it comes; `tell` hears of every piece: bytes so far, and of all (0: not known)."""

    file: IO[bytes]
    tell: Callable[[int, int], object] = lambda _done, _total: None
    done: int = 0

    def put(self, piece: bytes, total: int) -> None:
        """Write a piece; Unavailable if the disk does not take it, which is no fault of the server's."""
        try:
            self.file.write(piece)
        except OSError as fault:
            raise Unavailable(f"What was to be kept cannot be written: {fault.strerror}.") from fault
        self.done += len(piece)
        self.tell(self.done, total)


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes back, whatever its status; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as plain data; Unavailable if it is not JSON, for then it is not mlhost that answers."""
        try:
            return parse(self.body)
        except Invalid as fault:
            raise Unavailable(f"The answer is not JSON, as mlhost's are: {fault}") from fault


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Alone:
    """Steps that no other thread or task of the same client may be in meanwhile; their result is sent back."""

    steps: Steps[Any]


Steps = Generator[Request | Pause | Alone, Any, Result]


async def driven(steps: Steps[Result], take: Callable[[Request | Pause | Alone], Awaitable[Any]]) -> Result:
    """The result of the steps; what they are interrupted by is thrown into them first, to let them clean up.

    Both kinds of client run this one loop: `take` does a step in the client's own way.
    """
    do: Callable[[Any], Any] = steps.send
    given: Any = None
    while True:
        try:
            step = do(given)
        except StopIteration as end:
            result: Result = end.value
            return result
        try:
            do, given = steps.send, await take(step)
        except GeneratorExit:  # nobody runs the loop any more that could wait for a last request
            raise
        except BaseException as fault:
            do, given = steps.throw, fault


def at_once(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that waits for nothing but what blocks."""
    try:
        work.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    work.close()
    raise RuntimeError("a blocking client was given something to await")


class Blocking:
    """A noun of the blocking client."""

    def __init__(self, wire: BlockingWire) -> None:
        self.wire = wire


class Awaiting:
    """A noun of the asynchronous client."""

    def __init__(self, wire: AwaitingWire) -> None:
        self.wire = wire


class verb(Generic[Given, Result]):  # noqa: N801 - a decorator
    """Makes a method of steps one that returns their result (Blocking) or an awaitable of it (Awaiting)."""

    def __init__(self, steps: Callable[Concatenate[Any, Given], Steps[Result]]) -> None:
        self.steps = steps
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, noun: None, kind: type) -> verb[Given, Result]: ...
    @overload
    def __get__(self, noun: Blocking, kind: type) -> Callable[Given, Result]: ...
    @overload
    def __get__(self, noun: Awaiting, kind: type) -> Callable[Given, Awaitable[Result]]: ...
    def __get__(self, noun: Any, kind: type) -> Any:
        if noun is None:
            return self

        @functools.wraps(self.steps)
        def method(*args: Given.args, **kwargs: Given.kwargs) -> Any:
            return noun.wire.run(self.steps(noun, *args, **kwargs))

        return method
