"""OAuth 2 for our own programs: the grants of RFC 6749 with PKCE, device codes (RFC 8628), revocation (RFC 7009),
introspection (RFC 7662) and the metadata that tells where all of it is (RFC 8414). Its tokens are those of a login.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time
from typing import Any

from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError, OAuth2Error
from authlib.oauth2.rfc8628 import DEVICE_CODE_GRANT_TYPE

from mlhost.auth.oauth.clients import SCOPE, Client
from mlhost.auth.oauth.grammar import Grammar, Request, SigningIn, Told
from mlhost.auth.oauth.pending import CODE_SECONDS, DEVICE_SECONDS, Code, Device, Pending
from mlhost.auth.personal import PREFIX, PersonalTokens
from mlhost.auth.principal import Principal, Role
from mlhost.auth.signin import Doors
from mlhost.auth.tokens import TokenPair, Tokens
from mlhost.errors import Unauthenticated

Parameters = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint says: JSON, or where to send the browser."""

    status: int
    body: dict[str, Any]
    location: str = ""


@dataclass(frozen=True, slots=True)
class Consent:
    """A sound request for a code, which its user has to allow."""

    client: Client
    redirect_uri: str


class OAuth:
    """The endpoints of one server; `origin` is its address as the request reached it."""

    def __init__(
        self, doors: Doors, tokens: Tokens, personal: PersonalTokens, *, clock: Callable[[], float] = time
    ) -> None:
        self.doors = doors
        self.tokens = tokens
        self.personal = personal
        self.clock = clock
        self.codes: Pending[Code] = Pending(CODE_SECONDS, clock)
        self.spent: Pending[str] = Pending(CODE_SECONDS, clock)  # codes, to the refresh tokens given for them
        self.devices: Pending[Device] = Pending(DEVICE_SECONDS, clock)
        self.user_codes: Pending[str] = Pending(DEVICE_SECONDS, clock)  # to device codes

    async def token(self, parameters: Parameters, origin: str, signing_in: SigningIn) -> Answer:
        """Tokens for a password (checked inside `signing_in(name)`), a refresh token, a code or a device code."""
        code = parameters.get("code", "") if parameters.get("grant_type") == "authorization_code" else ""
        if (refresh := self.spent.pop(code)) is not None:  # somebody else has it too (RFC 6749 section 4.1.2)
            with contextlib.suppress(Unauthenticated):
                await self.tokens.revoke(refresh)
        answer = _answer(lambda: Grammar(self, origin, signing_in).create_token_response(Request(parameters)))
        if "order" not in answer.body:
            return answer
        try:
            pair: TokenPair = await answer.body["order"]()
        except Unauthenticated as refused:
            return _refused(InvalidGrantError(refused.message))
        if code:
            self.spent.add(code, pair.refresh)
        return Answer(200, _told(pair))

    def consent(self, parameters: Parameters, origin: str) -> Consent | Answer:
        """What a user is asked to allow; an Answer if the request is not sound."""
        try:
            grant = Grammar(self, origin).get_consent_grant(Request(parameters))
        except OAuth2Error as fault:
            return _refused(fault)
        except ValueError:
            return _refused(_unreadable())
        return Consent(grant.client, grant.redirect_uri)

    def authorize(self, parameters: Parameters, origin: str, who: Principal | None) -> Answer:
        """Where to send the browser with a code, or with a refusal if nobody (None) allowed it."""
        grammar, request = Grammar(self, origin), Request(parameters)

        def answer() -> Told:
            grant = grammar.get_consent_grant(request)
            told: Told = grammar.create_authorization_response(request, who.name if who else None, grant)
            return told

        return _answer(answer)

    def begin_device(self, parameters: Parameters, origin: str) -> Answer:
        """The codes for a device that has no browser, and for its user."""
        return _answer(
            lambda: Grammar(self, origin).create_endpoint_response("device_authorization", Request(parameters))
        )

    def device_of(self, user_code: str) -> Device | None:
        """The device that shows such a code, however it was typed."""
        letters = "".join(letter for letter in user_code.upper() if letter.isalpha())
        return self.devices.get(self.user_codes.get(f"{letters[:4]}-{letters[4:]}") or "")

    def decide_device(self, device: Device, who: Principal, *, is_allowed: bool) -> None:
        """What its user has decided; a code is good for one decision."""
        self.user_codes.pop(device.user_code)
        device.user, device.is_allowed = who.name, is_allowed

    async def revoke(self, parameters: Parameters, origin: str) -> Answer:
        """End a token of any kind; one that does not hold has ended already."""
        request = Request(parameters)
        answer = _answer(lambda: Grammar(self, origin).create_endpoint_response("revocation", request))
        if answer.status == 200:
            with contextlib.suppress(Unauthenticated):
                await self._end(request.credential)
        return answer

    async def introspect(self, who: Principal, parameters: Parameters, origin: str) -> Answer:
        """What a token is: any for Owners, their own for others."""
        request = Request(parameters)
        answer = _answer(lambda: Grammar(self, origin).create_endpoint_response("introspection", request))
        if answer.status != 200:
            return answer
        told = await self._described(request.credential)
        is_theirs = told is not None and (who.role >= Role.OWNER or told["username"] == who.name)
        return Answer(200, {"active": True} | told if told is not None and is_theirs else {"active": False})

    async def issue(self, user: str, client: str) -> TokenPair:
        """Tokens for somebody who has signed in before."""
        return await self.tokens.issue(Principal(user, Role.NONE), client)

    async def _end(self, token: str) -> None:
        if token.startswith(PREFIX):
            await self.personal.end(token)
        elif token.count(".") == 2:
            await self.tokens.revoke_access(token)
        else:
            await self.tokens.revoke(token)

    async def _described(self, token: str) -> dict[str, Any] | None:
        if token.startswith(PREFIX):
            row = await self.personal.find(token)
            if row is None:
                return None
            told = {"token_type": "Bearer", "scope": row["scope"], "exp": int(row["expires_at"])}
            return told | {"username": row["name"], "sub": row["name"]}
        return await self.tokens.describe(token)


def metadata(origin: str) -> dict[str, Any]:
    """Where the endpoints are and what they offer (RFC 8414)."""
    return {
        "issuer": origin,
        "authorization_endpoint": f"{origin}/oauth/authorize",
        "token_endpoint": f"{origin}/oauth/token",
        "device_authorization_endpoint": f"{origin}/oauth/device_authorization",
        "revocation_endpoint": f"{origin}/oauth/revoke",
        "introspection_endpoint": f"{origin}/oauth/introspect",
        "scopes_supported": [SCOPE],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", "password", DEVICE_CODE_GRANT_TYPE],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
    }


def refusal(words: str) -> Answer:
    """`invalid_request`, with a reason."""
    return _refused(InvalidRequestError(words))


def _answer(ask: Callable[[], Told]) -> Answer:
    try:
        status, body, headers = ask()
    except OAuth2Error as fault:
        return _refused(fault)
    except ValueError:  # authlib quotes what was sent, where not every character may stand
        return _refused(_unreadable())
    return Answer(status, dict(body or {}), dict(headers).get("Location", ""))


def _refused(fault: OAuth2Error) -> Answer:
    status, body, headers = fault()
    return Answer(status, dict(body or {}), dict(headers).get("Location", ""))


def _unreadable() -> OAuth2Error:
    return InvalidRequestError("The request holds characters that have no place in it.")


def _told(pair: TokenPair) -> dict[str, Any]:
    return {
        "token_type": "Bearer",
        "access_token": pair.access,
        "expires_in": pair.expires_in,
        "refresh_token": pair.refresh,
        "scope": SCOPE,
    }
