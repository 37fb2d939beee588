"""`%load_ext mlhost`: cells that run in a session of a server, and become services there.

    %mlhost connect [URL]             sign in as `mlhost.client.connect` does, and open a session
    %%mlhost run                      run the cell in the session; what it prints is shown while it runs
    %%mlhost service NAME/VERSION --in x:float --out y:float
                                      publish the cell as a service, with all that the session has
    %mlhost push NAME...              send variables of the notebook to the session
    %mlhost pull NAME...              fetch objects of the session as variables
    %mlhost close                     end the session

All but `close` connect by themselves where that has not been done. It needs IPython, which `mlhost[notebook]` brings.
"""

from __future__ import annotations

import argparse
import atexit
import shlex
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from mlhost.client import Client, Service, Session, connect
from mlhost.errors import CodeFailed, Gone, MlhostError, NotFound, WorkerLost
from mlhost.params.types import TYPES, lookup

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

LOOK_SECONDS = 0.2  # between two looks at what a running cell has printed
UNTYPED = "any"
CELLS = ("run", "service")  # the verbs that are about the text of a cell


class MagicFailed(Exception):
    """What went wrong, in one line: in a notebook nobody wants to read through the client to find it."""

    def _render_traceback_(self) -> list[str]:
        """IPython asks for this instead of showing the trace."""
        return [str(self)]


def load(shell: InteractiveShell) -> None:
    """Give the shell its `%mlhost` and `%%mlhost`."""
    magics = Magics(shell)
    atexit.register(magics.close)
    shell.magics_manager.register_function(magics, magic_kind="line_cell", magic_name="mlhost")


class Magics:
    """The verbs of one notebook, which has one session."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._client: Client | None = None
        self._session: Session | None = None
        self._printed = ""  # by the session's last block
        self._thread = ThreadPoolExecutor(
            1, "mlhost-run"
        )  # connections belong to threads, so there is one for all runs

    def __call__(self, line: str, cell: str | None = None) -> Any:
        """Do what the line says; MagicFailed tells in one line what the server or the cell's code has against it."""
        asked = _parser().parse_args(_words(line))
        if (cell is not None) != (asked.verb in CELLS):
            _refuse(f"write {'%' if asked.verb not in CELLS else '%%'}mlhost {asked.verb}")
        try:
            return getattr(self, f"_{asked.verb}")(asked, cell)
        except MlhostError as fault:
            raise MagicFailed(self._told(fault)) from fault

    def close(self) -> None:
        """End the session and sign out, as far as the server can be reached."""
        session, client = self._session, self._client
        self._session = self._client = None
        with suppress(MlhostError):
            if session is not None:
                session.close()
        with suppress(MlhostError):
            if client is not None:
                client.close()

    # --- verbs -----------------------------------------------------------------------------------------------------

    def _connect(self, asked: argparse.Namespace, _: None = None) -> None:
        self.close()
        self._client = connect(asked.url)
        self._opened()

    def _run(self, _: argparse.Namespace, cell: str) -> None:
        session = self._opened()
        running = self._thread.submit(_ran, session, cell)
        shown = self._follow(session, running)
        self._printed, fault = running.result()
        _show(self._printed, shown)
        if fault is not None:
            raise fault

    def _service(self, asked: argparse.Namespace, cell: str) -> Service:
        name, _, version = asked.name.partition("/")
        inputs, outputs = _types(asked.inputs), _types(asked.outputs)
        return self._opened().publish(
            name,
            version or None,
            cell,
            inputs=inputs,
            outputs=outputs,
            description=asked.description,
            replace=asked.replace,
        )

    def _push(self, asked: argparse.Namespace, _: None = None) -> None:
        variables = self._shell.user_ns
        if missing := [name for name in asked.names if name not in variables]:
            _refuse(f"the notebook has no variable {', '.join(missing)}")
        session = self._opened()
        for name in asked.names:
            session.put(name, variables[name])

    def _pull(self, asked: argparse.Namespace, _: None = None) -> None:
        session = self._opened()
        trust = True if asked.trust else None
        self._shell.user_ns.update({name: session.fetch(name, trust=trust) for name in asked.names})

    def _close(self, *_: object) -> None:
        self.close()

    # --- how -------------------------------------------------------------------------------------------------------

    def _opened(self) -> Session:
        if self._client is None:
            self._client = connect()
        if self._session is None:
            self._session, self._printed = self._client.session("notebook"), ""
            _show(f"A session is open at {self._client.wire.transport.url}.\n", "")
        return self._session

    def _follow(self, session: Session, running: Future[Any]) -> str:
        """Show what the block prints until it has ended, and interrupt it for Ctrl-C; what was shown."""
        shown = ""
        while not running.done():
            try:
                if not wait([running], LOOK_SECONDS).done:
                    text = session.console()
                    if text != self._printed:  # else the server has not begun with the block yet
                        _show(text, shown)
                        shown = text
            except KeyboardInterrupt:
                session.cancel()
        return shown

    def _told(self, fault: MlhostError) -> str:
        """The fault in one line; a session that has ended is let go of."""
        if isinstance(fault, CodeFailed):
            return fault.message
        told = f"{type(fault).__name__}: {fault.message}"
        if self._session is None or not _is_its_end(self._session, fault):
            return told
        self._session = None
        return f"{told} What it had is gone; the next cell opens another session."


