"""Why the door lets somebody through or not: the rules of `guard` and of the things behind it, in words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlhost.auth.roles import Standing
from mlhost.errors import NotFound
from mlhost.http.guard import PERMISSIONS

# What the thing itself asks once a role has opened the door, by the method and the beginning of a route.
FURTHER = (
    ("PATCH", "/services/", "Only the publisher of a version, and Owners, may change it."),
    ("DELETE", "/services/", "Only the publisher of a version, and Owners, may delete it or its pool."),
    ("POST", "/services/{name}/{version}/pool", "Only the publisher of a version, and Owners, may size its pool."),
    ("PATCH", "/realtime-services/", "Only the publisher of a version, and Owners, may change it."),
    ("GET", "/services", "Only its publisher, and Owners, see a version's code."),
    ("", "/sessions/{id}", "A session is there for its own user only; for anybody else it does not exist."),
    ("", "/snapshots/{id}", "A snapshot is there for its own user only; for anybody else it does not exist."),
    ("", "/api/{name}/{version}/batch", "A batch is there for who started it, and for Owners."),
    ("", "/tokens", "A personal access token does not open this; it asks for the token of a login."),
    ("", "/users", "A personal access token does not open this; it asks for the token of a login."),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether somebody may, and why."""

    may: bool
    lines: tuple[str, ...]


def explain(name: str, standing: Standing, method: str, path: str) -> Verdict:
    """What the door says to a user who asks so; NotFound if there is no such route."""
    method, route = method.upper(), _route(method.upper(), path)
    needed = PERMISSIONS[method, route].value
    may = needed is None or standing.role >= needed
    rule = "anybody, signed in or not" if needed is None else f"the role {needed.title} or a higher one"
    lines = [
        f"{name} is {standing.role.title}: {standing.because}.",
        f"{method} {path} is the route {method} {route}, which is for {rule}.",
        f"So {name} {'may' if may else 'may not'}.",
    ]
    if may:
        lines += [said for which, begins, said in FURTHER if which in ("", method) and route.startswith(begins)]
        lines += ["A personal access token may do no more than its scope says."] if needed is not None else []
    return Verdict(may, tuple(lines))


def _route(method: str, path: str) -> str:
    """The route that a path takes; one without variables goes before one with them."""
    plain = path.partition("?")[0]
    found = [route for known, route in PERMISSIONS if known == method and _pattern(route).fullmatch(plain)]
    if not found:
        others = sorted({known for known, route in PERMISSIONS if _pattern(route).fullmatch(plain)})
        hint = f"that address knows {', '.join(others)}" if others else "no method leads there"
        raise NotFound(f"There is no route {method} {plain}; {hint}.")
    return min(found, key=lambda route: route.count("{"))


def _pattern(route: str) -> re.Pattern[str]:
    """What the router makes of a route; a refresh token may have slashes in it."""
    escaped = re.escape(route).replace(r"\{refreshToken\}", "(?s:.+)")
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", escaped))
