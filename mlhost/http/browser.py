"""A signed-in browser: the two cookies it has, their renewal, and how a change it asks for is known to be its user's.

The cookies hold a pair of tokens and are sent to the console's addresses only: the API takes none. A browser that asks
for several things at once when its access token has ended renews with the same refresh token several times; for ten
seconds each of these gets the same pair (see `mlhost.auth.tokens`), so that none is signed out.
"""

from __future__ import annotations

import hmac
import re

from aiohttp import web

from mlhost.auth.principal import Principal
from mlhost.auth.tokens import TokenPair
from mlhost.errors import Forbidden, Invalid, Unauthenticated
from mlhost.http.exchange import posted
from mlhost.http.keys import HOST, RENEWED, WORD
from mlhost.http.trail import READING

CONSOLE = "/console"
COOKIE = "mlhost_console"
RENEWAL = "mlhost_console_renewal"
WORD_FIELD = "word"  # of a form, or
WORD_HEADER = "X-Console-Word"  # of a request that a script sends
MAX_NEXT_LENGTH = 1024  # characters
# A path of this server: not //elsewhere, nor what browsers take for it.
_NEXT = re.compile(r"/(?![/\\])[!-~]*")


def is_at_home(path: str) -> bool:
    """Whether an address is one of the console's, where the cookies count."""
    return path == CONSOLE or path.startswith(f"{CONSOLE}/")


def is_over_tls(request: web.Request) -> bool:
    """Whether the browser speaks TLS, be it with a proxy that says so; whoever lies about it changes what they get."""
    return request.secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"


def origin(request: web.Request) -> str:
    """The server's address, as the browser knows it."""
    return f"{'https' if is_over_tls(request) else 'http'}://{request.host}"


def path_here(path: str) -> str:
    """A path that a browser may be sent on to; Invalid if it would lead to another server."""
    if len(path) > MAX_NEXT_LENGTH or "\\" in path or not _NEXT.fullmatch(path):
        raise Invalid("next: a path on this server, such as /console", field="next")
    return path


async def who(request: web.Request) -> Principal:
    """Who the browser is signed in as; Forbidden if it asks for a change that no page of ours has asked for."""
    tokens = request.app[HOST].tokens
    access = request.cookies.get(COOKIE, "")
    try:
        principal = tokens.remembered(access) or await tokens.check(access)
    except Unauthenticated:
        access = await _renewed(request)
        principal = await tokens.check(access)
    request[WORD] = _word(request, tokens.grant_of(access))
    if request.method not in READING:
        await _check_ours(request)
    return principal


def keep(answer: web.StreamResponse, request: web.Request, pair: TokenPair, *, secure: bool = False) -> None:
    """Have the browser keep a pair of tokens; `secure`: for TLS alone, whatever this request came over."""
    ages = {COOKIE: pair.expires_in, RENEWAL: request.app[HOST].config.auth.refresh_idle_seconds}
    for name, token in ((COOKIE, pair.access), (RENEWAL, pair.refresh)):
        answer.set_cookie(
            name,
            token,
            max_age=ages[name],
            path=CONSOLE,
            httponly=True,
            samesite="Strict",
            secure=secure or is_over_tls(request),
        )


async def sign_out(request: web.Request, answer: web.StreamResponse) -> None:
    """End the login that the browser's cookies are of, and have it forget them."""
    tokens = request.app[HOST].tokens
    try:
        await who(request)
        renewed = request.get(RENEWED)
        await tokens.revoke(renewed.refresh if renewed else request.cookies.get(RENEWAL, ""))
    except Unauthenticated:  # it has ended already, or the browser has the access token alone
        await _revoke_access(request)
    if RENEWED in request:
        del request[RENEWED]
    for name in (COOKIE, RENEWAL):
        answer.del_cookie(name, path=CONSOLE)


async def _revoke_access(request: web.Request) -> None:
    try:
        await request.app[HOST].tokens.revoke_access(request.cookies.get(COOKIE, ""))
    except Unauthenticated:
        return


async def _renewed(request: web.Request) -> str:
    """A new access token; the answer brings it along with its refresh token."""
    refresh = request.cookies.get(RENEWAL)
    if not refresh:
        raise Unauthenticated("Sign in to go on.")
    request[RENEWED] = pair = await request.app[HOST].doors.renew(refresh)
    return pair.access


def remember_renewed(request: web.Request, answer: web.StreamResponse) -> None:
    """Have an answer that is about to leave, whatever it is, bring along what was renewed for it."""
    if pair := request.get(RENEWED):
        kept = web.Response()
        keep(kept, request, pair)
        for cookie in kept.cookies.values():  # those of `answer` have become headers already
            answer.headers.add("Set-Cookie", cookie.OutputString())


def _word(request: web.Request, grant: str) -> str:
    """What only a page of this login knows: the same for as long as it lasts."""
    return hmac.digest(request.app[HOST].folder.key("console"), grant.encode(), "sha256").hex()


async def _check_ours(request: web.Request) -> None:
    """Forbidden unless the browser says that a page of ours asks, and the page knows the login's word."""
    site, page = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    is_told = site is not None or page is not None
    is_ours = site in (None, "same-origin") and (page is None or page.partition("://")[2] == request.host)
    given = request.headers.get(WORD_HEADER) or (await posted(request)).get(WORD_FIELD)
    is_known = isinstance(given, str) and hmac.compare_digest(
        given.encode("utf-8", "surrogatepass"), request[WORD].encode()
    )
    if not (is_told and is_ours and is_known):
        raise Forbidden("No page of this login has asked for that; open the page again.")
