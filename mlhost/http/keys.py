"""What travels with the application and with a request."""

from __future__ import annotations

import asyncio

from aiohttp import web

from mlhost.auth.principal import Principal
from mlhost.auth.tokens import TokenPair
from mlhost.host import Host


class Traffic:
    """How many requests run, and whether the server is stopping."""

    def __init__(self) -> None:
        self.running = 0
        self.draining = False
        self._idle = asyncio.Event()

    def begin(self) -> None:
        """A request begins."""
        self.running += 1

    def end(self) -> None:
        """A request is answered."""
        self.running -= 1
        if self.draining and not self.running:
            self._idle.set()

    async def drain(self, seconds: float) -> bool:
        """Wait until no request runs, at most so long; whether that was enough."""
        self.draining = True
        if not self.running:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


HOST: web.AppKey[Host] = web.AppKey("host", Host)
TRAFFIC: web.AppKey[Traffic] = web.AppKey("traffic", Traffic)
WHO: web.RequestKey[Principal] = web.RequestKey("who", Principal)
CLAIMED: web.RequestKey[str] = web.RequestKey("claimed", str)  # the name somebody signs in with, true or not
RENEWED: web.RequestKey[TokenPair] = web.RequestKey("renewed", TokenPair)  # for a browser to keep
WORD: web.RequestKey[str] = web.RequestKey("word", str)  # that the pages of a browser's login know
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
