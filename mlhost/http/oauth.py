"""OAuth 2's endpoints; what each takes and answers is in its RFC, where they are in their metadata (RFC 8414)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from urllib.parse import parse_qsl

from aiohttp import web

from mlhost.auth.oauth import Answer, Consent, metadata, refusal
from mlhost.auth.principal import Principal
from mlhost.errors import Unauthenticated
from mlhost.http.exchange import body, record
from mlhost.http.keys import HOST, WHO
from mlhost.http.login import MOST_BYTES
from mlhost.http.pages import check_ours, form, message
from mlhost.http.routes import Routes
from mlhost.http.trail import signing_in

routes = Routes("OAuth 2 and OpenID Connect")

MAX_FIELDS = 30
FORM_TYPE = "application/x-www-form-urlencoded"
# What a consent page sends back beside the name and the password.
ASKED = ("response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method")
DEVICE = (
    "A program on a device asks to act as you on this server. Type the code only if you see it on a device of your own."
)


@routes.get("/.well-known/oauth-authorization-server")
async def tell(request: web.Request) -> web.Response:
    """Where the endpoints are."""
    return record(metadata(_origin(request)))


@routes.post("/oauth/token")
async def token(request: web.Request) -> web.Response:
    """Tokens, for a password, a refresh token, a code or a device code."""
    parameters = await _posted(request)
    if isinstance(parameters, Answer):
        return _answered(parameters)
    return _answered(await request.app[HOST].oauth.token(parameters, _origin(request), partial(signing_in, request)))


@routes.post("/oauth/revoke")
async def revoke(request: web.Request) -> web.Response:
    """End a token."""
    parameters = await _posted(request)
    if isinstance(parameters, Answer):
        return _answered(parameters)
    return _answered(await request.app[HOST].oauth.revoke(parameters, _origin(request)))


@routes.post("/oauth/introspect")
async def introspect(request: web.Request) -> web.Response:
    """What a token is."""
    parameters = await _posted(request)
    if isinstance(parameters, Answer):
        return _answered(parameters)
    return _answered(await request.app[HOST].oauth.introspect(request[WHO], parameters, _origin(request)))


@routes.post("/oauth/device_authorization")
async def begin_device(request: web.Request) -> web.Response:
    """Codes for a device and its user."""
    parameters = await _posted(request)
    if isinstance(parameters, Answer):
        return _answered(parameters)
    return _answered(request.app[HOST].oauth.begin_device(parameters, _origin(request)))


# --- pages ---------------------------------------------------------------------------------------------------------


@routes.get("/oauth/authorize")
async def ask(request: web.Request) -> web.Response:
    """Ask a user whether a program may act as they."""
    return _ask(request, _once(request.query.items()))


@routes.post("/oauth/authorize")
async def authorize(request: web.Request) -> web.Response:
    """Send the browser back to the program with a code, if its user signs in and allows it."""
    parameters = await _posted(request)
    if isinstance(parameters, Answer):
        return _shown(parameters)
    asked = {name: parameters[name] for name in ASKED if name in parameters}
    oauth, origin = request.app[HOST].oauth, _origin(request)
    consent = oauth.consent(asked, origin)
    if isinstance(consent, Answer):
        return _shown(consent)
    check_ours(request, parameters)
    try:
        who = await _decided(request, parameters)
    except Unauthenticated as refused:
        return _ask(request, asked, refused.message)
    return _shown(oauth.authorize(asked, origin, who))


@routes.get("/oauth/device")
async def ask_device(request: web.Request) -> web.Response:
    """Ask a user for the code of their device."""
    return form(request, DEVICE, code=request.query.get("user_code", ""))


@routes.post("/oauth/device")
async def decide_device(request: web.Request) -> web.Response:
    """Allow a device to act as the user, or deny it."""
    parameters = await _posted(request)
    if isinstance(parameters, Answer):
        return _shown(parameters)
    check_ours(request, parameters)
    oauth, code = request.app[HOST].oauth, parameters.get("user_code", "")
    try:
        who = await _signed_in(request, parameters)
    except Unauthenticated as refused:
        return form(request, DEVICE, code=code, words=refused.message, status=403)
    device = oauth.device_of(code)
    if device is None:
        return form(request, DEVICE, code=code, words="No device waits with this code.", status=400)
    is_allowed = parameters.get("decision") == "allow"
    oauth.decide_device(device, who, is_allowed=is_allowed)
    return message(f"The device {'may act' if is_allowed else 'was denied to act'} as {who.name}. Close this page.")


async def _decided(request: web.Request, parameters: Mapping[str, str]) -> Principal | None:
    """Who allows it; None if nobody does."""
    if parameters.get("decision") != "allow":
        return None
    return await _signed_in(request, parameters)


async def _signed_in(request: web.Request, parameters: Mapping[str, str]) -> Principal:
    name = parameters.get("username", "")
    with signing_in(request, name):
        return await request.app[HOST].doors.sign_in(name, parameters.get("password", ""))


def _ask(request: web.Request, asked: Mapping[str, str] | Answer, words: str = "") -> web.Response:
    consent: Answer | Consent | Mapping[str, str] = asked
    if not isinstance(asked, Answer):
        asked = {name: value for name, value in asked.items() if name in ASKED}
        consent = request.app[HOST].oauth.consent(asked, _origin(request))
        if isinstance(consent, Consent):
            sentence = f"{consent.client.title.capitalize()} asks to act as you on this server."
            return form(request, sentence, hidden=asked, words=words, status=403 if words else 200)
    assert isinstance(consent, Answer)
    return _shown(consent)


# --- requests and answers ------------------------------------------------------------------------------------------


async def _posted(request: web.Request) -> dict[str, str] | Answer:
    """The parameters of a form, each at most once (RFC 6749 section 3.2)."""
    content = await body(request, MOST_BYTES)
    if content and request.content_type != FORM_TYPE:
        return refusal(f"The body must be {FORM_TYPE}.")
    try:
        return _once(parse_qsl(content.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        return refusal("The body cannot be read as a form.")


def _once(pairs: Iterable[tuple[str, str]]) -> dict[str, str] | Answer:
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name in parameters:
            return refusal("A parameter is there more than once.")
        if value:  # RFC 6749 section 3.1: without a value is as if it were not there
            parameters[name] = value
    return parameters


def _answered(answer: Answer) -> web.Response:
    """As JSON, not to be kept."""
    response = record(answer.body, status=answer.status)
    response.headers.update({"Cache-Control": "no-store", "Pragma": "no-cache"})
    return response


def _shown(answer: Answer) -> web.Response:
    """In a browser: on to where it leads, or the refusal in words."""
    if answer.location:
        headers = {"Location": answer.location, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        return web.Response(status=303, headers=headers)  # not 307, which would send the password on (RFC 9700, 4.12)
    return message(answer.body.get("error_description") or answer.body.get("error", ""), answer.status)


def _origin(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"
