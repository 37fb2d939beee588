"""Sign in to the console and out of it."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from urllib.parse import parse_qsl, quote, urlsplit

from aiohttp import web

from mlhost.errors import Invalid, MlhostError, Throttled, Unauthenticated, Unavailable
from mlhost.http import browser
from mlhost.http.browser import CONSOLE, path_here
from mlhost.http.console.rendering import is_partial, onward, page
from mlhost.http.errors import STATUS
from mlhost.http.exchange import body
from mlhost.http.keys import HOST
from mlhost.http.login import MOST_BYTES
from mlhost.http.pages import COOKIE as FORM
from mlhost.http.pages import check_ours
from mlhost.http.routes import Routes
from mlhost.http.trail import signing_in

routes = Routes()

PATH = "/console/sign-in"
MAX_FIELDS = 10
_OURS = re.compile(r"[A-Za-z0-9_-]+")  # as `secrets.token_urlsafe` makes them


@routes.get("/")
async def welcome(request: web.Request) -> web.Response:
    """Lead a browser to the console; there is nothing here for programs."""
    if "text/html" not in request.headers.get("Accept", ""):
        raise web.HTTPNotFound
    return onward(CONSOLE)


@routes.get("/console/")
async def without_slash(request: web.Request) -> web.Response:
    """Lead to the console's one address."""
    del request
    return onward(CONSOLE)


@routes.get(PATH)
async def ask(request: web.Request) -> web.Response:
    """Ask for a name and a password."""
    return _form(request, path_here(request.query.get("next", CONSOLE)))


@routes.post(PATH)
async def sign_in(request: web.Request) -> web.Response:
    """Let a user in, and on to where they wanted to be."""
    host, fields = request.app[HOST], await _fields(request)
    check_ours(request, fields)
    leads_to, name = path_here(fields.get("next", CONSOLE)), fields.get("username", "")
    try:
        with signing_in(request, name):
            who = await host.doors.sign_in(name, fields.get("password", ""))
    except (Invalid, Throttled, Unauthenticated, Unavailable) as refused:
        return _form(request, leads_to, name, refused)
    answer = onward(leads_to)
    browser.keep(answer, request, await host.tokens.issue(who))
    return answer


@routes.post("/console/sign-out")
async def sign_out(request: web.Request) -> web.Response:
    """End the login of this browser, wherever its tokens may have gone."""
    answer = onward(PATH)
    await browser.sign_out(request, answer)
    return answer


def instead(request: web.Request, refused: Unauthenticated) -> web.Response:
    """What somebody who is not signed in gets in the place of a page: the way to sign in, which leads back to it."""
    if is_partial(request):
        leads_to = f"{PATH}?next={quote(_wanted(request), safe='')}"
        return web.Response(status=STATUS[Unauthenticated], headers={"HX-Redirect": leads_to})
    answer = _form(request, _wanted(request), refused=refused)
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        # A link from another site comes without the cookies, which are strict about that; our own page's does not.
        answer.headers["Refresh"] = f"0; url={_wanted(request)}"
    return answer


def _form(request: web.Request, leads_to: str, name: str = "", refused: MlhostError | None = None) -> web.Response:
    shown = request.cookies.get(FORM, "")  # in another tab, if it is anything that we gave
    ours = shown if _OURS.fullmatch(shown) else secrets.token_urlsafe()
    answer = page(
        request,
        "sign_in.html",
        status=STATUS[type(refused)] if refused else 200,
        words=refused.message if refused else "",
        is_refused=request.method != "GET",  # else nothing was tried yet
        leads_to=leads_to,
        name=name,
        ours=ours,
        has_provider=request.app[HOST].openid is not None,
    )
    if isinstance(refused, Throttled):
        answer.headers["Retry-After"] = str(refused.details.get("retry_after_seconds", 1))
    answer.set_cookie(FORM, ours, path=CONSOLE, httponly=True, samesite="Strict", secure=browser.is_over_tls(request))
    return answer


async def _fields(request: web.Request) -> dict[str, str]:
    """Those of a form by someone nobody knows yet: few and small."""
    try:
        return dict(parse_qsl((await body(request, MOST_BYTES)).decode(), True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise Invalid("The body cannot be read as a form.") from None


def _wanted(request: web.Request) -> str:
    """The page that was asked for, by a script if need be: where one is once signed in."""
    with suppress(Invalid, ValueError):  # what a script says may be no address at all
        shown = urlsplit(request.headers.get("HX-Current-URL", "") if is_partial(request) else request.path_qs)
        if is_partial(request) or request.method == "GET":
            return path_here(f"{shown.path}?{shown.query}" if shown.query else shown.path)
    return CONSOLE
