"""`mlhost session`: code in a workspace on a running server."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import click

from mlhost.cli.asking import asks_server
from mlhost.cli.tables import json_option, table, tell
from mlhost.client import Client, Session
from mlhost.errors import CodeFailed, Invalid, MlhostError

LOOK_SECONDS = 0.2  # between two looks at the console
LAST_SECONDS = 0.5  # that code which was cancelled has for its last words


@click.group()
def session() -> None:
    """Sessions: list, run code, follow the console, kill."""


@session.command("list")
@json_option
@asks_server
def list_all(ml: Client, *, as_json: bool) -> None:
    """List your open sessions."""
    opened = ml.sessions()
    if as_json:
        tell([asdict(each) for each in opened])
        return
    rows = [(each.id, each.name, each.placement, each.python) for each in opened]
    table(("ID", "NAME", "RUNS IN", "PYTHON"), rows, "No session is open.")


@session.command("run")
@click.argument("file")
@click.option("--session", "there", metavar="ID", help="Run it in this open session, which stays open.")
@click.option("--snapshot", metavar="ID", help="Start the new session with this snapshot's workspace.")
@click.option("--placement", help="Where the new session runs: process, interpreter or inline.")
@click.option("--keep", is_flag=True, help="Leave the new session open, and tell its id on stderr.")
@asks_server
def run(ml: Client, file: str, *, there: str | None, snapshot: str | None, placement: str | None, keep: bool) -> None:
    """Run FILE, - for the standard input, in a session of its own, and print what it prints while it runs.

    Ctrl-C cancels the code and leaves the session open. Ends with 3 if the code failed.
    """
    if there and (snapshot or placement or keep):
        raise click.UsageError("--session names an open session; --snapshot, --placement and --keep are for a new one.")
    code = _read(file)
    opened = ml.attach(there) if there else ml.session(snapshot=snapshot, placement=placement)
    stays = keep or there is not None
    try:
        _run(opened, code)
    except KeyboardInterrupt:
        stays = True
        click.echo(f"The code was cancelled. Session {opened.id} is open: mlhost session kill {opened.id}", err=True)
        raise
    finally:
        if not stays:
            opened.close()
        elif keep:
            click.echo(f"Session {opened.id} stays open.", err=True)


@session.command("console")
@click.argument("id", metavar="ID")
@click.option("--once", is_flag=True, help="Print what there is, and do not follow.")
@asks_server
def console(ml: Client, id: str, *, once: bool) -> None:  # noqa: A002
    """Print the console of an open session and go on until it is closed or Ctrl-C."""
    opened = ml.attach(id)
    if once:
        _print(opened.console())
    else:
        opened.follow(_print)


@session.command("kill")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@asks_server
def kill(ml: Client, ids: tuple[str, ...]) -> None:
    """End sessions, whatever they are doing."""
    for each in ids:
        ml.kill_session(each)
        click.echo(f"{each} is closed.")


def _read(file: str) -> str:
    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return text.decode()
    except (OSError, UnicodeDecodeError) as fault:
        raise Invalid(f"{file} cannot be read as text: {getattr(fault, 'strerror', None) or fault}.") from fault


class _Printer:
    """Prints a console that grows, each part once."""

    def __init__(self, before: str) -> None:
        self._before: str | None = before  # what an earlier block has left there
        self._told = ""

    def show(self, text: str, *, is_last: bool = False) -> None:
        """Print what is new in it."""
        if text == self._before and not is_last:
            return
        self._before = None
        _print(text.removeprefix(self._told))
        self._told = text


def _run(opened: Session, code: str) -> None:
    """Run it, printing; CodeFailed once all is printed if it fails."""
    printer = _Printer(opened.console())
    try:
        with _following(opened, printer):
            text = opened.run(code).console
    except CodeFailed as fault:
        printer.show(fault.details.get("console", ""), is_last=True)
        raise
    except KeyboardInterrupt:
        with suppress(MlhostError):
            time.sleep(LAST_SECONDS)
            printer.show(opened.console())
        raise
    printer.show(text, is_last=True)


@contextmanager
def _following(opened: Session, printer: _Printer) -> Iterator[None]:
    """Print what the console gets while the block runs, which asks the server from a thread of its own."""
    stop = threading.Event()

    def follow() -> None:
        with suppress(MlhostError):  # whoever runs the code finds out by themselves
            while not stop.wait(LOOK_SECONDS):
                printer.show(opened.console())

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _print(text: str) -> None:
    click.echo(text, nl=False)
    sys.stdout.flush()
