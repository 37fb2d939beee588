"""Reading requests into typed records and writing records as answers.

Requests are bound as the original's server bound them (contract, conventions): property names in any case, snake_case
tolerated, unknown properties ignored.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Annotated, Any, TypeVar, get_args
from urllib.parse import quote

import msgspec
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import Meta
from multidict import MultiDictProxy

from mlhost.errors import Invalid
from mlhost.executors import parcels
from mlhost.http.keys import HOST
from mlhost.params import jsontext
from mlhost.runtime.parcels import SMALL_BYTES, Parcel

log = logging.getLogger(__name__)

Wire = TypeVar("Wire", bound=msgspec.Struct)
Read = TypeVar("Read")

PIECE_BYTES = 1 << 18  # of a file that are passed on at once
MAX_TEXT_BYTES = 1 << 20  # of a text in a form
SLOWEST_BYTES_PER_SECOND = 10_000  # that a sender may keep up, after the first `server.body_seconds`


class WireStruct(msgspec.Struct, rename="camel", kw_only=True):
    """A JSON object of the contract: camelCase outside, snake_case here."""


def one_of(*values: str, name: str, is_open: bool = False, description: str = "") -> Meta:
    """What a text may be, for the documents; generators for .NET call the type `name`."""
    told = {"enum": list(values), "x-ms-enum": {"name": name, "modelAsString": is_open}}
    return Meta(description=description or None, extra_json_schema=told)


# The server takes any text and says itself what is wrong with one that is not here, in words.
Runtime = Annotated[str, one_of("R", "Python", name="RuntimeType")]
AskedRuntime = Annotated[
    str,
    one_of(
        "R",
        "Python",
        name="RuntimeType",
        description="Python. R, which is what a request without it asks for, is refused: this server runs Python.",
    ),
]
Version = Annotated[str, Meta(description="The Python it runs: 3.11.7. Not in the original.")]
Placed = Annotated[str, Meta(description="Where the code runs: process, interpreter or inline. Not in the original.")]


# --- reading -------------------------------------------------------------------------------------------------------


async def body(request: web.Request, most: int | None = None) -> bytes:
    """The whole body; 413 beyond `most` or `server.max_body_bytes`, 408 when its sender falls silent or dawdles."""
    if request.content.is_eof() and most is None:  # a small body came along with the header
        with _faults_in_words():
            return await request.read()
    return await _received(request, request.content.readany, most)


async def posted(request: web.Request) -> MultiDictProxy[str | bytes | bytearray | web.FileField]:
    """The fields of a form, whichever way it is sent; none if the body is no form."""
    settings = request.app[HOST].config.server
    seconds = settings.body_seconds + (request.content_length or 0) / SLOWEST_BYTES_PER_SECOND
    try:
        with _faults_in_words():
            async with asyncio.timeout(seconds):
                return await request.post()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except LookupError:
        raise Invalid("The body is in a character set that this server does not know.") from None


@asynccontextmanager
async def whole(request: web.Request) -> AsyncIterator[bytes | Parcel]:
    """The whole body as `body` gives it; a large one in a parcel, an unnamed file of the folder for work."""
    if request.content.is_eof():
        yield await body(request)
        return
    with ExitStack() as stack:
        held, large = bytearray(), None
        async for piece in _pieces(request, request.content.readany):
            held += piece
            if len(held) > SMALL_BYTES:
                large = large or stack.enter_context(Parcel(request.app[HOST].folder.work, small=False))
                await asyncio.to_thread(large.write, held)
                held = bytearray()
        if large is not None:
            await asyncio.to_thread(large.write, held)
            await asyncio.to_thread(large.flush)
        yield bytes(held) if large is None else large


async def read(request: web.Request, kind: type[Wire], most: int | None = None) -> Wire:
    """The body, of at most so many bytes, as a record; Invalid naming the property at fault."""
    document = jsontext.parse(await body(request, most))
    if not isinstance(document, dict):
        raise Invalid("The body must be a JSON object.")
    try:
        return msgspec.convert(_bound(document, kind), kind)
    except msgspec.ValidationError as fault:
        raise _named(fault) from None


async def upload(request: web.Request, field: str) -> tuple[str, bytes]:
    """The named part of a multipart body: its file name and content."""
    if not request.content_type.startswith("multipart/"):
        raise Invalid(f"The body must be multipart/form-data with a part {field!r}.", field=field)
    with _faults_in_words():
        parts = await request.multipart()
        while isinstance(part := await _next(request, parts.next()), BodyPartReader):
            if part.name == field:
                return part.filename or "", await _received(request, part.read_chunk)
    raise Invalid(f"The multipart body has no part named {field!r}.", field=field)


class Form:
    """A multipart body of one file and some texts: iterate over the file's bytes first, then read the rest.

    The parts may come in any order, and what is not asked for is passed over; a body without a file has no bytes, and
    no `file_name`.
    """

    def __init__(self, request: web.Request, file: str, texts: tuple[str, ...]) -> None:
        self.texts: dict[str, str] = {}
        self.file_name = ""
        self._request = request
        self._file = file
        self._wanted = {_folded(name): name for name in texts}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The content of the file part; Invalid if the body is no form, or has two."""
        request, is_read = self._request, False
        if not request.content_type.startswith("multipart/"):
            raise Invalid(f"The body must be multipart/form-data, its file a part {self._file!r}.", field=self._file)
        with _faults_in_words():
            parts = await request.multipart()
            while isinstance(part := await _next(request, parts.next()), BodyPartReader):
                name = _folded(part.name or "")
                if name == _folded(self._file):
                    if is_read:
                        raise Invalid(f"The multipart body has two parts named {self._file!r}.", field=self._file)
                    is_read = True
                    self.file_name = part.filename or ""
                    async for piece in _pieces(request, functools.partial(part.read_chunk, PIECE_BYTES)):
                        yield piece
                else:
                    text = await _received(request, part.read_chunk, MAX_TEXT_BYTES)
                    if name in self._wanted:
                        self.texts[self._wanted[name]] = text.decode()


