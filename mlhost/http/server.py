"""Listening: the socket, the deadline of every header, and an end that lets running requests finish."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from mlhost.config import Config
from mlhost.errors import Unavailable
from mlhost.host import Host
from mlhost.http.app import create_app
from mlhost.http.connection import Connection
from mlhost.http.heads import MAX_HEAD_BYTES
from mlhost.http.keys import TRAFFIC
from mlhost.http.origins import is_loopback
from mlhost.http.scoring import Calls
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
        site = _Site(runner, app, listener, config, certificate)
        await site.start()
        yield site.name
        await site.stop()
        await host.batches.close()  # the next server goes on with them
        if not await app[TRAFFIC].drain(config.server.drain_seconds):
            await host.reserve.close()
    finally:
        await runner.cleanup()


class _Site(web.BaseSite):
    """Accepts on a bound socket, with our kind of connection."""

    __slots__ = ("_app", "_config", "_socket")

    def __init__(
        self,
        runner: web.AppRunner,
        app: web.Application,
        listener: socket.socket,
        config: Config,
        certificate: Certificate | None,
    ) -> None:
        super().__init__(runner, backlog=BACKLOG, ssl_context=certificate.context if certificate else None)
        self._app = app
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
        calls = Calls(self._app)

        def connect() -> Connection:
            return Connection(
                server,
                calls,
                self._config.server.header_seconds,
                loop=loop,
                access_log=None,
                max_field_size=MAX_HEAD_BYTES,
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
