"""Where a request may come from: the names this server answers to, and the web pages that may ask it.

A web page can make its own name lead to this machine and then talk to the server as if it were its own (DNS
rebinding); the browser still says the page's name in the Host header. So every request, whatever its method and
address, must call the server by a name on a list. A page of another origin is let in only if it is listed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from mlhost.config import Server
from mlhost.errors import Invalid
from mlhost.http.errors import Handler

ANY = "*"
LOCAL = ("localhost", "127.0.0.1", "::1")
METHODS = "GET, POST, PUT, PATCH, DELETE"
HEADERS = "Authorization, Content-Type"
EXPOSED = "Location, Retry-After, Content-Disposition, WWW-Authenticate"
MAX_REMEMBERED = 64  # spellings of a name that was found good: reading one takes longer than all the rest here
PREFLIGHT_SECONDS = 600  # that a browser may remember what it was told

# A name or an address, IPv6 in brackets, and perhaps a port (RFC 9110 §7.2).
_AUTHORITY = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:/?#@\s]+))(?::\d*)?")


class Origins:
    """The names and pages of one server."""

    def __init__(self, settings: Server) -> None:
        self._names = {_plain(name) for name in (settings.host, *settings.allowed_hosts)}
        if _is_wildcard(settings.host):
            self._names |= {socket.gethostname().lower(), *LOCAL}
        elif is_loopback(settings.host):
            self._names |= {*LOCAL}
        self._remembered: set[str] = set()
        self._is_open = ANY in settings.allowed_hosts
        self._is_wildcard = _is_wildcard(settings.host)
        self.pages = frozenset(_page(page) for page in settings.origins)

    def answers_to(self, host: str, transport: asyncio.BaseTransport | None) -> bool:
        """Whether a Host header names this server; bound to all addresses, it answers to the one it was reached at."""
        if host in self._remembered:
            return True
        name = _name(host)
        if name in self._names:
            if len(self._remembered) < MAX_REMEMBERED:
                self._remembered.add(host)
            return True
        return name != "" and (self._is_open or (self._is_wildcard and name == _reached_at(transport)))

    def lets_in(self, page: str, host: str) -> bool:
        """Whether a page of that origin may ask: a listed one, or one that this server itself has sent."""
        return page in self.pages or page.partition("://")[2].lower() == host.lower()


ORIGINS: web.AppKey[Origins] = web.AppKey("origins", Origins)


def guard(app: web.Application, settings: Server) -> None:
    """Have the application ask where requests come from; `middleware` must be among its own."""
    app[ORIGINS] = origins = Origins(settings)
    if origins.pages:
        app.on_response_prepare.append(_tell_browser)


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what does not call this server by its name, or comes from a web page that may not ask."""
    origins = request.app[ORIGINS]
    hosts = request.headers.getall("Host", ())
    if len(hosts) != 1:
        raise web.HTTPBadRequest(text="A request has one Host header, which names the server it is for.")
    if not origins.answers_to(hosts[0], request.transport):
        told = f"This server does not answer to the name {hosts[0][:256]!r}; if it should, list it in"
        raise web.HTTPMisdirectedRequest(text=f"{told} server.allowed_hosts.")
    page = request.headers.get("Origin")
    if page is not None:
        if not origins.lets_in(page, hosts[0]):
            told = f"Web pages of {page[:256]!r} may not ask this server; if they should, list them in"
            raise web.HTTPForbidden(text=f"{told} server.origins.")
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return web.Response(
                status=204,
                headers={
                    "Access-Control-Allow-Methods": METHODS,
                    "Access-Control-Allow-Headers": HEADERS,
                    "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
                },
            )
    return await handler(request)


async def _tell_browser(request: web.Request, response: web.StreamResponse) -> None:
    """Let a listed page read the answer, whatever it is; never with cookies, which this API does not have."""
    response.headers["Vary"] = "Origin"
    page = request.headers.get("Origin", "")
    if page in request.app[ORIGINS].pages:
        response.headers["Access-Control-Allow-Origin"] = page
        response.headers["Access-Control-Expose-Headers"] = EXPOSED


def is_loopback(host: str) -> bool:
    """Whether only this machine itself can reach what listens there."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        pass
    try:
        found: list[Any] = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(each[4][0].partition("%")[0]).is_loopback for each in found)


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _reached_at(transport: asyncio.BaseTransport | None) -> str:
    reached = transport.get_extra_info("sockname") if transport else None
    return _plain(reached[0]) if reached else ""


def _name(authority: str) -> str:
    """The name or address in a Host header, as all here are written; "" if it is none."""
    parts = _AUTHORITY.fullmatch(authority)
    return _plain(parts[1] or parts[2]) if parts else ""


def _plain(name: str) -> str:
    """In lower case, an address in its one short form, without the dot of a whole name."""
    name = name.strip("[]").partition("%")[0].lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name.removesuffix(".")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _page(origin: str) -> str:
    """An origin as browsers write it, or Invalid."""
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}" or "@" in origin:
        raise Invalid(
            f"server.origins: {origin!r} is not an origin such as https://example.org", field="server.origins"
        )
    return origin
