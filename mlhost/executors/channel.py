"""The host's end of the socket to a worker, or to the template: frames in, frames out.

User code can write to a worker's end as well: a length is bounded and never trusted with an allocation, and what makes
no sense ends the stream.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from mlhost.errors import MlhostError
from mlhost.executors import callables, replies, wire
from mlhost.executors.wire import LENGTH, MAX_FRAME_BYTES, NotAFrame

FIRST_BUFFER_BYTES = 64 * 1024  # most frames fit; a larger one grows it

OnAnswer = Callable[[int, MlhostError | None, Any], None]  # told the number of a call and what it came to


class Channel:
    """The socket to one worker, over which it is called."""

    def __init__(
        self,
        on_answer: OnAnswer,
        on_disturbed: Callable[[], None],
        on_end: Callable[[], None],
        on_bell: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_answer = on_answer
        self._on_disturbed = on_disturbed  # something came that no worker of ours sends
        self._on_end = on_end
        self._on_bell = on_bell  # told before what comes is looked at
        self._transport: asyncio.WriteTransport | None = None
        self._awaited = range(0)
        self._function: Callable[..., Any] | None = None

    async def connect(self, ours: socket.socket) -> None:
        """Take over the host's end."""
        ours.setblocking(False)
        transport, _ = await asyncio.get_running_loop().create_unix_connection(
            lambda: FrameProtocol(self._on_frame, self._on_end), sock=ours
        )
        self._transport = transport

    def send(self, train: int, first: int, function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> None:
        """Have the worker call the function with each of the arguments; the first call of the train has its number.

        Only answers to calls of this train are passed on.
        """
        assert self._transport is not None
        frame = wire.pack([train, first, callables.name_of(function), calls])
        self._awaited, self._function = range(train, first + len(calls)), function
        if not self._transport.is_closing():  # else word of the worker's end is on its way, and uvloop would raise
            self._transport.write(frame)

    def close(self) -> None:
        """Let what was sent arrive, then tell the worker that no more will come."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End at once."""
        if self._transport is not None:
            self._transport.abort()

    def read(self, body: bytes | memoryview) -> None:
        """Pass on a reply, or raise NotAFrame."""
        reply = replies.unpack_reply(body)
        if reply.number not in self._awaited or self._function is None:
            return  # the bell, an answer nobody waits for, or one that user code made up
        result = None if reply.error else replies.unpack_result(reply, self._function)
        self._on_answer(reply.number, replies.error_of(reply), result)

    def _on_frame(self, body: memoryview) -> None:
        try:
            self._on_bell()
            self.read(body)
        except NotAFrame:
            self._on_disturbed()
            raise


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
