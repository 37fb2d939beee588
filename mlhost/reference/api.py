"""The reference of the HTTP API: every route with who may call it, what it does and how it refuses."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from aiohttp import web

from mlhost.http.app import TABLES
from mlhost.http.documents import ABOUT
from mlhost.http.guard import PERMISSIONS
from mlhost.http.routes import Routes, canonical
from mlhost.openapi.operations import phrase
from mlhost.reference.tables import code, table

INTRODUCTION = """\
# HTTP API

<!-- Written by scripts/reference; change the routes in mlhost/http instead. -->

All but what anyone may call asks for the header `Authorization: Bearer <access_token>` of somebody with the role named
here, or a higher one: Reader, Contributor, Owner. Bodies, answers and parameters are told by `GET /openapi.json`
(OpenAPI 3.1) and `GET /swagger.json` (Swagger 2.0), and for each service by `GET /api/{name}/{version}/swagger.json`.
The pages of the console are not listed.

Refusals are one JSON object with a `message` that says what to do; their statuses are listed here. Where none are, the
route answers with a page or refuses as its standard has it (OAuth 2: RFC 6749, 7009, 7662, 8414, 8628).
"""
TITLES = ("request", "what it does", "who", "refusals")


def page() -> str:
    """All routes, a tag a table, and what the statuses mean."""
    tags = dict.fromkeys(routes.tag for routes in TABLES)
    return "\n".join([INTRODUCTION, *(_section(tag) for tag in tags), _statuses()])


def _section(tag: str) -> str:
    rows = [row for routes in TABLES if routes.tag == tag for row in _rows(routes)]
    about = f"{ABOUT.tags[tag]}\n\n" if tag in ABOUT.tags else ""
    return f"## {tag}\n\n{about}{table(TITLES, rows)}"


def _rows(routes: Routes) -> Iterator[tuple[str, ...]]:
    told = {(route.method, route.path): route for route in routes.told}
    for definition in routes:
        assert isinstance(definition, web.RouteDef)
        key = definition.method, canonical(definition.path)
        route, role = told.get(key), PERMISSIONS[key].value
        summary = route.summary if route else inspect.getdoc(definition.handler) or ""
        refusals = ", ".join(map(str, route.errors)) if route else ""
        yield code(" ".join(key)), summary, "anyone" if role is None else role.title, refusals


def _statuses() -> str:
    statuses = sorted({status for routes in TABLES for route in routes.told for status in route.errors})
    return "## Statuses of refusals\n\n" + "".join(f"- {status}: {phrase(status)}\n" for status in statuses)
