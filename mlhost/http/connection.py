"""A connection: aiohttp's, but for headers that do not arrive in time and for plain calls of services."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from aiohttp import web

from mlhost.auth.principal import Principal
from mlhost.http import heads
from mlhost.http.errors import answer
from mlhost.http.heads import Head
from mlhost.http.scoring import Calls
from mlhost.scoring import Ready

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 0.1  # with a body that does not come along with its head
MAX_MISSING_BYTES = 1 << 16  # of it

Called = tuple[Ready, Principal]


class Connection(web.RequestHandler):
    """A connection on which plain calls are answered by `calls`, and everything else as aiohttp does.

    A plain call is a whole request that arrives by itself while nothing else is under way. aiohttp's parser sees none
    of it, so there must be nothing in that parser either: only plain requests may have gone to it, to their last byte,
    and what comes after anything else on the same connection goes to it as well. Two answers never overtake each other:
    what arrives during a call waits.

    aiohttp itself waits for a header for ever; here it must arrive in time. On a kept connection the beginning of a
    next header may arrive in one piece with the request before; then it is `server.keepalive_seconds` that bounds the
    wait.
    """

    __slots__ = (
        "_begun",
        "_calls",
        "_head",
        "_header_seconds",
        "_header_timer",
        "_held",
        "_is_calling",
        "_is_plain",
        "_owed",
        "_patience",
        "_read",
        "_sending",
    )

    def __init__(self, server: web.Server, calls: Calls, header_seconds: float, **options: Any) -> None:
        super().__init__(server, **options)
        self._calls = calls
        self._header_seconds = header_seconds
        self._header_timer: asyncio.TimerHandle | None = None
        self._is_plain = True  # nothing but plain requests has come so far
        self._head = b""  # the last one, and what was read in it: clients repeat themselves
        self._read: Head | None = None
        self._is_calling = False  # a plain call is under way
        self._sending: asyncio.Task[None] | None = None  # its answer, to a client that does not read it
        self._held = b""  # what arrived meanwhile
        self._begun = b""  # a plain call whose body is still to come: many clients send it on its own
        self._owed = 0  # bytes of a plain request's body that aiohttp waits for
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first header."""
        super().connection_made(transport)
        self._expect_header()

    def data_received(self, data: bytes) -> None:
        """Answer a plain call, or pass on to aiohttp what came."""
        if self._is_calling:
            self._hold(data)
            return
        if not data:  # aiohttp goes on with what it has
            super().data_received(data)
            return
        if self._begun:
            data, self._begun = self._begun + data, b""
        size = self._plain_size(data) if self._is_plain and not self._owed else 0
        missing = size + self._read.body_bytes - len(data) if size and self._read else self._owed - len(data)
        if size and 0 <= missing <= MAX_MISSING_BYTES and (called := self._called()):
            if missing:
                self._begin(data)
                return
            self._forget_header()
            self._stop_waiting()
            self._is_calling = self._request_in_progress = True  # `shutdown` waits for the end
            self._calls.begin(*called, data[size:], self)
            return
        self._stop_waiting()
        self._is_plain = self._is_plain and missing >= 0
        self._owed = max(missing, 0)
        self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
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
        """Wait for nothing any more."""
        self._forget_header()
        self._stop_waiting()
        self._begun = self._held = b""
        super().connection_lost(exc)

    # --- plain calls -----------------------------------------------------------------------------------------------

    def _plain_size(self, data: bytes) -> int:
        """Bytes of the head with which the data begin, if it is a plain one; else 0."""
        end = data.find(heads.END, 0, heads.MAX_HEAD_BYTES)
        if end < 0:
            return 0
        head = data[:end]
        if head != self._head:
            self._head, self._read = head, heads.read(head)
        return 0 if self._read is None else end + len(heads.END)

    def _called(self) -> Called | None:
        """What the request calls, if it can be answered at once."""
        # Before anything was passed on, aiohttp's own task may not even have begun to wait.
        is_waiting = self._request_count == 0 if self._waiter is None else not self._waiter.done()
        if (
            not is_waiting
            or self._messages
            or self._close
            or self._force_close
            or self.transport is None
            or self._read is None
        ):
            return None
        return self._calls.accept(self._read, self.transport)

    def on_answer(self, response: bytes, is_kept: bool) -> None:
        """Send the answer to the call, and go on; not before the client reads, if it does not."""
        try:
            if self.transport is not None:  # else the client went away
                self.transport.write(response)
        except BaseException:
            self._end_call(is_kept=False)
            raise
        if self.writing_paused:
            self._sending = self._loop.create_task(self._end_when_sent(is_kept))
        else:
            self._end_call(is_kept)

    async def _end_when_sent(self, is_kept: bool) -> None:
        with suppress(ConnectionError):
            await self._drain_helper()  # who does not read does not get more to read either
        self._sending = None
        self._end_call(is_kept)

    def _end_call(self, is_kept: bool) -> None:
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if not is_kept:
            self.force_close()
        self._next_keepalive_close_time = self._loop.time() + self.keepalive_timeout
        if self._held:
            # Not at once: who asks for a thousand things may be refused all of them.
            self._loop.call_soon(self._release)
        else:
            self._is_calling = False

    async def send(self, piece: bytes) -> None:
        """Send a piece of an answer before its end; ConnectionError if the client went away."""
        if self.transport is None:
            raise ConnectionResetError("The client went away.")
        self.transport.write(piece)
        await self._drain_helper()

    def _begin(self, data: bytes) -> None:
        """Wait a moment for the body, from its first piece on; for a slower one aiohttp waits, and ends that wait."""
        self._begun = data
        self._forget_header()
        if self._patience is None:
            self._patience = self._loop.call_later(PATIENCE_SECONDS, self._lose_patience)

    def _lose_patience(self) -> None:
        self._patience = None
        begun, self._begun = self._begun, b""
        assert self._read is not None
        self._owed = begun.find(heads.END) + len(heads.END) + self._read.body_bytes - len(begun)
        self._pass_on(begun)

    def _stop_waiting(self) -> None:
        """There is no body to wait for any more."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _hold(self, data: bytes) -> None:
        """Keep what came too early, and take no more of it."""
        self._held += data
        self._pause_transport_reading()

    def _release(self) -> None:
        held, self._held, self._is_calling = self._held, b"", False
        if self.transport is not None:
            self._resume_transport_reading()
            self.data_received(held)

    def _process_keepalive(self) -> None:
        """A connection is not idle during a plain call, which aiohttp does not know of."""
        if self._is_calling:
            self._next_keepalive_close_time = self._loop.time() + self.keepalive_timeout
        super()._process_keepalive()

    # --- the deadline of a header ----------------------------------------------------------------------------------

    def _expect_header(self) -> None:
        self._header_timer = self._loop.call_later(self._header_seconds, self.force_close)

    def _forget_header(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
