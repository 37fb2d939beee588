"""The programs that may ask for tokens on behalf of a user: our own, public ones, which keep no secret (RFC 8252)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from authlib.oauth2.rfc6749 import ClientMixin
from authlib.oauth2.rfc8628 import DEVICE_CODE_GRANT_TYPE

SCOPE = "all"  # the only one: what a user may do, their program may

# Any port of this machine's loopback, by address and not by name, and nothing else (RFC 8252 sections 7.3 and 8.3).
_LOOPBACK = re.compile(r"http://(?:127\.0\.0\.1|\[::1\]):(?P<port>[1-9][0-9]{0,4})/callback")


@dataclass(frozen=True, slots=True)
class Client(ClientMixin):
    """One program; `redirect_uri` is the exact one that may be asked for, "" if it listens on the loopback."""

    id: str
    title: str
    grants: frozenset[str]
    redirect_uri: str = ""

    def get_client_id(self) -> str:
        """Its id."""
        return self.id

    def get_default_redirect_uri(self) -> None:
        """None: each request names its own."""

    def get_allowed_scope(self, scope: str | None) -> str:
        """The only scope there is."""
        del scope
        return SCOPE

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether the answer may be sent there."""
        if self.redirect_uri:
            return redirect_uri == self.redirect_uri
        found = _LOOPBACK.fullmatch(redirect_uri)
        return found is not None and int(found["port"]) <= 65535

    def check_client_secret(self, client_secret: str) -> bool:
        """No secret fits."""
        del client_secret
        return False

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """It tells its id and no more."""
        del endpoint
        return method == "none"

    def check_response_type(self, response_type: str) -> bool:
        """Only codes are given out by way of a browser."""
        return response_type == "code" and "authorization_code" in self.grants

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether it may come for tokens in this way."""
        return grant_type in self.grants


def find_client(client_id: str, origin: str) -> Client | None:
    """The program of that id; `origin` is the server's own address, where its console lives."""
    if client_id == "mlhost-cli":
        grants = {"password", "refresh_token", "authorization_code", DEVICE_CODE_GRANT_TYPE}
        return Client(client_id, "the mlhost command", frozenset(grants))
    if client_id == "mlhost-console":
        grants = {"refresh_token", "authorization_code"}
        return Client(client_id, "the console of this server", frozenset(grants), f"{origin}/console/callback")
    return None
