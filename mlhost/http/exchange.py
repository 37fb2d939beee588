"""Reading requests into typed records and writing records as answers.

Requests are bound as the original's server bound them (contract, conventions): property names in any case, snake_case
tolerated, unknown properties ignored.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, TypeVar, get_args
from urllib.parse import quote

import msgspec
from aiohttp import BodyPartReader, web

from mlhost.errors import Invalid
from mlhost.http.keys import HOST
from mlhost.params import jsontext

Wire = TypeVar("Wire", bound=msgspec.Struct)


class WireStruct(msgspec.Struct, rename="camel", kw_only=True):
    """A JSON object of the contract: camelCase outside, snake_case here."""


# --- reading -------------------------------------------------------------------------------------------------------


async def body(request: web.Request) -> bytes:
    """The whole body; 413 beyond the bound, 408 when its sender falls silent."""
    if request.content.is_eof():  # a small body came along with the header
        return await request.read()
    most = request.app[HOST].config.server.max_body_bytes
    parts, size = [], 0
    while chunk := await _next(request, request.content.readany()):
        parts.append(chunk)
        size += len(chunk)
        if size > most:
            raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=size)
    return b"".join(parts)


async def read(request: web.Request, kind: type[Wire]) -> Wire:
    """The body as a record; Invalid naming the property at fault."""
    document = jsontext.parse(await body(request))
    if not isinstance(document, dict):
        raise Invalid("The body must be a JSON object.")
    try:
        return msgspec.convert(_bound(document, kind), kind)
    except msgspec.ValidationError as fault:
        raise Invalid(*_named(fault)) from None


async def upload(request: web.Request, field: str) -> tuple[str, bytes]:
    """The named part of a multipart body: its file name and content."""
    if not request.content_type.startswith("multipart/"):
        raise Invalid(f"The body must be multipart/form-data with a part {field!r}.", field=field)
    try:
        parts = await request.multipart()
        while isinstance(part := await _next(request, parts.next()), BodyPartReader):
            if part.name == field:
                return part.filename or "", await _content(request, part)
    except (ValueError, AssertionError) as fault:
        raise Invalid(f"The multipart body cannot be read: {fault}", field=field) from None
    raise Invalid(f"The multipart body has no part named {field!r}.", field=field)


async def _next(request: web.Request, reading: Any) -> Any:
    """What comes next from the sender, or 408 if it takes longer than `server.body_seconds`."""
    try:
        async with asyncio.timeout(request.app[HOST].config.server.body_seconds):
            return await reading
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


async def _content(request: web.Request, part: BodyPartReader) -> bytes:
    most = request.app[HOST].config.server.max_body_bytes
    content = bytearray()
    while chunk := await _next(request, part.read_chunk()):
        content += chunk
        if len(content) > most:
            raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=len(content))
    return bytes(content)


def _bound(document: dict[str, Any], kind: Any) -> dict[str, Any]:
    """The document with its property names as `kind` spells them, at every depth that `kind` describes."""
    known = {_folded(field.encode_name): field for field in msgspec.structs.fields(kind)}
    bound = {}
    for name, value in document.items():
        if field := known.get(_folded(name)):
            bound[field.encode_name] = _bound_inside(value, field.type)
    return bound


def _bound_inside(value: Any, kind: Any) -> Any:
    inner = next((part for part in _parts(kind) if isinstance(part, type) and issubclass(part, WireStruct)), None)
    if inner is None:
        return value
    if isinstance(value, list):
        return [_bound(item, inner) if isinstance(item, dict) else item for item in value]
    return _bound(value, inner) if isinstance(value, dict) else value


def _parts(kind: Any) -> list[Any]:
    return [kind, *(deeper for part in get_args(kind) for deeper in _parts(part))]


def _folded(name: str) -> str:
    return name.replace("_", "").casefold()


def _named(fault: msgspec.ValidationError) -> tuple[str]:
    said, _, place = str(fault).partition(" - at ")
    place = place.strip("`").removeprefix("$.").removeprefix("$")
    return (f"{place}: {said[0].lower()}{said[1:]}" if place else said,)


# --- writing -------------------------------------------------------------------------------------------------------


def record(value: Any, *, status: int = 200, location: str | None = None) -> web.Response:
    """A value as JSON."""
    headers = {"Location": location} if location else None
    return web.Response(
        status=status, body=msgspec.json.encode(value), content_type="application/json", headers=headers
    )


def json_bytes(text: bytes) -> web.Response:
    """JSON that is written already."""
    return web.Response(body=text, content_type="application/json")


def attachment(content: bytes, name: str, content_type: str = "application/octet-stream") -> web.Response:
    """Bytes to be saved, never shown: they come from users."""
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(body=content, content_type=content_type, headers=headers)


def empty(status: int = 200) -> web.Response:
    """No body."""
    return web.Response(status=status)


def timestamp(seconds: float) -> str:
    """A time as .NET wrote it: UTC without a zone, no trailing zeros (contract section 5)."""
    text = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return text.rstrip("0").rstrip(".")
