"""Runs steps on the spot, over the standard library's HTTP; any number of threads may share a client."""

from __future__ import annotations

import http.client
import selectors
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from mlhost.client.steps import Alone, Answer, Pause, Request, Sink, Steps, at_once, driven
from mlhost.client.transport import CONNECT_SECONDS, PIECE_BYTES, REFUSED, Transport, silent

if TYPE_CHECKING:
    import ssl

Result = TypeVar("Result")


class BlockingWire:
    """The connections of one client, one a thread.

    `timeout_seconds` is the longest silence of the server that is borne; None, the default of `connect`, is any: code
    may run for an hour.
    """

    def __init__(self, transport: Transport, tls: ssl.SSLContext | None, timeout_seconds: float | None) -> None:
        self.transport = transport
        self._tls = tls
        self._timeout_seconds = timeout_seconds
        self._alone = threading.RLock()
        self._own = threading.local()
        self._opened: list[http.client.HTTPConnection] = []

    def run(self, steps: Steps[Result]) -> Result:
        """The result of the steps; see `driven`."""
        return at_once(driven(steps, self._take))

    def close(self) -> None:
        """Close the connections."""
        while self._opened:
            self._opened.pop().close()

    async def _take(self, step: Request | Pause | Alone) -> Any:
        if isinstance(step, Request):
            return self._send(step)
        if isinstance(step, Pause):
            return time.sleep(step.seconds)  # noqa: ASYNC251 - all of this client blocks
        with self._alone:
            return await driven(step.steps, self._take)

    def _send(self, request: Request) -> Answer:
        connection = self._own_connection()
        try:
            self._connect(connection)
            connection.request(request.method, request.path, request.body, dict(request.headers))
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            if request.into is None or response.status >= REFUSED:
                return Answer(response.status, headers, response.read())
            _pour(response, request.into)
            return Answer(response.status, headers, b"")
        except BaseException as fault:
            connection.close()  # an answer that was not read would be taken for the next one's
            if isinstance(fault, OSError | http.client.HTTPException):
                raise silent(self.transport.url, fault) from fault
            raise

    def _own_connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._new()
            self._opened.append(connection)
        return connection

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        socket = connection.sock
        if socket is not None and _has_something_to_say(socket):
            connection.close()  # the server has closed it meanwhile
            socket = None
        if socket is None:
            connection.timeout = CONNECT_SECONDS
            connection.connect()
            connection.sock.settimeout(self._timeout_seconds)

    def _new(self) -> http.client.HTTPConnection:
        at = urlsplit(self.transport.url)
        if at.scheme == "https":
            return http.client.HTTPSConnection(at.netloc, context=self._tls)
        return http.client.HTTPConnection(at.netloc)


def _pour(response: http.client.HTTPResponse, into: Sink) -> None:
    """The body into its sink; IncompleteRead if it ends before its time, which reads of a piece do not say."""
    total = response.length or 0
    while piece := response.read(PIECE_BYTES):
        into.put(piece, total)
    if into.done < total:
        raise http.client.IncompleteRead(b"", total - into.done)


def _has_something_to_say(socket: Any) -> bool:
    """Whether there is something to read, which between two requests is the end of the connection."""
    with selectors.DefaultSelector() as selector:  # select(2) knows no descriptors beyond 1023
        selector.register(socket, selectors.EVENT_READ)
        return bool(selector.select(0))
