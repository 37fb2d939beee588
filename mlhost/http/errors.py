"""Errors as answers: the only place where an error meets an HTTP status (contract section 2)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web

from mlhost import errors
from mlhost.auth.principal import Principal
from mlhost.http import trail
from mlhost.http.exchange import WireStruct
from mlhost.http.keys import HOST, TRAFFIC, WHO
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
    except web.HTTPException as refusal:  # aiohttp's own: unknown route, wrong method, too large
        response = refused(refusal)
    except asyncio.CancelledError:
        trail.write(request, ABANDONED, "")
        raise
    except Exception as fault:
        response = told(fault, partial(trail.request_id, request))
    finally:
        traffic.end()
    if traffic.draining:
        response.force_close()
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "-"
    # A method that no route has may be any word, as many as a caller can think of.
    request.app[HOST].metrics.answers[request.method if resource else "-", route, response.status] += 1
    if is_logged(response.status, is_call=request.path.startswith("/api/")):
        seconds, request_id = time.perf_counter() - started, trail.request_id(request)
        log_request(request.method, route, response.status, seconds, request.get(WHO), request_id)
    trail.write(request, response.status, response.headers.get("Location", ""))
    return response


def told(error: Exception, request_id: Callable[[], str]) -> web.Response:
    """The answer to a request that failed; the id is asked for where the log tells more under it."""
    if not isinstance(error, errors.MlhostError) or type(error) is errors.MlhostError:  # a fault of ours
        return _masked(error, request_id())
    response = answer(STATUS[type(error)], error.message, type(error).__name__, error.details.get("field", ""))
    if isinstance(error, errors.Unauthenticated):
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.Busy | errors.Throttled):
        response.headers["Retry-After"] = str(error.details.get("retry_after_seconds", 1))
    return response


def refused(refusal: web.HTTPException) -> web.Response:
    """The answer in the place of one of aiohttp's own."""
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


def _masked(fault: Exception, request_id: str) -> web.Response:
    """The unexpected: an id for the one who asked, the trace for the one who can read the log."""
    trace = fault.details.get("trace") if isinstance(fault, errors.MlhostError) else None
    log.error("request %s failed: %s", request_id, trace or fault, exc_info=None if trace else fault)
    return answer(500, f"Something went wrong inside the server; its log says what under {request_id}.", "Internal")


def is_logged(status: int, *, is_call: bool) -> bool:
    """Whether the log has a line for a request; one for each costs more than the rest of a fast call's handling."""
    return access_log.isEnabledFor(_level(status, is_call))


def log_request(method: str, route: str, status: int, seconds: float, who: Principal | None, request_id: str) -> None:
    """One line in the log."""
    fields = {
        "method": method,
        "route": route,
        "status": status,
        "milliseconds": round(seconds * 1000, 2),
        "user": who.name if who else "-",
        "request_id": request_id,
    }
    access_log.log(_level(status, route.startswith("/api/")), "%s %s %s", method, route, status, extra=fields)


def _level(status: int, is_call: bool) -> int:
    return logging.DEBUG if status == 200 and is_call else logging.INFO
