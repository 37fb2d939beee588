"""What requests leave behind in the audit log: changes, sign-ins and refusals; not the reading of what one may read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from aiohttp import web

from mlhost.http.keys import CLAIMED, HOST, REQUEST_ID, WHO

SCORING = ("POST", "/api/{name}/{version}")  # changes nothing, and is the hot path
TRYING = ("POST", "/console/services/{name}/{version}/try")  # the same, by hand
BACKUP = ("GET", "/backup")  # changes nothing, but all there is goes elsewhere
READING = ("GET", "HEAD", "OPTIONS")
# Not known, not allowed, not there or somebody else's, not under this name, too often.
REFUSALS = (401, 403, 404, 421, 429)


@contextmanager
def signing_in(request: web.Request, name: str) -> Iterator[None]:
    """Around the check of a name and password: it is held against earlier failures, and the audit log has the name."""
    request[CLAIMED] = name
    with request.app[HOST].attempts.attempt(name, request.remote):
        yield


def write(request: web.Request, status: int, location: str) -> None:
    """Tell the audit log of a request if it is one of those; `location` is where the thing is that it made.

    Where a browser is sent on to is not told: it may hold an authorization code.
    """
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "-"
    who, claimed = request.get(WHO), request.get(CLAIMED)
    if status in REFUSALS:
        if status == 404 and who is None:  # no such address: nothing that anybody could own
            return
    elif claimed is None and _is_harmless(request.method, route):
        return
    # A name that somebody failed to sign in with is one of theirs to choose: it counts as nobody's.
    request.app[HOST].audit.write(
        who.name if who else claimed if status < 400 else None,
        f"{request.method} {route}",
        dict(request.match_info) | ({"location": location} if location and status < 300 else {}),
        status=status,
        address=request.remote or "-",
        request_id=request_id(request),
        **({"claimed": claimed} if claimed is not None and status >= 400 else {}),
    )


def _is_harmless(method: str, route: str) -> bool:
    """Whether it changes nothing, nor takes away what others should know of."""
    asked = (method, route)
    return asked in (SCORING, TRYING) or (method in READING and asked != BACKUP)


def request_id(request: web.Request) -> str:
    """The id under which the logs tell of a request; made when it is first needed."""
    if REQUEST_ID not in request:
        request[REQUEST_ID] = uuid4().hex
    return request[REQUEST_ID]
