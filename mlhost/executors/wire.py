"""Frames between host and worker: a four-byte length, then a msgpack document.

A request is [train, number, function, [arguments, ...]]: calls that are numbered from that number on, of the train
whose first call has the number `train`. A reply is [number, error or None, result]; one of the number NO_CALL is a
bell, which says that there are answers elsewhere. What both ends share is here, in pure Python where compiled packages
do not load; the host's own part is in `channel`.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

import msgpack

from mlhost.errors import Invalid

LENGTH = struct.Struct("!I")
MAX_FRAME_BYTES = 2**31  # of one frame, in either direction
READ_BYTES = 1 << 16  # at once
NO_CALL = 0
RING_SECONDS = 0.0007  # for which answers are kept, at the most, before the next call of a train is run


class NotAFrame(ValueError):
    """The stream holds something that neither side sends."""


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


def frames(channel: socket.socket) -> Iterator[Any]:
    """The documents arriving on a blocking socket, until its other end closes."""
    held = bytearray()
    while came := channel.recv(READ_BYTES):
        if not held and _end(came) == len(came):  # nearly always: one frame, whole
            yield unpack(memoryview(came)[LENGTH.size :])
            continue
        held += came
        while len(held) >= (end := _end(held)):
            with memoryview(held) as all_held, all_held[LENGTH.size : end] as body:
                document = unpack(body)
            del held[:end]
            yield document
            del document


def _end(frames: bytes | bytearray) -> int:
    """Where the first of the frames ends; beyond everything if there is not even its length."""
    return LENGTH.size + LENGTH.unpack_from(frames)[0] if len(frames) >= LENGTH.size else sys.maxsize


BELL = pack([NO_CALL, None, None])