async def _received(request: web.Request, more: Callable[[], Awaitable[bytes]], most: int | None = None) -> bytes:
    """What `more` gives until it gives nothing, within the bounds of size and time."""
    content = bytearray()
    async for chunk in _pieces(request, more, most):
        content += chunk
    return bytes(content)


async def _pieces(
    request: web.Request, more: Callable[[], Awaitable[bytes]], most: int | None = None
) -> AsyncIterator[bytes]:
    """What `more` gives, one after the other, within the bounds of size and time."""
    settings = request.app[HOST].config.server
    most = settings.max_body_bytes if most is None else most
    started, size = monotonic(), 0
    with _faults_in_words():
        while chunk := await _next(request, more()):
            size += len(chunk)
            if size > most:
                raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=size)
            if monotonic() - started > settings.body_seconds + size / SLOWEST_BYTES_PER_SECOND:
                raise web.HTTPRequestTimeout
            yield chunk


async def _next(request: web.Request, reading: Awaitable[Read]) -> Read:
    """What comes next from the sender, or 408 if it takes longer than `server.body_seconds`."""
    try:
        async with asyncio.timeout(request.app[HOST].config.server.body_seconds):
            return await reading
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


@contextmanager
def _faults_in_words() -> Iterator[None]:
    """A body that is not what its header says is the sender's mistake."""
    try:
        yield
    except (web.RequestPayloadError, HttpProcessingError, ValueError, AssertionError) as fault:
        said = fault.message if isinstance(fault, HttpProcessingError) else str(fault)
        raise Invalid(f"The body cannot be read: {said}") from None


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


def _named(fault: msgspec.ValidationError) -> Invalid:
    """The fault as ours, naming the property: "code: expected `str`, got `int`"."""
    said, _, place = str(fault).partition(" - at ")
    field = place.strip("`").removeprefix("$.").removeprefix("$")
    if missing := re.search(r"required field `(\w+)`", said):
        field = f"{field}.{missing[1]}" if field else missing[1]
        return Invalid(f"{field}: missing", field=field)
    return Invalid(f"{field}: {said[0].lower()}{said[1:]}" if field else said, field=field)


# --- writing -------------------------------------------------------------------------------------------------------


def record(value: Any, *, status: int = 200, location: str | None = None) -> web.Response:
    """A value as JSON."""
    headers = {"Location": location} if location else None
    return web.Response(status=status, body=jsontext.render(value), content_type="application/json", headers=headers)


def json_bytes(text: bytes) -> web.Response:
    """JSON that is written already."""
    return web.Response(body=text, content_type="application/json")


async def json_pieces(request: web.Request, text: bytes | Parcel) -> web.StreamResponse:
    """The same, sent in pieces if it is large; a parcel is closed."""
    if isinstance(text, bytes) and len(text) <= SMALL_BYTES:
        return json_bytes(text)
    with parcels.held(text) as size:
        return await stream(request, parcels.pieces(text), size, {"Content-Type": "application/json"})


def attachment(content: bytes, name: str) -> web.Response:
    """Bytes to be saved."""
    return web.Response(body=content, headers=attached(name))


def attached(name: str, content_type: str = "application/octet-stream") -> dict[str, str]:
    """The headers of what is to be saved, never shown: it comes from users."""
    return {
        "Content-Type": content_type,
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "X-Content-Type-Options": "nosniff",
    }


async def stream(
    request: web.Request, content: AsyncIterator[bytes], size: int, headers: dict[str, str]
) -> web.StreamResponse:
    """Bytes as they come, `size` in all; the connection breaks off, short of it, if something happens on the way."""
    response = web.StreamResponse(headers=headers)
    response.content_length = size
    await response.prepare(request)
    try:
        async for chunk in content:
            await response.write(chunk)
    except ConnectionError:  # the client went away
        response.force_close()
    except Exception:  # too late for another answer
        log.exception("%s broke off", request.path)
        response.force_close()
    return response


def empty(status: int = 200) -> web.Response:
    """No body."""
    return web.Response(status=status)


def timestamp(seconds: float) -> str:
    """A time as .NET wrote it: UTC without a zone, no trailing zeros (contract section 5)."""
    text = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return text.rstrip("0").rstrip(".")
