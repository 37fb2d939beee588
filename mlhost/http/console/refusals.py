"""What all answers of the console have in common: their headers, and refusals as pages where a browser asks."""

from __future__ import annotations

from functools import partial

import msgspec
from aiohttp import web

from mlhost.errors import Unauthenticated
from mlhost.http import browser, errors, trail
from mlhost.http.console import docs, signin
from mlhost.http.console.rendering import is_partial, page
from mlhost.http.errors import Handler

# No script or style but our own files, no request to another origin, no page around ours.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with none at all, browsers would not say that our own form is ours
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell a browser in a page why the console refused it; a program gets the same as from the API."""
    if not browser.is_at_home(request.path) or not _wants_page(request):
        return await handler(request)
    try:
        return await handler(request)
    except Unauthenticated as refused:
        return signin.instead(request, refused)
    except web.HTTPException as refusal:
        return _as_page(request, errors.refused(refusal))
    except Exception as fault:
        return _as_page(request, errors.told(fault, partial(trail.request_id, request)))


async def dress(request: web.Request, answer: web.StreamResponse) -> None:
    """Give an answer of the console its headers and, if its login was renewed, its cookies; a signal of aiohttp's."""
    if browser.is_at_home(request.path) or request.path == docs.PATH:
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        browser.remember_renewed(request, answer)


def _wants_page(request: web.Request) -> bool:
    return is_partial(request) or "text/html" in request.headers.get("Accept", "")


def _as_page(request: web.Request, refusal: web.Response) -> web.Response:
    """The same refusal in a page, or in what is put into one."""
    assert isinstance(refusal.body, bytes)
    message = msgspec.json.decode(refusal.body, type=errors.Error).message
    template = "_refusal.html" if is_partial(request) else "refusal.html"
    answer = page(request, template, status=refusal.status, message=message, reason=refusal.reason)
    for name in {"Allow", "Retry-After"} & refusal.headers.keys():
        answer.headers[name] = refusal.headers[name]
    return answer
