"""Personal access tokens of the one who is signed in: made and shown once, listed, revoked."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from mlhost.auth.personal import MAX_DAYS
from mlhost.http.console.forms import texts, whole
from mlhost.http.console.rendering import onward, page
from mlhost.http.keys import HOST, WHO
from mlhost.http.personal import DEFAULT_DAYS
from mlhost.http.routes import Routes

routes = Routes()

PATH = "/console/tokens"
CONSUME = "consume"


@routes.get(PATH)
async def list_all(request: web.Request) -> web.Response:
    """The caller's tokens, newest first, and a form to make one."""
    return page(request, "tokens.html", **await _told(request))


@routes.post(PATH)
async def create(request: web.Request) -> web.Response:
    """Make a token, and show it: this once."""
    fields = await texts(request)
    token, secret = await request.app[HOST].personal.create(
        request[WHO], fields.get("name", ""), _scope(fields), whole(fields, "days", DEFAULT_DAYS)
    )
    return page(request, "tokens.html", **(await _told(request) | {"made": token, "secret": secret}))


@routes.post(f"{PATH}/{{tokenId}}/revoke")
async def revoke(request: web.Request) -> web.Response:
    """End a token."""
    await request.app[HOST].personal.revoke(request[WHO], request.match_info["tokenId"])
    return onward(PATH)


async def _told(request: web.Request) -> dict[str, Any]:
    host, who = request.app[HOST], request[WHO]
    services = await host.services.list(who)
    return {
        "tokens": list(reversed(await host.personal.list(who))),
        "services": sorted({service.name for service in services}),
        "days": DEFAULT_DAYS,
        "most_days": MAX_DAYS,
        "made": None,
        "secret": "",
    }


def _scope(fields: dict[str, str]) -> str:
    """What the form says it is for: one service is named in a field of its own."""
    scope = fields.get("scope", "")
    return f"{CONSUME}:{fields.get('service', '').strip()}" if scope == CONSUME else scope
