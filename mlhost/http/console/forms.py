"""What was filled into a form of the console."""

from __future__ import annotations

from aiohttp import web

from mlhost.errors import Invalid
from mlhost.http.exchange import posted


async def texts(request: web.Request) -> dict[str, str]:
    """Its texts by name; lines end as Python's do, not as browsers send them."""
    fields = await posted(request)
    return {name: text.replace("\r\n", "\n") for name, text in fields.items() if isinstance(text, str)}


async def file(request: web.Request, name: str) -> tuple[str, bytes]:
    """The name and content of the file that was chosen; Invalid if none was."""
    chosen = (await posted(request)).get(name)
    if not isinstance(chosen, web.FileField) or not chosen.filename:
        raise Invalid(f"{name}: choose a file", field=name)
    return chosen.filename, chosen.file.read()


def whole(fields: dict[str, str], name: str, default: int) -> int:
    """A whole number; `default` where nothing was filled in."""
    text = fields.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Invalid(f"{name}: must be a whole number", field=name)
    return int(text)
