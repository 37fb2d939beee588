"""A running server as a command sees it: asked over HTTP, signed in for as long as the command runs, or for longer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import aiohttp
import click

from mlhost.auth.principal import Role
from mlhost.auth.roles import Standing
from mlhost.auth.users import User, role_of, title_of
from mlhost.errors import (
    Busy,
    CodeFailed,
    Forbidden,
    MlhostError,
    Throttled,
    Unauthenticated,
    Unavailable,
    WorkerLost,
)
from mlhost.places import DEFAULT_URL

Command = TypeVar("Command", bound=Callable[..., Any])


# Exit codes of commands; `mlhost.cli.exits` says what they mean.
REFUSED, FAILED, NOT_ALLOWED, NO_ANSWER, INTERRUPTED = 1, 3, 4, 5, 130
EXITS: dict[type[MlhostError], int] = {
    CodeFailed: FAILED,
    WorkerLost: FAILED,
    Unauthenticated: NOT_ALLOWED,
    Forbidden: NOT_ALLOWED,
    Unavailable: NO_ANSWER,
    Busy: NO_ANSWER,
    Throttled: NO_ANSWER,
}


class Refused(click.ClickException):
    """What ends a command: one line on stderr, and an exit code."""

    def __init__(self, message: str, exit_code: int = REFUSED) -> None:
        super().__init__(" ".join(message.splitlines()))
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it of the instance


class Remote:
    """A server, as one of its users sees it."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self.token = ""  # the access token of the login

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to a request as plain data; Refused with the server's words if it refuses."""
        async with self._http.request(method, path, json=body) as response:
            answer = await response.json(content_type=None)
            if response.status >= 400:
                words = answer["message"] if isinstance(answer, dict) else response.reason or ""
                raise Refused(words, NOT_ALLOWED if response.status in (401, 403) else REFUSED)
            return answer


@asynccontextmanager
async def signed_in(url: str, user: str, password: str) -> AsyncIterator[Remote]:
    """A server that one is signed in to, and out of at the end."""
    try:
        async with aiohttp.ClientSession(url) as http:
            remote = Remote(http)
            pair = await remote.ask("POST", "/login", {"username": user, "password": password})
            remote.token = pair["access_token"]
            http.headers["Authorization"] = f"Bearer {remote.token}"
            try:
                yield remote
            finally:
                async with http.delete("/login/refreshToken", params={"refreshToken": pair["refresh_token"]}):
                    pass
    except (aiohttp.ClientError, ValueError) as fault:
        raise Refused(f"{url} does not answer as mlhost does: {fault}", NO_ANSWER) from fault


class Register(Protocol):
    """What can be done about users, in the store of a server that is stopped or through one that runs."""

    async def add(self, name: str, password: str, role: Role | None) -> None: ...  # noqa: D102

    async def list(self) -> Sequence[User]: ...  # noqa: D102

    async def set_password(self, name: str, password: str) -> None: ...  # noqa: D102

    async def set_role(self, name: str, role: Role | None) -> None: ...  # noqa: D102

    async def set_groups(self, name: str, groups: Collection[str]) -> None: ...  # noqa: D102

    async def revoke(self, name: str) -> None: ...  # noqa: D102


class RemoteUsers:
    """The users of a running server; an Owner asks."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def add(self, name: str, password: str, role: Role | None) -> None:
        """Create a user."""
        await self._remote.ask("POST", "/users", {"name": name, "password": password, "role": title_of(role)})

    async def list(self) -> Sequence[User]:
        """All users by name."""
        return [_user(told) for told in await self._remote.ask("GET", "/users")]

    async def set_password(self, name: str, password: str) -> None:
        """Change a password."""
        await self._change(name, password=password)

    async def set_role(self, name: str, role: Role | None) -> None:
        """Change a role."""
        await self._change(name, role=title_of(role))

    async def set_groups(self, name: str, groups: Collection[str]) -> None:
        """Change the groups of a user."""
        await self._change(name, groups=[*groups])

    async def revoke(self, name: str) -> None:
        """End every token a user has."""
        await self._remote.ask("DELETE", f"/users/{quote(name, safe='')}/tokens")

    async def _change(self, name: str, **fields: Any) -> None:
        await self._remote.ask("PATCH", f"/users/{quote(name, safe='')}", fields)


def _user(told: dict[str, Any]) -> User:
    created_at = datetime.fromisoformat(told["creationTime"]).replace(tzinfo=UTC).timestamp()
    standing = Standing(Role.of(told["effectiveRole"]), told["because"])
    return User(told["name"], role_of(told["role"]), tuple(told["groups"]), created_at, standing)


def login_options(command: Command) -> Command:
    """Where the server is, and who asks."""
    command = click.option(
        "--password", envvar="MLHOST_PASSWORD", prompt=True, hide_input=True, help="Asked for if not given."
    )(command)
    command = click.option("--user", envvar="MLHOST_USER", default="admin", show_default=True, help="Sign in as.")(
        command
    )
    return click.option(
        "--url", envvar="MLHOST_URL", default=DEFAULT_URL, show_default=True, help="Address of the server."
    )(command)


@contextmanager
def errors_in_words() -> Iterator[None]:
    """Have the command say what went wrong, and end with the status that says of which kind it is."""
    try:
        yield
    except MlhostError as fault:
        raise Refused(fault.message, EXITS.get(type(fault), REFUSED)) from fault
