"""Errors as answers: the only place where an error meets an HTTP status (contract section 2)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from mlhost import errors
from mlhost.http import trail
from mlhost.http.exchange import WireStruct
from mlhost.http.keys import TRAFFIC, WHO
from mlhost.params import jsontext

log = logging.getLogger(__name__)
access_log = logging.getLogger("mlhost.access")

ABANDONED = 499  # in the audit log: the server stopped before there was an answer

STATUS: dict[type[errors.MlhostError], int] = {
    errors.Invalid: 400,
    errors.CodeFailed: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.Throttled: 429,
    errors.Busy: 503,
    errors.WorkerLost: 503,
    errors.Unavailable: 503,
    errors.MlhostError: 500,
}


class Error(WireStruct):
    """Why a request was refused: `message` for people; `code` and `fields` are what clients of services read."""

    message: str
    link: str
    exception_type: str
    code: int
    fields: str


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answer(status: int, message: str, kind: str, field: str = "") -> web.Response:
    """An error in the one shape that serves both kinds of the original's clients."""
    body = Error(message=message, link="", exception_type=f"{kind}Exception", code=status, fields=field)
    return web.Response(status=status, body=jsontext.render(body), content_type="application/json")


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised into an answer, and write one line a request to the log."""
    started = time.perf_counter()
    traffic = request.app[TRAFFIC]
    traffic.begin()
    try:
        response = await handler(request)
    except errors.MlhostError as error:
        response = _told(error, request)
    except web.HTTPException as refusal:  # aiohttp's own: unknown route, wrong method, too large
        response = _refused(refusal)
    except asyncio.CancelledError:
        trail.write(request, ABANDONED, "")
        raise
    except Exception as fault:
        response = _masked(fault, request)
    finally:
        traffic.end()
    if traffic.draining:
        response.force_close()
    _log(request, response.status, (time.perf_counter() - started) * 1000)
    trail.write(request, response.status, response.headers.get("Location", ""))
    return response


def _told(error: errors.MlhostError, request: web.Request) -> web.Response:
    if type(error) is errors.MlhostError:  # a fault of ours inside a worker
        return _masked(error, request)
    response = answer(STATUS[type(error)], error.message, type(error).__name__, error.details.get("field", ""))
    if isinstance(error, errors.Unauthenticated):
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.Busy | errors.Throttled):
        response.headers["Retry-After"] = str(error.details.get("retry_after_seconds", 1))
    return response


def _refused(refusal: web.HTTPException) -> web.Response:
    messages = {
        404: "There is no such address on this server.",
        405: "This address does not know that method.",
        408: "The request did not arrive in time.",
        413: "The body is larger than this server takes (server.max_body_bytes).",
    }
    message = messages.get(refusal.status) or refusal.text or refusal.reason
    response = answer(refusal.status, message, type(refusal).__name__.removeprefix("HTTP"))
    if "Allow" in refusal.headers:
        response.headers["Allow"] = refusal.headers["Allow"]
    if refusal.status in (408, 413):  # the rest of the body is still on its way: do not wait for it
        response.force_close()
    return response


def _masked(fault: Exception, request: web.Request) -> web.Response:
    """The unexpected: an id for the one who asked, the trace for the one who can read the log."""
    request_id = trail.request_id(request)
    trace = fault.details.get("trace") if isinstance(fault, errors.MlhostError) else None
    log.error("request %s failed: %s", request_id, trace or fault, exc_info=None if trace else fault)
    return answer(500, f"Something went wrong inside the server; its log says what under {request_id}.", "Internal")


def _log(request: web.Request, status: int, milliseconds: float) -> None:
    # One line a request costs more than the rest of a fast call's handling: scored calls are logged when they fail.
    level = logging.DEBUG if status == 200 and request.path.startswith("/api/") else logging.INFO
    if not access_log.isEnabledFor(level):
        return
    resource = request.match_info.route.resource
    who = request.get(WHO)
    fields = {
        "method": request.method,
        "route": resource.canonical if resource else "-",
        "status": status,
        "milliseconds": round(milliseconds, 2),
        "user": who.name if who else "-",
        "request_id": trail.request_id(request),
    }
    access_log.log(level, "%s %s %s", request.method, fields["route"], status, extra=fields)
