"""`mlhost user`: users of a stopped server in its data folder, of a running one as an Owner."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from mlhost import audit, remote
from mlhost.auth.passwords import Passwords
from mlhost.auth.users import role_of, title_of
from mlhost.cli.asking import password_of
from mlhost.cli.options import Result, config_option, data_option, existing_folder, run
from mlhost.cli.tables import json_option, tell
from mlhost.config import Config, load
from mlhost.errors import Conflict
from mlhost.host import users_of
from mlhost.remote import errors_in_words
from mlhost.store import Store
from mlhost.store.folder import DataFolder

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Where:
    """The users of which server: of the stopped one in a data folder, or of the running one at a URL."""

    data: str | None
    config_file: Path | None
    url: str | None
    asker: str


def where_options(command: Command) -> Command:
    """The options that say which server, as one argument `where`."""

    @functools.wraps(command)
    def collected(*, data: str | None, config_file: Path | None, url: str | None, asker: str, **rest: Any) -> Any:
        return command(where=Where(data, config_file, url, asker), **rest)

    as_option = click.option(
        "--as", "asker", envvar="MLHOST_USER", default="admin", show_default=True, help="Sign in there as this Owner."
    )
    url_option = click.option("--url", help="Ask the running server at this address; MLHOST_PASSWORD or a prompt.")
    made: Any = data_option(config_option(url_option(as_option(collected))))
    return cast(Command, made)


@click.group()
def user() -> None:
    """Users: of a stopped server in its data folder, of a running one with --url (as an Owner)."""


@user.command("add")
@click.argument("name")
@click.option(
    "--role",
    default="Contributor",
    show_default=True,
    help="Owner, Contributor, Reader or None; Default leaves it to groups and the default rule.",
)
@click.password_option(help="Asked for if not given.")
@where_options
def user_add(name: str, role: str, password: str, where: Where) -> None:
    """Add a user."""
    with_users(where, lambda users: users.add(name, password, role_of(role)))
    click.echo(f"{name} was added.")


@user.command("list")
@json_option
@where_options
def user_list(where: Where, *, as_json: bool) -> None:
    """List the users, their roles and their groups."""
    everybody = with_users(where, lambda users: users.list())
    if as_json:
        tell([{"name": each.name, "role": title_of(each.role), "groups": [*each.groups]} for each in everybody])
        return
    for each in everybody:
        click.echo("\t".join([each.name, title_of(each.role), *each.groups]))


@user.command("passwd")
@click.argument("name")
@click.password_option(help="Asked for if not given.")
@where_options
def user_passwd(name: str, password: str, where: Where) -> None:
    """Change a user's password; their tokens end."""
    with_users(where, lambda users: users.set_password(name, password))
    click.echo(f"The password of {name} was changed.")


@user.command("role")
@click.argument("name")
@click.argument("role")
@where_options
def user_role(name: str, role: str, where: Where) -> None:
    """Change a user's role; their tokens end. Default takes it away: groups or the default rule decide."""
    with_users(where, lambda users: users.set_role(name, role_of(role)))
    click.echo(f"{name} is now {title_of(role_of(role))}.")


@user.command("groups")
@click.argument("name")
@click.argument("groups", nargs=-1, metavar="[GROUP]...")
@where_options
def user_groups(name: str, groups: tuple[str, ...], where: Where) -> None:
    """Put a user into groups, and out of all others; auth.owner_groups and its like say what these may do."""
    with_users(where, lambda users: users.set_groups(name, groups))
    click.echo(f"{name} is in {', '.join(groups) or 'no group'}.")


@user.command("revoke")
@click.argument("name")
@where_options
def user_revoke(name: str, where: Where) -> None:
    """End every token of a user, personal access tokens included."""
    with_users(where, lambda users: users.revoke(name))
    click.echo(f"Every token of {name} has ended.")


# --- how -----------------------------------------------------------------------------------------------------------


def with_users(where: Where, verb: Callable[[remote.Register], Coroutine[Any, Any, Result]]) -> Result:
    """What a verb of the register comes to: of the running server's, or of the one in the data folder."""

    async def at_rest(folder: DataFolder, config: Config) -> Result:
        async with AsyncExitStack() as stack:
            store = await Store.open(folder.database)
            stack.push_async_callback(store.close)
            passwords = Passwords()
            stack.callback(passwords.close)
            return await verb(users_of(store, passwords, config))

    async def running(url: str, password: str) -> Result:
        async with remote.signed_in(url, where.asker, password) as server:
            return await verb(remote.RemoteUsers(server))

    with errors_in_words():
        if where.url is not None:
            return run(running(where.url, password_of(where.asker)))
        path = existing_folder(where.data, where.config_file)
        try:
            folder = DataFolder.open(path)
        except Conflict as taken:
            raise Conflict(f"{taken.message}; or ask the running one with --url.") from taken
        with folder:
            config = load(where.config_file, os.environ, {}).config
            done = run(at_rest(folder, config))
            _tell_audit(folder, config)
            return done


def _tell_audit(folder: DataFolder, config: Config) -> None:
    """That a command has changed something; what only lists changes nothing."""
    context = click.get_current_context()
    if context.info_name in ("list", "explain"):
        return
    about = {key: value for key, value in context.params.items() if key in ("name", "role", "groups")}
    with audit.Audit.open(folder.path, config.audit) as trail:
        trail.write(f"uid {os.getuid()} (command line)", context.command_path, about)
