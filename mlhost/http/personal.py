"""Personal access tokens of the one who asks: make, list, revoke. An addition to the original."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta

from mlhost.auth.personal import PersonalToken
from mlhost.errors import Conflict, NotFound
from mlhost.http.exchange import WireStruct, read, record, timestamp
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes
from mlhost.openapi.operations import ADDED, Operation

routes = Routes("Authentication APIs")

DEFAULT_DAYS = 90

Purpose = Annotated[
    str,
    Meta(description="all, publish (no more than a Contributor), consume:NAME or consume:NAME/VERSION (one service)."),
]


class CreatePersonalTokenRequest(WireStruct):
    """What a token is called and what it is for."""

    name: str
    scope: Purpose
    expires_in_days: Annotated[int, Meta(description="1 to 366; 90 if it is not given.")] = DEFAULT_DAYS


class PersonalTokenResponse(WireStruct):
    """A personal access token, without its secret."""

    id: str
    name: str
    scope: Purpose
    creation_time: str
    expiration_time: str


class CreatePersonalTokenResponse(PersonalTokenResponse):
    """A new personal access token; `token` is told now and never again."""

    token: str


@routes.get("/tokens", tells=Operation("listPersonalTokens", gives={200: list[PersonalTokenResponse]}, note=ADDED))
async def list_all(request: web.Request) -> web.Response:
    """The caller's personal access tokens, oldest first."""
    tokens = await request.app[HOST].personal.list(request[WHO])
    return record([PersonalTokenResponse(**_told(token)) for token in tokens])


@routes.post(
    "/tokens",
    tells=Operation(
        "createPersonalToken",
        takes=CreatePersonalTokenRequest,
        gives={201: CreatePersonalTokenResponse},
        refuses=(Conflict,),
        note=f"{ADDED} Asks for a token of a login: a personal one cannot make another.",
    ),
)
async def create(request: web.Request) -> web.Response:
    """Make a personal access token, to be sent as `Authorization: Bearer` by scripts."""
    wanted = await read(request, CreatePersonalTokenRequest)
    token, secret = await request.app[HOST].personal.create(
        request[WHO], wanted.name, wanted.scope, wanted.expires_in_days
    )
    answer = record(
        CreatePersonalTokenResponse(**_told(token), token=secret), status=201, location=f"/tokens/{token.id}"
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer


@routes.delete(
    "/tokens/{tokenId}",
    tells=Operation("deletePersonalToken", gives={200: str}, refuses=(NotFound,), note=ADDED),
)
async def revoke(request: web.Request) -> web.Response:
    """Revoke a personal access token."""
    await request.app[HOST].personal.revoke(request[WHO], request.match_info["tokenId"])
    return record("The token is revoked.")


def _told(token: PersonalToken) -> dict[str, str]:
    return {
        "id": token.id,
        "name": token.name,
        "scope": token.scope,
        "creation_time": timestamp(token.created_at),
        "expiration_time": timestamp(token.expires_at),
    }
