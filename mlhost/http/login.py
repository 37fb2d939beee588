"""Log in, renew, log out (contract section 1.1)."""

from __future__ import annotations

import msgspec
from aiohttp import web

from mlhost.auth.tokens import TokenPair
from mlhost.errors import Invalid, Throttled, Unauthenticated, Unavailable
from mlhost.http.exchange import WireStruct, read, record
from mlhost.http.keys import HOST
from mlhost.http.routes import Routes
from mlhost.http.trail import signing_in
from mlhost.openapi.operations import ADDED, Field, Operation

routes = Routes("Authentication APIs")

MOST_BYTES = 16_384  # of a body from someone nobody knows yet


class LoginRequest(WireStruct):
    """A name and a password."""

    username: str
    password: str


class RenewTokenRequest(WireStruct):
    """A refresh token."""

    refresh_token: str


class AccessTokenResponse(msgspec.Struct, kw_only=True):
    """A pair of tokens."""

    # access_token is not last: a published test of the original finds it by the comma behind it.
    token_type: str
    access_token: str
    expires_in: int  # seconds
    expires_on: str  # seconds since the epoch, UTC; a string in all of the original's documents, which clients check
    refresh_token: str


class Revoked(WireStruct):
    """Nothing; the original's documents promise a pair of tokens and its texts an empty answer."""


SIGNING_IN = (Unauthenticated, Unavailable)


@routes.post(
    "/login",
    tells=Operation(
        "login",
        takes=LoginRequest,
        gives={200: AccessTokenResponse},
        refuses=(*SIGNING_IN, Throttled),
        example={"username": "admin", "password": "correct horse battery"},
    ),
)
async def login(request: web.Request) -> web.Response:
    """Exchange a name and password for a pair of tokens."""
    host = request.app[HOST]
    credentials = await read(request, LoginRequest, MOST_BYTES)
    with signing_in(request, credentials.username):
        who = await host.doors.sign_in(credentials.username, credentials.password)
    return record(_pair(await host.tokens.issue(who)))


@routes.post(
    "/login/refreshToken",
    tells=Operation("renewToken", takes=RenewTokenRequest, gives={200: AccessTokenResponse}, refuses=SIGNING_IN),
)
async def renew(request: web.Request) -> web.Response:
    """Exchange a refresh token for a new pair; the old pair ends."""
    old = await read(request, RenewTokenRequest, MOST_BYTES)
    return record(_pair(await request.app[HOST].doors.renew(old.refresh_token)))


@routes.delete(
    "/login/refreshToken",
    tells=Operation(
        "revokeRefreshToken",
        query=(Field("refreshToken", "The refresh token to end.", required=True),),
        gives={200: Revoked},
        refuses=(Invalid, *SIGNING_IN),
    ),
)
async def revoke(request: web.Request) -> web.Response:
    """End a refresh token and its access token."""
    if "refreshToken" not in request.query:
        raise Invalid("refreshToken: missing from the query", field="refreshToken")
    # A "+" that the sender did not encode arrives as a blank, and no token holds one.
    return await _revoke(request, request.query["refreshToken"].replace(" ", "+"))


@routes.delete(
    "/login/refreshToken/{refreshToken:(?s:.+)}",
    tells=Operation(
        "revokeRefreshTokenByPath",
        gives={200: Revoked},
        refuses=SIGNING_IN,
        summary="End a refresh token and its access token, as the 9.0 and 9.1 previews spelled it.",
        note=f"{ADDED} The token may hold slashes.",
        is_deprecated=True,
    ),
)
async def revoke_by_path(request: web.Request) -> web.Response:
    """The same, with the token in the path."""
    return await _revoke(request, request.match_info["refreshToken"])


async def _revoke(request: web.Request, refresh: str) -> web.Response:
    await request.app[HOST].tokens.revoke(refresh)
    return record(Revoked())


def _pair(pair: TokenPair) -> AccessTokenResponse:
    return AccessTokenResponse(
        token_type="Bearer",  # noqa: S106 - the kind of token
        access_token=pair.access,
        expires_in=pair.expires_in,
        expires_on=str(pair.expires_on),
        refresh_token=pair.refresh,
    )
