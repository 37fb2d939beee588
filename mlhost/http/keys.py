"""What travels with the application and with a request."""

from __future__ import annotations

from aiohttp import web

from mlhost.auth.principal import Principal
from mlhost.host import Host

HOST: web.AppKey[Host] = web.AppKey("host", Host)
DRAINING: web.AppKey[list[bool]] = web.AppKey("draining", list)  # holds an entry once the server is stopping
WHO: web.RequestKey[Principal] = web.RequestKey("who", Principal)
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
