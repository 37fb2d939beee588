"""What an identity provider publishes: where its endpoints are (OpenID Connect Discovery 1.0), and the public keys it
signs with (RFC 7517).

Both are kept. They are fetched again when they are old or a token names a key that is not among them, by one request at
a time and at most once a minute, so that nobody can make this server bother the provider with invented keys.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from mlhost.auth.peers import context, is_this_machine
from mlhost.config import Oidc
from mlhost.errors import Invalid, Unavailable

log = logging.getLogger(__name__)

PATH = "/.well-known/openid-configuration"
FRESH_SECONDS = 3600.0  # after which keys are fetched again
USABLE_SECONDS = 86400.0  # after which they no longer count, if the provider could not be asked since
REFRESH_SECONDS = 60.0  # between two requests while there are keys
RETRY_SECONDS = 5.0  # between two requests while there are none
MAX_BYTES = 1 << 20  # of an answer of the provider
MAX_KEYS = 100
KINDS: Mapping[str, type[RSAKey | ECKey]] = {"RSA": RSAKey, "EC": ECKey}  # of public keys; one that is secret is none
MIN_RSA_BITS = 2048  # RFC 7518 section 3.3

Key = RSAKey | ECKey
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Kept:
    about: Json  # the metadata
    keys: tuple[Key, ...]
    fetched_at: float


class Published:
    """What the provider that the settings of section `oidc` name publishes; Invalid if they do not hold together."""

    def __init__(self, settings: Oidc, clock: Callable[[], float] = monotonic) -> None:
        self.issuer = settings.issuer
        check_address("oidc.issuer", settings.issuer)
        self._timeout = aiohttp.ClientTimeout(total=settings.timeout_seconds)
        self._context = context("oidc.ca_file", settings.ca_file)
        self._clock = clock
        self._kept: _Kept | None = None
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._fault = ""
        self.fetches = 0  # how often the provider was asked for them

    async def about(self) -> Json:
        """The provider's metadata; Unavailable if it was never told."""
        return (await self._current()).about

    async def count(self) -> int:
        """How many keys may verify; Unavailable if it was never told."""
        return len((await self._current()).keys)

    async def key(self, name: object, algorithm: str) -> Key | None:
        """The key of that name that an algorithm may use, None if there is none; Unavailable if no key is known at all.

        A token that names no key is signed by the only one there is.
        """
        found = _pick(await self._current(), name, algorithm)
        if found is None and name is not None:
            await self._refresh(REFRESH_SECONDS)
            found = _pick(await self._current(), name, algorithm)
        return found

    async def send(self, method: str, url: str, **options: Any) -> tuple[int, Json]:
        """The status and the JSON object of one answer of the provider; Unavailable if there is none."""
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout) as http,
                http.request(method, url, ssl=self._context, allow_redirects=False, **options) as response,
            ):
                content = await response.content.read(MAX_BYTES + 1)
                while len(content) <= MAX_BYTES and (more := await response.content.read(MAX_BYTES + 1)):
                    content += more
                told = json.loads(content) if len(content) <= MAX_BYTES else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as fault:
            raise self._unavailable(f"does not answer {urlsplit(url).path}: {fault or type(fault).__name__}") from None
        if not isinstance(told, dict):
            raise self._unavailable(f"answers {urlsplit(url).path} with something else than a JSON object")
        return response.status, told

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None and not self._asking.done():
            self._asking.cancel()
            await asyncio.wait([self._asking])

    # --- how -------------------------------------------------------------------------------------------------------

    async def _current(self) -> _Kept:
        """What is kept; when it is old it is asked for anew, and waited for only if it is of no use any more."""
        if self._age() > USABLE_SECONDS:
            await self._refresh(RETRY_SECONDS)
        elif self._age() > FRESH_SECONDS:
            self._begin_to_ask(REFRESH_SECONDS)
        if self._kept is None or self._age() > USABLE_SECONDS:
            raise self._unavailable(self._fault)
        return self._kept

    def _age(self) -> float:
        return self._clock() - self._kept.fetched_at if self._kept else float("inf")

    async def _refresh(self, pause: float) -> None:
        """Ask anew, or wait for the answer that is on its way; nothing happens within `pause` seconds of the last."""
        self._begin_to_ask(pause)
        if self._asking is not None:
            await asyncio.shield(self._asking)  # others wait for it too

    def _begin_to_ask(self, pause: float) -> None:
        is_asking = self._asking is not None and not self._asking.done()
        if not is_asking and self._clock() - self._asked_at >= pause:
            self._asked_at = self._clock()
            self._asking = asyncio.get_running_loop().create_task(self._ask())

    async def _ask(self) -> None:
        self.fetches += 1
        try:
            about = await self._fetch(self.issuer.rstrip("/") + PATH)
            if about.get("issuer") != self.issuer:
                raise self._unavailable(f"calls itself {about.get('issuer')!r}, which oidc.issuer is to spell exactly")
            keys = _read_keys(await self._fetch(self.endpoint(about, "jwks_uri")))
            if not keys:
                raise self._unavailable("publishes no key that signs")
            self._kept = _Kept(about, keys, self._clock())
        except Unavailable as fault:
            self._fault = fault.details["told"]
            log.warning("%s", fault.message)

    async def _fetch(self, url: str) -> Json:
        status, told = await self.send("GET", url, headers={"Accept": "application/json"})
        if status != 200:
            raise self._unavailable(f"answers {urlsplit(url).path} with {status}")
        return told

    def endpoint(self, about: Json, name: str) -> str:
        """The address of an endpoint in the metadata; Unavailable if it is none that may be asked."""
        url = about.get(name)
        is_from_here = is_this_machine(
            urlsplit(self.issuer).hostname or ""
        )  # none from elsewhere sends us to ourselves
        if not isinstance(url, str) or not _may_be_asked(url, plainly=is_from_here):
            raise self._unavailable(f"names no {name} that may be asked: {url!r}")
        return url

    def _unavailable(self, told: str) -> Unavailable:
        return Unavailable(f"The identity provider {self.issuer} {told or 'does not answer'}.", told=told)