def _is_its_end(session: Session, fault: MlhostError) -> bool:
    """A server that was started anew has never heard of the session; an object that is not there names no session."""
    return isinstance(fault, Gone | WorkerLost) or (isinstance(fault, NotFound) and session.id in fault.message)


def _ran(session: Session, code: str) -> tuple[str, CodeFailed | None]:
    """What the block printed, and how it failed if it did."""
    try:
        return session.run(code).console, None
    except CodeFailed as fault:
        return fault.details["console"], fault


def _show(text: str, shown: str) -> None:
    """Print what has not been shown yet."""
    sys.stdout.write(text.removeprefix(shown))
    sys.stdout.flush()


# --- what is asked ---------------------------------------------------------------------------------------------------


class _Line(argparse.ArgumentParser):
    """Reads the line after `%mlhost`; a mistake is IPython's UsageError instead of the program's end."""

    def error(self, message: str) -> NoReturn:
        _refuse(f"{message}\n{self.format_usage().rstrip()}")


def _parser() -> _Line:
    line = _Line(prog="%mlhost", add_help=False)
    verbs = line.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("connect", add_help=False).add_argument("url", nargs="?", metavar="URL")
    verbs.add_parser("run", add_help=False)
    service = verbs.add_parser("service", add_help=False)
    service.add_argument("name", metavar="NAME/VERSION")
    for flag, into in (("--in", "inputs"), ("--out", "outputs")):
        service.add_argument(flag, dest=into, nargs="+", action="extend", default=[], metavar="NAME:TYPE")
    service.add_argument("--description", metavar="TEXT")
    service.add_argument("--replace", action="store_true")
    verbs.add_parser("push", add_help=False).add_argument("names", nargs="+", metavar="NAME")
    pull = verbs.add_parser("pull", add_help=False)
    pull.add_argument("names", nargs="+", metavar="NAME")
    pull.add_argument("--trust", action="store_true")
    verbs.add_parser("close", add_help=False)
    return line


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as fault:  # a quotation without its end
        _refuse(str(fault))


def _types(given: list[str]) -> dict[str, str]:
    """Names with their types; UsageError for one without a type, or with one that the server does not know."""
    types = {}
    for each in given:
        name, _, kind = each.partition(":")
        if not kind:
            _refuse(f"{name!r} has no type; write {name}:float, say")
        if kind != UNTYPED and not lookup(kind).name:
            _refuse(f"{kind!r} is no type; there are {', '.join(sorted(TYPES))}, and {UNTYPED} for whatever JSON says")
        types[name] = kind
    return types


def _refuse(message: str) -> NoReturn:
    from IPython.core.error import UsageError

    raise UsageError(message)
