"""`mlhost auth`: who may do what."""

from __future__ import annotations

import sys

import click

from mlhost.cli.users import Where, where_options, with_users
from mlhost.errors import NotFound
from mlhost.http.explain import explain
from mlhost.remote import errors_in_words


@click.group()
def auth() -> None:
    """Who may do what."""


@auth.command("explain")
@click.argument("name", metavar="USER")
@click.argument("method")
@click.argument("path")
@where_options
def auth_explain(name: str, method: str, path: str, where: Where) -> None:
    """Print the rule that decides whether USER may ask METHOD PATH: mlhost auth explain carol POST /services/iris/1.0

    Ends with 0 if they may, with 1 if not.
    """
    everybody = {each.name: each for each in with_users(where, lambda users: users.list())}
    with errors_in_words():
        if name not in everybody:
            raise NotFound(f"There is no user {name!r}.")
        verdict = explain(name, everybody[name].standing, method, path)
    click.echo("\n".join(verdict.lines))
    sys.exit(0 if verdict.may else 1)
