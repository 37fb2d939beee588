"""Consuming a service: the HTTP side of the hot path (contract section 1.3).

A plain call of somebody known goes from its connection to the worker and back (`Calls`); any other takes the way of all
requests (`consume`), which also tells what is wrong with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import perf_counter
from uuid import uuid4

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

from mlhost.auth.principal import Principal
from mlhost.errors import Busy, NotFound, Unavailable
from mlhost.http import errors, guard
from mlhost.http.exchange import json_bytes, whole
from mlhost.http.heads import Head
from mlhost.http.keys import HOST, TRAFFIC
from mlhost.http.origins import ORIGINS
from mlhost.http.routes import Routes
from mlhost.http.trail import SCORING
from mlhost.openapi.operations import Bytes, Operation
from mlhost.scoring import Ready, begin, score

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
async def consume(request: web.Request) -> web.Response:
    """One call of a published version."""
    match, services = request.match_info, request.app[HOST].services
    services.called(match["name"], match["version"])  # what nobody could answer is not waited for
    async with whole(request) as inputs:
        # Only now: the version may have been patched while the body was on its way.
        return json_bytes(await score(services.called(match["name"], match["version"]), inputs))


OnAnswer = Callable[[bytes, bool], None]


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

    def begin(self, ready: Ready, who: Principal, inputs: bytes, on_answer: OnAnswer) -> None:
        """One call; `on_answer` is told the whole answer, head and all, and whether the connection is kept."""
        on_scored = partial(self._on_scored, who, perf_counter(), on_answer)
        self._traffic.begin()
        if ready.together is None:
            begin(ready, inputs, on_scored)
        else:
            task = asyncio.get_running_loop().create_task(_awaited(ready, inputs, on_scored))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _on_scored(self, who: Principal, started: float, on_answer: OnAnswer, came: bytes | Exception) -> None:
        try:
            on_answer(self._told(came, who, started), not self._traffic.draining)
        finally:
            self._traffic.end()

    def _told(self, came: bytes | Exception, who: Principal, started: float) -> bytes:
        if isinstance(came, Exception):
            return self._failed(came, who, started)
        self._answers[ANSWERED] += 1
        if errors.is_logged(200, is_frequent=True):
            errors.log_request(*SCORING, 200, perf_counter() - started, who, uuid4().hex)
        return self._head(200, "OK", JSON, len(came)) + came

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


async def _awaited(ready: Ready, inputs: bytes, on_scored: Callable[[bytes | Exception], None]) -> None:
    came: bytes | Exception
    try:
        came = await score(ready, inputs)
    except Exception as fault:
        came = fault
    on_scored(came)
