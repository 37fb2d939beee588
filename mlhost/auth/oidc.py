"""Users whom an OpenID Connect provider vouches for, Azure AD among them: by a bearer token of its own, or by a sign-in
there with a browser (OpenID Connect Core 1.0; authorization code with PKCE, RFC 7636).

A token is believed only if one of the provider's published keys signed it, by an algorithm that is set; what else its
header brings along (`jwk`, `jku`, `x5u`) is never looked at. The name and the groups in it are those of a user here.
"""

from __future__ import annotations

import hmac
import json
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256, sha384, sha512
from time import time
from typing import Any
from urllib.parse import quote_plus, urlencode

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from mlhost.auth.known import Known
from mlhost.auth.peers import secret
from mlhost.auth.principal import Principal
from mlhost.auth.published import Json, Published, check_address
from mlhost.auth.signin import Doors
from mlhost.auth.tokens import LEEWAY_SECONDS
from mlhost.config import Oidc
from mlhost.errors import Invalid, Throttled, Unauthenticated, Unavailable

MAX_TOKEN_LENGTH = 16_384  # characters; those of Azure AD name up to two hundred groups
MAX_GROUPS = 1000
MAX_EXCHANGES = 20  # codes on their way to the provider at once
TYPES = (None, "jwt", "at+jwt", "application/at+jwt")  # of tokens that say who asks; one for signing out is not
HASHES = {"256": sha256, "384": sha384, "512": sha512}


