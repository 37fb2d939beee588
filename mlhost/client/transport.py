"""Tokens and errors: how a request becomes one that the server takes, and a refusal the error it is.

Whoever signed in with a password gets a pair of tokens (contract section 1.1), which is renewed before it ends. A
personal access token is sent as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from urllib.parse import quote, urlencode

from mlhost.client.steps import Alone, Answer, Request, Sink, Steps
from mlhost.errors import BY_CODE, MlhostError, Unauthenticated, Unavailable, from_wire
from mlhost.params.jsontext import render

PROGRAM = "mlhost-cli"  # as which programs of this machine are known to the server's OAuth
CONNECT_SECONDS = 10.0  # until a server that does not answer at all is given up
RENEW_SECONDS = 60.0  # before an access token ends, or half of what it lives for
PIECE_BYTES = 1 << 18  # of a large body that are passed on at once
REFUSED = 300  # the status from which on an answer is a refusal: the server sends nobody elsewhere
BEARER = "Authorization"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
BYTES = "application/octet-stream"

# What the server calls its errors -> their code; by status what comes from a proxy between.
_CODES = {f"{kind.__name__}Exception": code for code, kind in BY_CODE.items()}
_CODES_BY_STATUS = {
    400: "invalid",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    410: "gone",
    413: "invalid",
    429: "throttled",
    502: "unavailable",
    503: "unavailable",
    504: "unavailable",
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks: a token that is sent as it is, or a name and a password."""

    token: str = field(default="", repr=False)
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Pair:
    """A login: access and refresh token, and when to renew them on `monotonic`'s clock."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    renew_at: float


class Transport:
    """What all nouns of one client share: where the server is, and as whom it is asked.

    `clock` tells seconds, as `time.monotonic` does.
    """

    def __init__(self, url: str, credentials: Credentials, clock: Callable[[], float] = monotonic) -> None:
        self.url = url.rstrip("/")
        self.credentials = credentials
        self._clock = clock
        self._pair: Pair | None = None

    def ask(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        body: bytes | None = None,
        content_type: str = BYTES,
        query: dict[str, str] | None = None,
        into: Sink | None = None,
    ) -> Steps[Answer]:
        """The answer to a request; the error of `mlhost.errors` that the server tells if it refuses.

        `into` takes its body where that may be large.
        """
        headers = {"Content-Type": content_type} if body is not None else {}
        if json is not None:
            body, headers = render(json), {"Content-Type": JSON}
        target = f"{path}?{urlencode(query)}" if query else path
        token = yield from self.token()
        answer: Answer = yield Request(method, target, body, headers | {BEARER: f"Bearer {token}"}, into)
        if answer.status == 401 and self._pair is not None:
            token = yield Alone(self._renewed(token))
            answer = yield Request(method, target, body, headers | {BEARER: f"Bearer {token}"}, into)
        return checked(answer)

    def sign_in(self) -> Steps[None]:
        """See to it that there is a token; Unauthenticated if name or password is wrong."""
        yield from self.token()

    def sign_out(self) -> Steps[None]:
        """End the login, if one was made here."""
        if self._pair is not None:
            refresh, self._pair = self._pair.refresh, None
            yield Request("DELETE", f"/login/refreshToken?refreshToken={quote(refresh, safe='')}")

    def revoke(self, token: str) -> Steps[None]:
        """End a token of any kind; whoever has it may."""
        form = urlencode({"client_id": PROGRAM, "token": token}).encode()
        checked((yield Request("POST", "/oauth/revoke", form, {"Content-Type": FORM})))

    def token(self) -> Steps[str]:
        """A token that is good now; signs in if need be."""
        if self.credentials.token:
            return self.credentials.token
        if self._pair is None or self._clock() >= self._pair.renew_at:
            token: str = yield Alone(self._renewed(self._pair.access if self._pair else ""))
            return token
        return self._pair.access

    def _renewed(self, stale: str) -> Steps[str]:
        """A token other than the stale one: whoever was here before may have renewed it already."""
        if self._pair is None:
            return (yield from self._login())
        if self._pair.access != stale:
            return self._pair.access
        answer: Answer = yield Request(
            "POST", "/login/refreshToken", render({"refreshToken": self._pair.refresh}), {"Content-Type": JSON}
        )
        if answer.status == 401:  # too old, or its login was ended
            return (yield from self._login())
        return self._keep(answer)

    def _login(self) -> Steps[str]:
        who = self.credentials
        if not who.password:
            raise Unauthenticated(
                f"No login for {self.url} is known here: run mlhost login {self.url}, set MLHOST_TOKEN,"
                " or give connect() a token, or user and password."
            )
        asked = render({"username": who.user, "password": who.password})
        return self._keep((yield Request("POST", "/login", asked, {"Content-Type": JSON})))

    def _keep(self, answer: Answer) -> str:
        told = checked(answer).json()
        seconds = float(told["expires_in"])
        self._pair = Pair(
            told["access_token"], told["refresh_token"], self._clock() + max(seconds / 2, seconds - RENEW_SECONDS)
        )
        return self._pair.access


def checked(answer: Answer) -> Answer:
    """The answer, unless it is a refusal."""
    if answer.status >= REFUSED:
        raise error_of(answer)
    return answer


def error_of(answer: Answer) -> MlhostError:
    """The error a refusal tells; what does not come from mlhost goes by its status."""
    code = _CODES_BY_STATUS.get(answer.status, "unavailable" if answer.status < 400 else "error")
    details: dict[str, Any] = {"status": answer.status}
    message = f"The answer has the status {answer.status} and is not mlhost's."
    try:
        told = answer.json()
    except MlhostError:
        told = None
    said = (told.get("message") or told.get("error_description")) if isinstance(told, dict) else None  # OAuth's
    if isinstance(told, dict) and isinstance(said, str):
        message = said
        code = _CODES.get(str(told.get("exceptionType")), code)
        if told.get("fields"):
            details["field"] = told["fields"]
    if (wait := answer.headers.get("retry-after", "")).isdecimal():
        details["retry_after_seconds"] = int(wait)
    return from_wire({"code": code, "message": message, "details": details})


def silent(url: str, fault: Exception) -> Unavailable:
    """That nobody answers at an address."""
    reason = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
    return Unavailable(f"{url} does not answer: {reason}. `mlhost serve` starts a server on this machine.")


def path(*parts: str) -> str:
    """A path of these parts, each one segment; `.` and `..` would name something else, and no name here is either."""
    for part in parts:
        if part in ("", ".", ".."):
            raise from_wire({"code": "invalid", "message": f"{part!r} is no name.", "details": {}})
    return "".join(f"/{quote(part, safe='')}" for part in parts)
