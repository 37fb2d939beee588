"""The files that browsers get beside pages: our own, and those of others under `static/vendored/` with their licences.

What there is to get is what lay in the folder when the server was loaded: no name from outside becomes a path.
"""

from __future__ import annotations

from mimetypes import MimeTypes
from pathlib import Path

from aiohttp import web

from mlhost.errors import NotFound

routes = web.RouteTableDef()

FOLDER = Path(__file__).with_name("static")
FILES = {path.relative_to(FOLDER).as_posix(): path for path in sorted(FOLDER.rglob("*")) if path.is_file()}
TYPES = MimeTypes()  # Python's own table: this machine's may call a script text/plain, which browsers do not run
# Asked for each time, and sent only when it has changed: an upgraded server's pages never meet an old script.
HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


@routes.get("/static/{path:.+}", allow_head=False)
async def asset(request: web.Request) -> web.FileResponse:
    """One of the files, or NotFound."""
    path = FILES.get(request.match_info["path"])
    if path is None:
        raise NotFound("There is no such file.")
    kind, _ = TYPES.guess_type(path.name)
    return web.FileResponse(path, headers={**HEADERS, "Content-Type": f"{kind or 'text/plain'}; charset=utf-8"})
