"""Log in, renew, log out (contract section 1.1)."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from mlhost.auth.tokens import TokenPair
from mlhost.errors import Invalid
from mlhost.http.exchange import WireStruct, read, record
from mlhost.http.keys import HOST

routes = web.RouteTableDef()

MOST_BYTES = 16_384  # of a body from someone nobody knows yet


class LoginRequest(WireStruct):
    """POST /login."""

    username: str
    password: str


class RenewTokenRequest(WireStruct):
    """POST /login/refreshToken."""

    refresh_token: str


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    """Exchange a name and password for a pair of tokens."""
    host = request.app[HOST]
    credentials = await read(request, LoginRequest, MOST_BYTES)
    who = await host.users.sign_in(credentials.username, credentials.password)
    return record(_pair(await host.tokens.issue(who)))


@routes.post("/login/refreshToken")
async def renew(request: web.Request) -> web.Response:
    """Exchange a refresh token for a new pair; the old pair ends."""
    old = await read(request, RenewTokenRequest, MOST_BYTES)
    return record(_pair(await request.app[HOST].tokens.renew(old.refresh_token)))


@routes.delete("/login/refreshToken")
async def revoke(request: web.Request) -> web.Response:
    """End a refresh token and its access token."""
    if "refreshToken" not in request.query:
        raise Invalid("refreshToken: missing from the query", field="refreshToken")
    # A "+" that the sender did not encode arrives as a blank, and no token holds one.
    return await _revoke(request, request.query["refreshToken"].replace(" ", "+"))


@routes.delete("/login/refreshToken/{refreshToken:.+}")
async def revoke_by_path(request: web.Request) -> web.Response:
    """The same, as the 9.0 and 9.1 previews spelled it."""
    return await _revoke(request, request.match_info["refreshToken"])


async def _revoke(request: web.Request, refresh: str) -> web.Response:
    await request.app[HOST].tokens.revoke(refresh)
    return record({})


def _pair(pair: TokenPair) -> dict[str, Any]:
    # access_token is not last: a published test of the original finds it by the comma behind it.
    return {
        "token_type": "Bearer",
        "access_token": pair.access,
        "expires_in": pair.expires_in,
        "expires_on": str(pair.expires_on),  # a string in all of the original's documents, which strict clients check
        "refresh_token": pair.refresh,
    }
