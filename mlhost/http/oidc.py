"""Sign in with a browser at an OpenID Connect provider: there with a request, back with a code, on to the console.

What belongs to one sign-in (state, nonce and verifier) is derived from one secret in a cookie of the browser that began
it, so that nobody can have a browser end what another one began, and the server keeps nothing meanwhile.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from secrets import token_urlsafe
from time import time
from typing import Self
from urllib.parse import quote, unquote

from aiohttp import web

from mlhost.auth.oidc import OpenId
from mlhost.errors import Invalid, NotFound, Throttled, Unauthenticated, Unavailable
from mlhost.http import browser
from mlhost.http.browser import CONSOLE, path_here
from mlhost.http.errors import STATUS
from mlhost.http.keys import CLAIMED, HOST
from mlhost.http.pages import message, onward
from mlhost.http.routes import Routes

routes = Routes("OAuth 2 and OpenID Connect")

PATH = "/login/oidc"
CALLBACK = f"{PATH}/callback"
COOKIE = "mlhost_login"
MAX_DIGITS = 12  # of a time: int() takes no text of thousands
BEGUN_SECONDS = 600  # in which a user must have signed in


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that a browser has begun."""

    secret: str
    at: int  # seconds since the epoch, UTC
    next: str  # where it leads to

    @classmethod
    def now(cls, leads_to: str) -> Self:
        """A new one; Invalid if it would lead to another server."""
        return cls(token_urlsafe(), int(time()), path_here(leads_to))

    @classmethod
    def of(cls, cookie: str) -> Self:
        """The one in a browser's cookie, or Unauthenticated."""
        secret, _, rest = cookie.partition(".")
        at, _, leads_to = rest.partition(".")
        is_ours = bool(secret) and cookie.isascii() and at.isdecimal() and len(at) <= MAX_DIGITS
        if not is_ours or not 0 <= time() - int(at) <= BEGUN_SECONDS:
            raise Unauthenticated("This browser has not begun to sign in, or too long ago: begin again.")
        begun = cls.now(unquote(leads_to))
        return cls(secret, int(at), begun.next)

    @property
    def cookie(self) -> str:
        """As the browser keeps it."""
        return f"{self.secret}.{self.at}.{quote(self.next, safe='')}"

    def derived(self, purpose: str) -> str:
        """A value of this sign-in that nobody can tell from another."""
        text = f"{purpose} {self.at} {self.next}"
        return hmac.digest(self.secret.encode(), text.encode(), "sha256").hex()


@routes.get(PATH)
async def begin(request: web.Request) -> web.Response:
    """Send the browser to the provider."""
    openid = _openid(request)
    begun = Begun.now(request.query.get("next", CONSOLE))
    location = await openid.address(_redirect_uri(request, openid), *map(begun.derived, ("state", "nonce", "verifier")))
    headers = {"Location": location, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    answer = web.Response(status=303, headers=headers)
    answer.set_cookie(
        COOKIE,
        begun.cookie,
        max_age=BEGUN_SECONDS,
        path=PATH,
        httponly=True,
        samesite="Lax",  # the provider's page sends the browser back
        secure=_is_secure(request, openid),
    )
    return answer


@routes.get(CALLBACK)
async def end(request: web.Request) -> web.Response:
    """Let the user who comes back from the provider in."""
    openid = _openid(request)
    try:
        answer = await _signed_in(request, openid)
    except (Invalid, Throttled, Unauthenticated, Unavailable) as fault:
        answer = message(fault.message, STATUS[type(fault)])
    answer.del_cookie(COOKIE, path=PATH)
    return answer


async def _signed_in(request: web.Request, openid: OpenId) -> web.Response:
    begun = Begun.of(request.cookies.get(COOKIE, ""))
    came = request.query
    if not hmac.compare_digest(came.get("state", "").encode("utf-8", "surrogatepass"), begun.derived("state").encode()):
        raise Unauthenticated("The answer is not to what this browser asked: begin again.")
    if "error" in came or "code" not in came:
        raise Unauthenticated(f"The identity provider lets nobody in: {came.get('error', 'it sent no code')}.")
    who = await openid.sign_in(
        came["code"],
        came.get("iss"),
        _redirect_uri(request, openid),
        begun.derived("nonce"),
        begun.derived("verifier"),
    )
    request[CLAIMED] = who.name
    pair = await request.app[HOST].tokens.issue(who)
    answer = onward(f"You are signed in as {who.name}.", begun.next)
    browser.keep(answer, request, pair, secure=_is_secure(request, openid))
    return answer


def _openid(request: web.Request) -> OpenId:
    openid = request.app[HOST].openid
    if openid is None:
        raise NotFound("This server has no identity provider to sign in with (oidc.issuer).")
    return openid


def _redirect_uri(request: web.Request, openid: OpenId) -> str:
    return openid.redirect_uri or f"{request.scheme}://{request.host}{CALLBACK}"


def _is_secure(request: web.Request, openid: OpenId) -> bool:
    return browser.is_over_tls(request) or openid.redirect_uri.startswith("https:")
