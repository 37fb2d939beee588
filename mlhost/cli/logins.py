"""`mlhost login` and `logout`: logins that are kept for commands and clients to come."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

import click

from mlhost.client import connect
from mlhost.errors import NotFound, Unavailable
from mlhost.http.personal import DEFAULT_DAYS
from mlhost.places import Logins, Saved
from mlhost.remote import errors_in_words, login_options

MAX_HOST_LENGTH = 60  # characters of this machine's name that go into a token's


@click.command()
@click.argument("address", metavar="[URL]", required=False)
@click.option("--days", default=DEFAULT_DAYS, show_default=True, help="Days it is good for, 366 at most.")
@login_options
def login(address: str | None, days: int, url: str, user: str, password: str) -> None:
    """Save a login at URL, which mlhost.client.connect() and the commands here find from then on.

    What is saved is a personal access token, in a file only you can read: not the password. A server with a certificate
    of its own making is trusted with MLHOST_CA, the certificate's file.
    """
    name = f"login on {socket.gethostname()[:MAX_HOST_LENGTH]}, {datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"
    with errors_in_words(), connect(address or url, user=user, password=password) as server:
        secret = server.create_token(name, "all", days=days)
        logins = Logins.here()
        old = logins.find(server.url)
        logins.save(Saved(server.url, user, secret))
        if old is not None:
            server.revoke_token(old.token)
    click.echo(f"You are logged in to {server.url} as {user} for {days} days; mlhost logout ends it.")


@click.command()
@click.argument("address", metavar="[URL]", required=False)
@click.option("--url", envvar="MLHOST_URL", help="Address of the server; where you logged in last if not given.")
def logout(address: str | None, url: str | None) -> None:
    """End a saved login."""
    url = address or url
    with errors_in_words():
        logins = Logins.here()
        saved = logins.find(url)
        if saved is None:
            raise NotFound(f"No login is saved{f' for {url}' if url else ''}.")
        logins.forget(saved.url)
        try:
            with connect(saved.url, token=saved.token) as server:
                server.revoke_token(saved.token)
        except Unavailable as fault:
            raise Unavailable(
                f"The login is forgotten here, but the server could not be told: {fault.message}"
                " Its token ends by itself, or with mlhost token revoke."
            ) from fault
    click.echo(f"You are logged out of {saved.url}.")
