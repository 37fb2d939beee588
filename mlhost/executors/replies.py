"""What a worker answers, as the host reads it.

User code in a worker can write to the channel as well, so the host trusts nothing that comes from it: the result is
decoded only if its number is awaited, and only as the type the called function returns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints

import msgspec

from mlhost.errors import CodeFailed, Conflict, Invalid, MlhostError, NotFound, Unavailable, from_wire
from mlhost.executors.wire import NotAFrame

RAISED = (MlhostError, Invalid, NotFound, Conflict, CodeFailed, Unavailable)  # by functions of the runtime


class WireError(msgspec.Struct):
    """An error as `errors.to_wire` describes it."""

    code: str
    message: str
    details: dict[str, str | int | float | bool | None]


class Reply(msgspec.Struct, array_like=True):
    """What a worker sends; the result is not looked into before it is known who waits for it."""

    number: int
    error: WireError | None
    result: msgspec.Raw


def unpack_reply(body: bytes | memoryview) -> Reply:
    """A reply in a frame's body, or NotAFrame."""
    reply: Reply = _decoded(_replies, body)
    return reply


def unpack_result(reply: Reply, function: Callable[..., Any]) -> Any:
    """The result of a reply, as the type that `function` returns, or NotAFrame."""
    return _decoded(_results(function), reply.result)


_replies = msgspec.msgpack.Decoder(Reply)


@cache
def _results(function: Callable[..., Any]) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(get_type_hints(function).get("return", Any))


def _decoded(decoder: msgspec.msgpack.Decoder[Any], body: Any) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as fault:
        raise NotAFrame(str(fault)) from None


def error_of(reply: Reply) -> MlhostError | None:
    """The worker's error if there is one; of a kind that no function of the runtime raises, it is a fault of ours."""
    if reply.error is None:
        return None
    told = from_wire(msgspec.structs.asdict(reply.error))
    return told if type(told) in RAISED else MlhostError(told.message)
