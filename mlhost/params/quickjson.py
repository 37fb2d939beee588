"""JSON by msgspec: what it reads and writes as it should, in a tenth of the time; the rest `plainjson` does.

Not for subinterpreters, where msgspec cannot be imported (0.22.0). It refuses to read NaN, infinite numbers and byte
order marks, and to write half of a surrogate pair. It writes Decimals bare where they are not finite or the key of a
dict (msgspec issue 826), which is not JSON: so all that was written is read once more, without building anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from mlhost.params import plainjson
from mlhost.params.objects import simpler

MANY = 1 << 22  # items: finding them all at once takes 64 bytes each

_decode = msgspec.json.Decoder().decode
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_check = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.Encoder(enc_hook=simpler, decimal_format="number").encode


def read(text: bytes) -> Any:
    """What the text says; Invalid, RecursionError."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):  # the standard library reads more, and says where it fails
        return plainjson.read(text)


def items(text: bytes) -> Iterator[bytes]:
    """The texts of an array's items; Invalid, RecursionError."""
    if text.count(b",") > MANY:
        return plainjson.items(text)  # one after the other
    try:
        return map(bytes, _split(text))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return plainjson.items(text)


def write(value: Any) -> bytes:
    """Compact JSON; TypeError, RecursionError."""
    try:
        text = _encode(value)
        _check(text)
    except (UnicodeEncodeError, msgspec.DecodeError):
        return plainjson.write(value)
    return text
