"""Consuming a service: the HTTP side of the hot path (contract section 1.3).

A plain call of somebody known goes from its connection to the worker and back (`Calls`); any other takes the way of all
requests (`consume`), which also tells what is wrong with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from time import perf_counter
from typing import Any, Protocol
from uuid import uuid4

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

from mlhost.auth.principal import Principal
from mlhost.errors import Busy, NotFound, Unavailable
from mlhost.executors import parcels
from mlhost.http import errors, guard
from mlhost.http.exchange import json_pieces, whole
from mlhost.http.heads import Head
from mlhost.http.keys import HOST, TRAFFIC
from mlhost.http.origins import ORIGINS
from mlhost.http.routes import Routes
from mlhost.http.trail import SCORING
from mlhost.openapi.operations import Bytes, Operation
from mlhost.runtime.parcels import SMALL_BYTES, Parcel
from mlhost.scoring import OnAnswer, Ready, begin, score

log = logging.getLogger(__name__)

routes = Routes("Service Consumption APIs")

ANSWERED = (*SCORING, 200)
ANSWER = "HTTP/1.1 %d %s\r\n%sContent-Length: %d\r\nDate: %s\r\n\r\n"
SERVER = f"Server: {SERVER_SOFTWARE}\r\n"
JSON = f"Content-Type: application/json\r\n{SERVER}"


# Each service's own document tells what this takes and gives; here is what any of them may refuse.
@routes.post(
    "/api/{name}/{version}",
    tells=Operation("consume", takes=Bytes("application/json"), refuses=(NotFound, Busy, Unavailable)),
)
async def consume(request: web.Request) -> web.StreamResponse:
    """One call of a published version."""
    match, services = request.match_info, request.app[HOST].services
    services.called(match["name"], match["version"])  # what nobody could answer is not waited for
    async with whole(request) as inputs:
        # Only now: the version may have been patched while the body was on its way.
        answer = await score(services.called(match["name"], match["version"]), inputs)
    return await json_pieces(request, answer)


class Client(Protocol):
    """Who is answered."""

    async def send(self, piece: bytes) -> None:
        """Take a piece of an answer before its end; ConnectionError if the client went away."""

    def on_answer(self, response: bytes, is_kept: bool) -> None:
        """Take the whole answer, head and all, or what is left of it; `is_kept` says whether the connection is."""


class Calls:
    """Plain calls of an application's services, answered without its general machinery."""

    def __init__(self, app: web.Application) -> None:
        host = app[HOST]
        self._services = host.services
        self._tokens = host.tokens
        self._origins = app[ORIGINS]
        self._traffic = app[TRAFFIC]
        self._answers = host.metrics.answers
        self._most = host.config.server.max_body_bytes
        self._tasks: set[asyncio.Task[None]] = set()
        self._varies = "Vary: Origin\r\n" if self._origins.pages else ""

    def accept(self, head: Head, transport: asyncio.BaseTransport) -> tuple[Ready, Principal] | None:
        """What is called, and by whom; None if there is anything to be asked or refused."""
        if head.call is None or head.has_origin or head.body_bytes > self._most or self._traffic.draining:
            return None
        who = self._tokens.remembered(head.token)
        if who is None or not guard.may_score(who, *head.call) or not self._origins.answers_to(head.host, transport):
            return None
        try:
            return self._services.ready(*head.call), who
        except NotFound:
            return None

    def begin(self, ready: Ready, who: Principal, inputs: bytes, client: Client) -> None:
        """One call; `client` gets the answer."""
        on_scored = partial(self._on_scored, who, perf_counter(), client)
        self._traffic.begin()
        if ready.together is None:
            begin(ready, inputs, on_scored)
        else:
            self._spawn(_awaited(ready, inputs, on_scored))

    def _on_scored(self, who: Principal, started: float, client: Client, came: bytes | Parcel | Exception) -> None:
        try:
            if isinstance(came, Exception):
                response = self._failed(came, who, started)
            else:
                self._count(who, started)
                if not isinstance(came, bytes) or len(came) > SMALL_BYTES:
                    self._traffic.begin()  # until it is sent
                    self._spawn(self._send(came, client))
                    return
                response = self._head(200, "OK", JSON, len(came)) + came
            client.on_answer(response, not self._traffic.draining)
        finally:
            self._traffic.end()

    def _count(self, who: Principal, started: float) -> None:
        self._answers[ANSWERED] += 1
        if errors.is_logged(200, is_frequent=True):
            errors.log_request(*SCORING, 200, perf_counter() - started, who, uuid4().hex)

    async def _send(self, content: bytes | Parcel, client: Client) -> None:
        try:
            is_sent = await self._send_pieces(content, client)
            client.on_answer(b"", is_sent and not self._traffic.draining)
        finally:
            self._traffic.end()

    async def _send_pieces(self, content: bytes | Parcel, client: Client) -> bool:
        """Send a large answer a piece at a time; whether it has been sent whole."""
        try:
            with parcels.held(content) as size:
                await client.send(self._head(200, "OK", JSON, size))
                async for piece in parcels.pieces(content):
                    await client.send(piece)
        except ConnectionError:  # the client went away
            return False
        except Exception:  # too late for another answer
            log.exception("an answer broke off")
            return False
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _failed(self, fault: Exception, who: Principal, started: float) -> bytes:
        request_id = uuid4().hex
        told = errors.told(fault, lambda: request_id)
        self._answers[(*SCORING, told.status)] += 1
        errors.log_request(*SCORING, told.status, perf_counter() - started, who, request_id)
        assert isinstance(told.body, bytes)
        fields = SERVER + "".join(f"{name}: {value}\r\n" for name, value in told.headers.items())
        return self._head(told.status, told.reason, fields, len(told.body)) + told.body

    def _head(self, status: int, reason: str, fields: str, length: int) -> bytes:
        closing = "Connection: close\r\n" if self._traffic.draining else ""
        head = ANSWER % (status, reason, f"{fields}{self._varies}{closing}", length, rfc822_formatted_time())
        return head.encode()


async def _awaited(ready: Ready, inputs: bytes, on_scored: OnAnswer) -> None:
    came: bytes | Parcel | Exception
    try:
        came = await score(ready, inputs)
    except Exception as fault:
        came = fault
    on_scored(came)
