"""How a command asks a running server: as the saved login says, with faults in one line and an exit code."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import click

from mlhost.client import connect
from mlhost.client.progress import bar
from mlhost.errors import Unauthenticated
from mlhost.remote import INTERRUPTED, errors_in_words

Command = TypeVar("Command", bound=Callable[..., Any])


def asks_server(command: Command) -> Command:
    """Give the command a client `ml`, signed in at `--url` or where `mlhost login` was last."""

    @functools.wraps(command)
    def asking(*, url: str | None, **rest: Any) -> Any:
        try:
            with errors_in_words(), _sent_to_sign_in(), connect(url) as ml:
                return command(ml=ml, **rest)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    option = click.option(
        "--url", envvar="MLHOST_URL", help="Address of the server; where you logged in last if not given."
    )
    made: Any = option(asking)
    return cast(Command, made)


def password_of(user: str) -> str:
    """The password in MLHOST_PASSWORD, or the one that is typed."""
    typed: str = os.environ.get("MLHOST_PASSWORD") or click.prompt(f"Password of {user}", hide_input=True)
    return typed


@contextmanager
def _sent_to_sign_in() -> Iterator[None]:
    try:
        yield
    except Unauthenticated as fault:
        if "mlhost login" in fault.message:
            raise
        raise Unauthenticated(
            f"{fault.message.rstrip('.')}: your login does not hold (any more); run mlhost login."
        ) from fault


@contextmanager
def bytes_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """What shows how many bytes are there, where a person looks on and tqdm is installed."""
    with bar(title if is_watched() else "", None, "B") as shown:

        def tell(done: int, total: int) -> None:
            if total and hasattr(shown, "total"):
                shown.total = total
            shown.update(done - shown.n)

        yield tell


def is_watched() -> bool:
    """Whether a person may be looking on."""
    return sys.stderr.isatty()


def sure(question: str, *, yes: bool) -> None:
    """Go on only if the one who asks is sure."""
    if not yes:
        click.confirm(question, abort=True)


yes_option = click.option("--yes", is_flag=True, help="Do not ask whether you are sure.")
