"""Runs steps on an event loop, over aiohttp."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp

from mlhost.client.steps import Alone, Answer, Pause, Request, Steps, driven
from mlhost.client.transport import CONNECT_SECONDS, PIECE_BYTES, REFUSED, Transport, silent

if TYPE_CHECKING:
    import ssl

Result = TypeVar("Result")


class AwaitingWire:
    """The connections of one client, opened on the loop it is first used on; see `BlockingWire` for the rest."""

    def __init__(self, transport: Transport, tls: ssl.SSLContext | None, timeout_seconds: float | None) -> None:
        self.transport = transport
        self._tls = tls
        self._timeout_seconds = timeout_seconds
        self._alone = asyncio.Lock()
        self._http: aiohttp.ClientSession | None = None

    async def run(self, steps: Steps[Result]) -> Result:
        """The result of the steps; see `driven`."""
        return await driven(steps, self._take)

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()

    async def _take(self, step: Request | Pause | Alone) -> Any:
        if isinstance(step, Request):
            return await self._send(step)
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        async with self._alone:
            return await self.run(step.steps)

    async def _send(self, request: Request) -> Answer:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(None, sock_connect=CONNECT_SECONDS, sock_read=self._timeout_seconds)
            self._http = aiohttp.ClientSession(
                timeout=timeout,
                connector=aiohttp.TCPConnector(ssl=self._tls or True),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        from yarl import URL

        url = URL(self.transport.url + request.path, encoded=True)
        try:
            async with self._http.request(
                request.method, url, data=request.body, headers=request.headers, allow_redirects=False
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                if request.into is None or response.status >= REFUSED:
                    return Answer(response.status, headers, await response.read())
                async for piece in response.content.iter_chunked(PIECE_BYTES):
                    request.into.put(piece, response.content_length or 0)
                return Answer(response.status, headers, b"")
        except (OSError, aiohttp.ClientError) as fault:
            raise silent(self.transport.url, fault) from fault
