"""Frames between host and worker: a four-byte length, then a msgpack document.

A request is [number, function, arguments], a reply [number, error or None, result]. User code in a worker can write to
the channel as well, so the host trusts nothing that comes from it: a length is bounded and never trusted with an
allocation, the result is decoded only if its number is awaited, and only as the type the called function returns.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, get_type_hints

import msgpack
import msgspec

from mlhost.errors import Invalid

LENGTH = struct.Struct("!I")
MAX_FRAME_BYTES = 2**31  # of one frame, in either direction
FIRST_BUFFER_BYTES = 64 * 1024  # most frames fit; a larger one grows it


class NotAFrame(ValueError):
    """The stream holds something that neither side sends."""


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


def pack(document: Any) -> bytes:
    """The document as one frame; Invalid if it is too large for one."""
    try:
        # Half a surrogate pair cannot travel as UTF-8; it arrives as it would be shown, "\\ud800".
        body: bytes = msgpack.packb(document, unicode_errors="backslashreplace")
    except (ValueError, OverflowError) as fault:  # msgpack's own bounds: 4 GiB, 64 bits
        raise Invalid(f"The data cannot travel in one message: {fault}") from None
    if len(body) > MAX_FRAME_BYTES:
        raise Invalid(f"{len(body)} bytes are too many for one message of at most {MAX_FRAME_BYTES}.")
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes | memoryview) -> Any:
    """The document in a frame's body, or NotAFrame."""
    try:
        return msgpack.unpackb(body, strict_map_key=False)
    except ValueError as fault:
        raise NotAFrame(str(fault)) from None


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


def frames(channel: socket.socket) -> Iterator[Any]:
    """The documents arriving on a blocking socket, until its other end closes."""
    with channel.makefile("rb") as stream:
        while len(head := stream.read(LENGTH.size)) == LENGTH.size:
            (length,) = LENGTH.unpack(head)
            body = stream.read(length)
            if len(body) < length:
                return
            yield unpack(body)


class FrameProtocol(asyncio.BufferedProtocol):
    """The host's end: hands the body of each frame to `on_frame`, and calls `on_end` once when the stream is over.

    `on_frame` must have read the body when it returns; a NotAFrame it raises ends the stream.
    """

    def __init__(self, on_frame: Callable[[memoryview], None], on_end: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_end = on_end
        self._buffer = bytearray(FIRST_BUFFER_BYTES)
        self._filled = 0
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, to end it if what arrives makes no sense."""
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        """The free part of the buffer, made larger when it is full."""
        del sizehint
        if self._filled == len(self._buffer):
            self._resize(2 * len(self._buffer))
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take every frame that is complete."""
        self._filled += nbytes
        try:
            self._take_frames()
        except NotAFrame:
            if self._transport is not None:
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that no more will come."""
        del exc
        self._on_end()

    def _take_frames(self) -> None:
        start = 0
        while self._filled - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer, start)
            body = start + LENGTH.size
            if length > MAX_FRAME_BYTES:
                raise NotAFrame(f"a length of {length} bytes")
            if self._filled < body + length:
                break
            start = body + length
            self._on_frame(memoryview(self._buffer)[body:start])
        if start:
            self._drop(start)

    def _drop(self, count: int) -> None:
        rest = self._buffer[count : self._filled]
        self._buffer[: len(rest)] = rest
        self._filled = len(rest)
        if not rest and len(self._buffer) > FIRST_BUFFER_BYTES:
            self._buffer = bytearray(FIRST_BUFFER_BYTES)

    def _resize(self, size: int) -> None:
        larger = bytearray(size)
        larger[: self._filled] = self._buffer  # the old one may still be lent out, so it is not resized in place
        self._buffer = larger
