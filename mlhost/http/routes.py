"""Tables of routes that carry the description of their operations, and what the descriptions leave to be derived."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from aiohttp import HttpVersion11, web

from mlhost.http.errors import STATUS
from mlhost.http.guard import ANYONE, PERMISSIONS
from mlhost.openapi.operations import Operation, Route

Handled = TypeVar("Handled", bound=Callable[..., Any])

# What may always happen: a fault of ours; behind the door, no token or no role, and the store that tokens are in fails;
# where a body is read, one that is malformed, too slow or too large.
ALWAYS = (500,)
BEHIND_THE_DOOR = (401, 403, 503)
WITH_A_BODY = (400, 408, 413)

SEGMENT = re.compile(r"\{(\w+)\}")  # of a path: aiohttp would take no braces in one, and know no such address


class Routes(web.RouteTableDef):
    """The routes of one noun: `@routes.get(path, tells=Operation(...))`; a route without is told in no document."""

    def __init__(self, tag: str = "") -> None:
        super().__init__()
        self.tag = tag
        self.told: list[Route] = []

    def route(
        self, method: str, path: str, *, tells: Operation | None = None, **options: Any
    ) -> Callable[[Handled], Handled]:
        """Like aiohttp's, with a description; the handler's docstring is its summary, unless it brings one. No HEAD."""
        if method == "GET":
            options.setdefault("allow_head", False)
        options.setdefault("expect_handler", _expected)
        add = super().route(method, SEGMENT.sub(r"{\1:[^/]+}", path), **options)

        def decorate(handler: Handled) -> Handled:
            if tells is not None:
                self.told.append(self._told(method, path, tells, tells.summary or handler.__doc__ or ""))
            add(handler)
            return handler

        return decorate

    def _told(self, method: str, path: str, operation: Operation, summary: str) -> Route:
        path = canonical(path)
        is_open = PERMISSIONS[method, path] is ANYONE
        return Route(
            method, path, self.tag, summary, operation, tuple(_errors(operation, is_open=is_open)), not is_open
        )


def canonical(path: str) -> str:
    """A path as the table of permissions spells it: no pattern beside a parameter's name."""
    return re.sub(r":[^}]*", "", path)


async def _expected(request: web.Request) -> None:
    """Ask for the body that a client holds back; other expectations are passed over (RFC 9110 §10.1.1 lets us).

    aiohttp's own answers those 417, before any middleware can give the answer the shape that errors have.
    """
    if request.version == HttpVersion11 and request.headers["Expect"].lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # nothing of the answer is sent yet


def _errors(operation: Operation, *, is_open: bool) -> Iterable[int]:
    """The statuses of all refusals, sorted."""
    statuses = {*ALWAYS, *(STATUS[kind] for kind in operation.refuses)}
    if not is_open:
        statuses |= {*BEHIND_THE_DOOR}
    if operation.takes is not None:
        statuses |= {*WITH_A_BODY}
    return sorted(statuses - operation.gives.keys())
