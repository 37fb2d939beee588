"""OAuth 2's grammar, by authlib: what a request must hold, in which order it is checked, how a refusal is spelled.

authlib knows no coroutines. Its grants therefore answer with an order, a coroutine function that makes the tokens, and
whoever called the grammar runs it; so no token passes authlib, which would write it to its debug log.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from authlib.oauth2.rfc6749 import (
    AccessDeniedError,
    AuthorizationServer,
    InvalidGrantError,
    InvalidRequestError,
    OAuth2Request,
    UnauthorizedClientError,
    grants,
)
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc8628 import (
    AuthorizationPendingError,
    DeviceAuthorizationEndpoint,
    DeviceCodeGrant,
    SlowDownError,
)

from mlhost.auth.oauth.clients import SCOPE, Client, find_client
from mlhost.auth.oauth.pending import DEVICE_SECONDS, POLL_SECONDS, Code, Device
from mlhost.auth.tokens import TokenPair

if TYPE_CHECKING:
    from mlhost.auth.oauth import OAuth

PUBLIC = ["none"]  # how our clients authenticate: not at all

SigningIn = Callable[[str], AbstractContextManager[Any]]  # what is around the check of a name's password
Told = tuple[int, Any, list[tuple[str, str]]]  # status, body, headers


class Order:
    """Makes the tokens for a client, when it is told the client's id; shows nothing of what it was made from."""

    def __init__(self, make: Callable[..., Awaitable[TokenPair]], *given: str) -> None:
        self._make = make
        self._given = given

    async def __call__(self, client_id: str) -> TokenPair:
        """The tokens; Unauthenticated if what they were asked for with does not hold."""
        return await self._make(*self._given, client_id)


class Request(OAuth2Request):
    """The parameters of a request, wherever it carried them."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        # authlib would refuse plain http; whether that is allowed is decided where the server listens.
        super().__init__("POST", "https://mlhost")
        self._parameters = dict(parameters)
        self.payload = BasicOAuth2Payload(self._parameters)

    @property
    def form(self) -> dict[str, str]:
        """The parameters, as grants ask for them."""
        return self._parameters

    @property
    def args(self) -> dict[str, str]:
        """The same."""
        return self._parameters


class Grammar(AuthorizationServer):
    """The rules for one request to the server at `origin`."""

    def __init__(self, parts: OAuth, origin: str, signing_in: SigningIn | None = None) -> None:
        super().__init__(scopes_supported=[SCOPE])
        self.parts = parts
        self.origin = origin
        self._signing_in = signing_in or contextlib.nullcontext
        self.register_grant(_Password)
        self.register_grant(_Refresh)
        self.register_grant(_Code, [_Challenge(required=True)])
        self.register_grant(_DeviceCode)
        for endpoint in (_DeviceAuthorization, _Revocation, _Introspection):
            self.register_endpoint(endpoint)

    async def sign_in(self, name: str, password: str, client_id: str) -> TokenPair:
        """Tokens for a password."""
        with self._signing_in(name):
            who = await self.parts.doors.sign_in(name, password)
        return await self.parts.tokens.issue(who, client_id)

    def query_client(self, client_id: str) -> Client | None:
        """One of our own programs."""
        return find_client(client_id, self.origin)

    def generate_token(self, *, client: Client, user: Order, **rest: Any) -> dict[str, Any]:
        """The order for this client's tokens."""
        del rest
        return {"order": functools.partial(user, client.id)}

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        """Tokens are kept where they are made."""

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def create_oauth2_request(self, request: Request) -> Request:
        """It is one already."""
        return request

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Told:
        """What the one who called makes an answer of."""
        return status, body, headers


class _Password(grants.ResourceOwnerPasswordCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = PUBLIC

    def authenticate_user(self, username: str, password: str) -> Order:
        return Order(self.server.sign_in, username, password)


class _Refresh(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = PUBLIC

    def authenticate_refresh_token(self, refresh_token: str) -> _Shown:
        return _Shown(refresh_token)

    def authenticate_user(self, shown: _Shown) -> Order:
        return Order(self.server.parts.doors.renew, shown.token)

    def revoke_old_credential(self, shown: _Shown) -> None:
        """Renewing does it."""


class _Code(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = PUBLIC

    def save_authorization_code(self, code: str, request: Request) -> None:
        given = request.payload.data
        challenge = (given["code_challenge"], given["code_challenge_method"])
        self.server.parts.codes.add(code, Code(request.client.id, given["redirect_uri"], request.user, *challenge))

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        found: Code | None = self.server.parts.codes.pop(code)  # good once, whatever comes of it
        return found if found is not None and found.client_id == client.id else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """It is gone already."""

    def authenticate_user(self, authorization_code: Code) -> Order:
        return Order(self.server.parts.issue, authorization_code.user)


class _Challenge(CodeChallenge):
    """PKCE, always, and by a digest."""

    def validate_code_challenge(self, grant: _Code, redirect_uri: str) -> None:
        if grant.request.payload.data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("A code_challenge is required, and S256 for its code_challenge_method.")
        super().validate_code_challenge(grant, redirect_uri)


class _DeviceCode(DeviceCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = PUBLIC

    def query_device_credential(self, device_code: str) -> Device:
        device: Device | None = self.server.parts.devices.get(device_code)
        if device is None:
            raise InvalidGrantError("The device_code is unknown or has expired.")
        return device

    def validate_device_credential(self, credential: Device) -> Order:
        if credential.user is None:
            raise SlowDownError if self.should_slow_down(credential) else AuthorizationPendingError
        self.server.parts.devices.pop(credential.device_code)  # good once
        if not credential.is_allowed:
            raise AccessDeniedError
        return Order(self.server.parts.issue, credential.user)

    def should_slow_down(self, credential: Device) -> bool:
        now, before = self.server.parts.clock(), credential.polled_at
        credential.polled_at = now
        return bool(now - before < POLL_SECONDS - 1)  # a second for the way


class _DeviceAuthorization(DeviceAuthorizationEndpoint):
    CLIENT_AUTH_METHODS = PUBLIC
    EXPIRES_IN = int(DEVICE_SECONDS)
    INTERVAL = int(POLL_SECONDS)

    def authenticate_client(self, request: Request) -> Client:
        client: Client = super().authenticate_client(request)
        if not client.check_grant_type(DeviceCodeGrant.GRANT_TYPE):
            raise UnauthorizedClientError("This client has a browser to send its users to.")
        return client

    def get_verification_uri(self) -> str:
        return f"{self.server.origin}/oauth/device"

    def save_device_credential(self, client_id: str, scope: str | None, data: Mapping[str, Any]) -> None:
        del scope
        device = Device(client_id, data["device_code"], data["user_code"])
        self.server.parts.devices.add(device.device_code, device)
        self.server.parts.user_codes.add(device.user_code, device.device_code)


class _Shown:
    """A token somebody shows; whether it holds is found out when the order is run."""

    def __init__(self, token: str) -> None:
        self.token = token

    def check_client(self, client: Client) -> bool:
        """The order does."""
        del client
        return True

    def get_scope(self) -> str:
        """The only scope there is."""
        return SCOPE

    def is_expired(self) -> bool:
        """The order finds out."""
        return False

    def is_revoked(self) -> bool:
        """The order finds out."""
        return False


class _Revocation(RevocationEndpoint):
    """RFC 7009; whoever has a token may end it, whichever of our programs it was given to."""

    CLIENT_AUTH_METHODS = PUBLIC

    def query_token(self, token: str, hint: str | None) -> _Shown:
        del hint
        return _Shown(token)

    def revoke_token(self, token: _Shown, request: Request) -> None:
        request.credential = token.token


class _Introspection(IntrospectionEndpoint):
    """RFC 7662; the door has seen to it that somebody known asks."""

    def authenticate_endpoint_client(self, request: Request) -> None:
        """The bearer of the request's own token asks, no client."""

    def check_permission(self, token: _Shown, client: None, request: Request) -> bool:
        """The order decides."""
        del client
        request.credential = token.token
        return True

    def query_token(self, token: str, hint: str | None) -> _Shown:
        del hint
        return _Shown(token)

    def introspect_token(self, token: _Shown) -> dict[str, Any]:
        """The order tells."""
        del token
        return {}
