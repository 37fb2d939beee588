"""The heads of plain requests, read at a glance.

Plain is what nearly every client of a service sends: HTTP/1.1, each header once and of visible ASCII, a body of a given
length or none, the connection kept. Whatever is not is left to aiohttp's parser, which alone says what is wrong with a
request; so nothing is refused here, and nothing is read in two ways (RFC 9112 sections 3, 5 and 6).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_HEAD_BYTES = 16_384  # and of one header as well: a token of Azure AD that names two hundred groups has 11,000
MAX_FIELDS = 128  # as many as aiohttp takes
MAX_LENGTH_DIGITS = 9  # of a body that comes in one piece with its head
END = b"\r\n\r\n"

_REQUEST = re.compile(rb"([A-Z]{3,7}) (/[!-~]*) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([ -~\t]*)")
_CALL = re.compile(r"/api/([A-Za-z0-9._~-]+)/([A-Za-z0-9._~-]+)")
# These change how the message is framed, or who reads on after it.
_NOT_PLAIN = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"te", b"trailer"})


@dataclass(frozen=True, slots=True)
class Head:
    """What a plain request says before its body."""

    body_bytes: int
    call: tuple[str, str] | None  # service and version, if it scores one
    host: str
    token: str  # "" without one
    has_origin: bool  # it comes from a web page


def read(head: bytes) -> Head | None:
    """A head without the blank line after it; None if it is not plain."""
    first, *lines = head.split(b"\r\n")
    request = _REQUEST.fullmatch(first)
    fields = _fields(lines)
    if request is None or fields is None or fields.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    length = fields.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
        return None
    scheme, _, token = fields.get(b"authorization", b"").decode().partition(" ")
    call = _CALL.fullmatch(request[2].decode()) if request[1] == b"POST" else None
    return Head(
        body_bytes=int(length),
        call=(call[1], call[2]) if call else None,
        host=fields.get(b"host", b"").decode(),
        token=token if scheme.lower() == "bearer" else "",
        has_origin=b"origin" in fields,
    )


def _fields(lines: list[bytes]) -> dict[bytes, bytes] | None:
    fields: dict[bytes, bytes] = {}
    if len(lines) > MAX_FIELDS:
        return None
    for line in lines:
        parts = _FIELD.fullmatch(line)
        if parts is None or (name := parts[1].lower()) in fields or name in _NOT_PLAIN:
            return None
        fields[name] = parts[2].strip(b" \t")
    return fields