class OpenId:
    """The provider that the settings of section `oidc` name; Invalid if they do not hold together."""

    def __init__(
        self,
        settings: Oidc,
        doors: Doors,
        known: Known,
        *,
        published: Published | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        _check(settings)
        self._settings = settings
        self._audience = settings.audience or settings.client_id
        self._secret = _client_secret(settings)
        self._doors = doors
        self._known = known
        self._clock = clock
        self._registry = JWSRegistry(algorithms=settings.algorithms, strict_check_header=False)
        self._exchanges = 0
        self.published = published or Published(settings)

    @property
    def redirect_uri(self) -> str:
        """Where the provider sends browsers back to, if that is set."""
        return self._settings.redirect_uri

    async def close(self) -> None:
        """Ask no more."""
        await self.published.close()

    # --- bearer tokens ---------------------------------------------------------------------------------------------

    def is_from_here(self, token: str) -> bool:
        """Whether a token says that the provider issued it, which makes it no more than one to be checked here."""
        return _said_by(token) == self._settings.issuer

    async def check(self, token: str) -> Principal:
        """Who a token of the provider belongs to; Unauthenticated if it does not hold.

        Unavailable if the provider cannot be asked for its keys, and none is known.
        """
        claims = await self._verified(token, self._audience)
        if "cnf" in claims:  # RFC 7800; nobody here checks the proof
            raise Unauthenticated("The token holds only with a proof of possession, which this server does not take.")
        mark = self._known.mark()
        who = await self._admit(claims)  # a change of groups moves the mark: then the next call is checked once more
        self._known.remember(token, who, "oidc", claims["exp"], mark)
        return who

    # --- signing in with a browser ---------------------------------------------------------------------------------

    async def address(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Where a browser signs in; it comes back to `redirect_uri` with a code and the `state`."""
        about = await self.published.about()
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": create_s256_code_challenge(verifier),
            "code_challenge_method": "S256",
        }
        endpoint = self.published.endpoint(about, "authorization_endpoint")
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"

    async def sign_in(self, code: str, issuer: str | None, redirect_uri: str, nonce: str, verifier: str) -> Principal:
        """Who came back with a code; Unauthenticated if the provider does not say so, Unavailable.

        `issuer` is the `iss` they came back with (RFC 9207), so that a code of another provider never gets to this one.
        """
        about = await self.published.about()
        must_say = about.get("authorization_response_iss_parameter_supported") is True
        if issuer != self._settings.issuer and (issuer is not None or must_say):
            raise Unauthenticated("The answer is not one of the identity provider that was asked.")
        told = await self._exchange(about, code, redirect_uri, verifier)
        token, access = told.get("id_token"), told.get("access_token")
        if not isinstance(token, str):
            raise Unauthenticated("The identity provider sent no id_token: oidc.scopes must name openid.")
        claims = await self._verified(token, self._settings.client_id)
        if not isinstance(claims.get("nonce"), str) or not hmac.compare_digest(
            claims["nonce"].encode(), nonce.encode()
        ):
            raise Unauthenticated("The id_token is that of another sign-in (nonce).")
        _check_at_hash(claims, access)
        return await self._admit(claims)

    async def _exchange(self, about: Json, code: str, redirect_uri: str, verifier: str) -> Json:
        if self._exchanges >= MAX_EXCHANGES:
            raise Throttled("Too many logins at once; try again in a few seconds.", retry_after_seconds=5)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": self._settings.client_id,
        }
        headers = {"Accept": "application/json"}
        if self._secret:
            ways = about.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
            if "client_secret_basic" in ways:
                del form["client_id"]
                pair = f"{quote_plus(self._settings.client_id)}:{quote_plus(self._secret)}"  # RFC 6749 section 2.3.1
                headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
            else:
                form["client_secret"] = self._secret
        self._exchanges += 1
        try:
            endpoint = self.published.endpoint(about, "token_endpoint")
            status, told = await self.published.send("POST", endpoint, data=form, headers=headers)
        finally:
            self._exchanges -= 1
        if status >= 500:
            raise Unavailable(f"The identity provider {self._settings.issuer} fails ({status}); try again later.")
        if status != 200:
            why = told.get("error")
            raise Unauthenticated(f"The identity provider refuses the code: {why if isinstance(why, str) else status}.")
        return told

    # --- tokens ----------------------------------------------------------------------------------------------------

    async def _verified(self, token: str, audience: str) -> Json:
        """The claims of a token for an audience, header `alg` among them as `_alg`; Unauthenticated, Unavailable."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise Unauthenticated("The token is too long.")
        header = _part(token, 0)
        algorithm, kind = header.get("alg"), header.get("typ")
        if algorithm not in self._settings.algorithms:
            raise Unauthenticated("The token does not hold: it is signed by an algorithm that oidc.algorithms lacks.")
        if (kind.lower() if isinstance(kind, str) else kind) not in TYPES:
            raise Unauthenticated("The token does not hold: it is of another type.")
        name = header.get("kid")
        key = await self.published.key(name, algorithm) if name is None or isinstance(name, str) else None
        if key is None:
            raise Unauthenticated("The token does not hold: the identity provider publishes no such key.")
        try:
            claims = jwt.decode(token, key, registry=self._registry).claims
            self._rules(audience).validate(claims)
        except (JoseError, ValueError, RecursionError) as fault:
            raise Unauthenticated(f"The token does not hold: {fault}") from None
        party = claims.get("azp")
        if (
            isinstance(claims["aud"], list)
            and len(claims["aud"]) > 1
            and party not in {self._settings.client_id, audience}
        ):
            raise Unauthenticated("The token does not hold: it is for several, and this server is not its azp.")
        return claims | {"_alg": algorithm}

    def _rules(self, audience: str) -> jwt.JWTClaimsRegistry:
        return jwt.JWTClaimsRegistry(
            now=int(self._clock()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": self._settings.issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )

    async def _admit(self, claims: Json) -> Principal:
        """The user whom claims name. Groups are those of their newest token: an older one does not bring them back."""
        return await self._doors.admit(self._name(claims), self._groups(claims), float(claims.get("iat", 0)))

    def _name(self, claims: Json) -> str:
        for claim in self._settings.user_claims:
            if isinstance(name := claims.get(claim), str) and name:
                return name
        raise Unauthenticated(f"The token names no user in {', '.join(self._settings.user_claims)} (oidc.user_claims).")

    def _groups(self, claims: Json) -> tuple[str, ...]:
        claim = self._settings.groups_claim
        elsewhere = claims.get("_claim_names")
        if claims.get("hasgroups") or (isinstance(elsewhere, Mapping) and claim in elsewhere):
            raise Unauthenticated(
                "The user is in more groups than fit into a token: have the provider name only those that are assigned"
                " to this application, or set oidc.groups_claim = 'roles'."
            )
        groups = claims.get(claim, [])
        if isinstance(groups, str):
            groups = [groups]
        if not isinstance(groups, list) or len(groups) > MAX_GROUPS:
            raise Unauthenticated(f"The token does not tell groups in {claim} (oidc.groups_claim).")
        return tuple(sorted({group for group in groups if isinstance(group, str)}))


def _said_by(token: str) -> object:
    """Whom a token says it is from, true or not; None if it does not say."""
    return _part(token, 1).get("iss") if token.count(".") == 2 and len(token) <= MAX_TOKEN_LENGTH else None


def _part(token: str, number: int) -> Json:
    """A part of a token, not verified; empty if it cannot be read."""
    try:
        text = token.split(".")[number]
        told = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, IndexError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _check_at_hash(claims: Json, access: Any) -> None:
    """That the access token that came along is the one the id_token tells of, if it does (Core section 3.1.3.6)."""
    told = claims.get("at_hash")
    if told is None:
        return
    digest = HASHES[claims["_alg"][2:]](access.encode() if isinstance(access, str) else b"").digest()
    expected = urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=")
    if not isinstance(told, str) or not hmac.compare_digest(told.encode("utf-8", "surrogatepass"), expected):
        raise Unauthenticated("The id_token tells of another access token (at_hash).")


async def check_provider(settings: Oidc) -> int:
    """How many public keys a provider signs with; Invalid if the settings do not hold, Unavailable."""
    _check(settings)
    _client_secret(settings)
    published = Published(settings)
    try:
        return await published.count()
    finally:
        await published.close()


# --- settings ------------------------------------------------------------------------------------------------------


def _check(settings: Oidc) -> None:
    if not settings.client_id:
        raise Invalid("oidc.issuer is set, which needs oidc.client_id.", field="oidc.client_id")
    for name in ("algorithms", "user_claims", "scopes"):
        if not getattr(settings, name):
            raise Invalid(f"oidc.{name} is empty: name at least one.", field=f"oidc.{name}")
    if settings.redirect_uri:
        check_address("oidc.redirect_uri", settings.redirect_uri)


def _client_secret(settings: Oidc) -> str:
    if not settings.client_secret_file:
        return ""
    return secret("oidc.client_secret_file", settings.client_secret_file)