def check_address(key: str, url: str) -> None:
    """Invalid if a setting is no address that may be asked."""
    if not _may_be_asked(url) or urlsplit(url).query:
        raise Invalid(f"{key} = {url!r} is no https:// address; http:// goes to this machine only.", field=key)


def _may_be_asked(url: str, *, plainly: bool = True) -> bool:
    """Whether it is https, or http to this machine where that is allowed."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    is_safe = parts.scheme == "https" or (plainly and parts.scheme == "http" and is_this_machine(host))
    return is_safe and bool(host) and parts.username is None and not parts.fragment


# --- keys ----------------------------------------------------------------------------------------------------------


def _read_keys(told: Json) -> tuple[Key, ...]:
    """Those of a key set that are public and sign; others are passed over (RFC 7517 section 5)."""
    listed = told.get("keys")
    found = []
    for each in listed[:MAX_KEYS] if isinstance(listed, list) else ():
        kind = KINDS.get(str(each.get("kty"))) if isinstance(each, dict) else None
        if kind is None:
            continue
        try:
            key = kind.import_key(each)
            key.check_use("sig")
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if not (isinstance(key, RSAKey) and key.raw_value.key_size < MIN_RSA_BITS):
            found.append(key)
    return tuple(found)


def _pick(kept: _Kept, name: object, algorithm: str) -> Key | None:
    """The key that may verify: its kind is the algorithm's, and so is the algorithm it is for, if it says."""
    kind = ECKey if algorithm.startswith("ES") else RSAKey
    fit = [key for key in kept.keys if isinstance(key, kind) and key.get("alg") in (None, algorithm)]
    if name is not None:
        fit = [key for key in fit if key.get("kid") == name]
    return fit[0] if len(fit) == 1 else None
