"""Listening: the socket, the deadline of every header, and an end that lets running requests finish."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from mlhost.config import Config
from mlhost.errors import Unavailable
from mlhost.host import Host
from mlhost.http.app import create_app
from mlhost.http.errors import answer
from mlhost.http.keys import TRAFFIC
from mlhost.http.origins import is_loopback
from mlhost.http.tls import Certificate

log = logging.getLogger(__name__)

BACKLOG = 1024  # connections the kernel holds until they are accepted
LAST_WORDS_SECONDS = 1.0  # that requests get to answer after their workers are gone
LINGERING_SECONDS = 10.0  # that the rest of a refused body is read, so that its sender gets to see the answer


@asynccontextmanager
async def serve(host: Host, certificate: Certificate | None = None) -> AsyncIterator[str]:
    """Answer requests inside the block; yields the server's URL.

    `certificate` is that of the settings, if the caller wants to keep hold of it; without, it is read here.

    On leaving: /readyz answers 503, the socket is closed, batches stop, requests that run get `server.drain_seconds`;
    whatever runs longer loses its worker and is told so.
    """
    config = host.config
    certificate = certificate or Certificate.of(config.server)
    if certificate is None and not is_loopback(config.server.host):
        log.warning("Listening on %s without TLS: passwords and tokens can be read on their way.", config.server.host)
    app = create_app(host)
    runner = web.AppRunner(
        app,
        access_log=None,  # `errors.middleware` writes ours
        keepalive_timeout=config.server.keepalive_seconds,
        shutdown_timeout=LAST_WORDS_SECONDS,
    )
    await runner.setup()
    try:
        listener = _listen(config)
        site = _Site(runner, listener, config, certificate)
        await site.start()
        yield site.name
        await site.stop()
        await host.batches.close()  # the next server goes on with them
        if not await app[TRAFFIC].drain(config.server.drain_seconds):
            await host.reserve.close()
    finally:
        await runner.cleanup()


class _Connection(web.RequestHandler):
    """A connection that must deliver its header in time: aiohttp itself waits for ever.

    On a kept connection the beginning of a next header may arrive in one piece with the request before; then it is
    `server.keepalive_seconds` that bounds the wait.
    """

    __slots__ = ("_header_seconds", "_header_timer")

    def __init__(self, server: web.Server, header_seconds: float, **options: Any) -> None:
        super().__init__(server, **options)
        self._header_seconds = header_seconds
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._expect_header()

    def data_received(self, data: bytes) -> None:
        seen = self._request_count
        super().data_received(data)
        if self._request_count != seen:
            self._forget_header()
        elif self._current_request is None and self._header_timer is None:
            self._expect_header()  # the first part of the next header on a kept connection

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what is not HTTP or failed outside every handler, in the one shape errors have."""
        if request.writer.output_size > 0:
            raise ConnectionError("An answer is under way already.")
        # Neither `message` nor `exc` of a request that cannot be read: they quote it, with whatever token it holds.
        if status >= 500:
            log.error("a request failed outside every handler", exc_info=exc)
        else:
            log.debug("a request cannot be read: %s", type(exc).__name__)
        response = answer(status, "The request is not HTTP as this server reads it.", "BadRequest")
        response.force_close()
        return response

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_header()
        super().connection_lost(exc)

    def _expect_header(self) -> None:
        self._header_timer = self._loop.call_later(self._header_seconds, self.force_close)

    def _forget_header(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


class _Site(web.BaseSite):
    """Accepts on a bound socket, with our kind of connection."""

    __slots__ = ("_config", "_socket")

    def __init__(
        self, runner: web.AppRunner, listener: socket.socket, config: Config, certificate: Certificate | None
    ) -> None:
        super().__init__(runner, backlog=BACKLOG, ssl_context=certificate.context if certificate else None)
        self._socket = listener
        self._config = config

    @property
    def name(self) -> str:
        """The address, as aiohttp's messages show it."""
        host = self._config.server.host
        scheme = "http" if self._ssl_context is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._socket.getsockname()[1]}"

    async def start(self) -> None:
        """Begin to accept."""
        await super().start()
        loop = asyncio.get_running_loop()
        server = self._runner.server
        assert server is not None

        def connect() -> _Connection:
            return _Connection(
                server,
                self._config.server.header_seconds,
                loop=loop,
                access_log=None,
                keepalive_timeout=self._config.server.keepalive_seconds,
                lingering_time=min(LINGERING_SECONDS, self._config.server.body_seconds),
            )

        in_time = self._config.server.header_seconds if self._ssl_context else None
        self._server = await loop.create_server(
            connect,
            sock=self._socket,
            backlog=self._backlog,
            ssl=self._ssl_context,
            ssl_handshake_timeout=in_time,
            ssl_shutdown_timeout=in_time,
        )


def _listen(config: Config) -> socket.socket:
    host, port = config.server.host, config.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as fault:
        hint = "; another server runs there: choose another --port, or 0 for any that is free"
        taken = fault.errno == errno.EADDRINUSE
        raise Unavailable(f"Cannot listen on {host} port {port}: {fault.strerror}{hint if taken else ''}.") from fault
