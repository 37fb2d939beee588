"""Pages from templates: compiled once, every value escaped, every name known."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web

from mlhost import __version__
from mlhost.batches.ledger import Batch
from mlhost.http.browser import CONSOLE
from mlhost.http.guard import PERMISSIONS, may
from mlhost.http.keys import WHO, WORD
from mlhost.services import Service

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
# What the navigation leads to; whoever a page is shut to does not see it there.
SECTIONS = (
    ("Overview", CONSOLE),
    ("Services", "/console/services"),
    ("Sessions", "/console/sessions"),
    ("Snapshots", "/console/snapshots"),
    ("Batches", "/console/batches"),
    ("Users", "/console/users"),
    ("Tokens", "/console/tokens"),
    ("Audit", "/console/audit"),
)


def page(request: web.Request, template: str, *, status: int = 200, **values: Any) -> web.Response:
    """A template filled in, as an answer.

    Beside `values` it has `who` (None: nobody is signed in), `word` for its forms, `may(method, route)` for what it
    offers, and what the frame of a page needs.
    """
    who = request.get(WHO)
    around = {
        "who": who,
        "word": request.get(WORD, ""),
        "may": partial(may, who) if who else None,
        "path": request.path,
        "sections": [
            (title, path, path == request.path or (path != CONSOLE and request.path.startswith(f"{path}/")))
            for title, path in SECTIONS
            if who and ("GET", path) in PERMISSIONS and may(who, "GET", path)
        ],
        "release": __version__,
    }
    text = _environment().get_template(template).render(around | values)
    return web.Response(text=text, status=status, content_type="text/html")


def is_partial(request: web.Request) -> bool:
    """Whether a script asks for what it puts into a page that is there."""
    return "HX-Request" in request.headers and "HX-History-Restore-Request" not in request.headers


def onward(path: str) -> web.Response:
    """Send the browser on, after a change, to what it is to look at."""
    return web.Response(status=303, headers={"Location": path})


def lead(request: web.Request, path: str) -> web.Response:
    """Send the browser on, whether a script or the browser itself has asked."""
    return web.Response(headers={"HX-Redirect": path}) if is_partial(request) else onward(path)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # 1.5 MB, for those who use the console

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "moment": moment,
        "size": size,
        "duration": duration,
        "segment": segment,
        "service_path": service_path,
        "batch_path": batch_path,
    }
    return environment


def service_path(service: Service) -> str:
    """The address of a version's page."""
    return f"{CONSOLE}/services/{segment(service.name)}/{segment(service.version)}"


def batch_path(batch: Batch) -> str:
    """The address of a batch's page."""
    return f"{CONSOLE}/batches/{segment(batch.name)}/{segment(batch.version)}/{batch.execution_id}"


def segment(name: str) -> str:
    """A name as one segment of an address."""
    return quote(name, safe="")


def short(text: str, most: int) -> str:
    """A text, or its beginning."""
    return text if len(text) <= most else f"{text[:most]}…"


def moment(seconds: float) -> str:
    """A time since the epoch as people read it, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def size(count: float) -> str:
    """So many bytes as people read them: "1.5 MB"."""
    if count == 1:
        return "1 byte"
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """So many seconds as people read them: "420 µs", "1.5 ms", "2 min 5 s"."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
