"""`mlhost token`: personal access tokens."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from mlhost.cli.tables import json_option, tell
from mlhost.http.personal import DEFAULT_DAYS
from mlhost.remote import login_options, signed_in


@click.group()
def token() -> None:
    """Personal access tokens, for scripts and CI, on a running server."""


@token.command("create")
@click.argument("name")
@click.option("--scope", required=True, help="all, publish, consume:NAME or consume:NAME/VERSION.")
@click.option("--days", default=DEFAULT_DAYS, show_default=True, help="Days it is good for, 366 at most.")
@login_options
def create(name: str, scope: str, days: int, url: str, user: str, password: str) -> None:
    """Make a token and print it; it is not shown again."""
    wanted = {"name": name, "scope": scope, "expiresInDays": days}
    click.echo(_ask(url, user, password, "POST", "/tokens", wanted)["token"])


@token.command("list")
@json_option
@login_options
def list_all(url: str, user: str, password: str, *, as_json: bool) -> None:
    """List your tokens: id, name, scope, end."""
    made = _ask(url, user, password, "GET", "/tokens")
    if as_json:
        tell(made)
        return
    for each in made:
        click.echo("\t".join([each["id"], each["name"], each["scope"], each["expirationTime"]]))


@token.command("revoke")
@click.argument("name")
@login_options
def revoke(name: str, url: str, user: str, password: str) -> None:
    """End a token, by its name or id."""

    async def work() -> None:
        async with signed_in(url, user, password) as remote:
            for each in await remote.ask("GET", "/tokens"):
                if name in (each["id"], each["name"]):
                    await remote.ask("DELETE", f"/tokens/{each['id']}")
                    return
            raise click.ClickException(f"You have no personal access token {name!r}.")

    asyncio.run(work())
    click.echo(f"{name} was revoked.")


def _ask(url: str, user: str, password: str, method: str, path: str, body: Any = None) -> Any:
    async def work() -> Any:
        async with signed_in(url, user, password) as remote:
            return await remote.ask(method, path, body)

    return asyncio.run(work())
