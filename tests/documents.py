"""Documents as tests: the fenced blocks of a markdown file, done word for word and in order by somebody who reads it.

What follows the three backticks says what is done with a block:

    bash              run in the reader's folder; `mlhost serve` stays running; what `pip install` names has to exist
    python            run in the one Python process of the reader
    python test       run by pytest
    python notebook   a cell of the reader's notebook
    text              what the block before has printed, compared; "..." stands for anything
    toml              kept as mlhost.toml in the folder, once all its settings are found to be good
    toml elsewhere    read as settings, for a server that cannot be had here
    bash elsewhere    not run: its commands and options have to exist
"""

import doctest
import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from mlhost.config import load
from mlhost.testing import Server
from tests.parts import ROOT
from tests.server.conftest import until_ready

WRITTEN = "http://127.0.0.1:12800"  # what documents call the server, wherever it is
FENCE = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Runs blocks, each a line of JSON, and answers what each printed; a cell is run as IPython does.
PROCESS = """
import contextlib as _contextlib, io as _io, json as _json, sys as _sys, traceback as _traceback
def _cell(text, shells=[]):
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config
    if not shells:
        shells.append(InteractiveShell(config=Config({"HistoryManager": {"enabled": False}})))
    shells[0].run_cell(text).raise_error()
for _line in _sys.stdin:
    _kind, _text = _json.loads(_line)
    _printed, _fault = _io.StringIO(), ""
    with _contextlib.redirect_stdout(_printed):
        try:
            _cell(_text) if _kind == "python notebook" else exec(compile(_text, "<document>", "exec"))
        except BaseException:
            _fault = _traceback.format_exc()
    print(_json.dumps([_printed.getvalue(), _fault]), flush=True)
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    kind: str
    text: str
    line: int


def blocks(document: Path, kind: str = "") -> list[Block]:
    """The blocks of a document, or those of one kind."""
    text = document.read_text("utf-8")
    found = [
        Block(each["kind"].strip(), each["text"], text.count("\n", 0, each.start()) + 1)
        for each in FENCE.finditer(text)
    ]
    return [each for each in found if kind in ("", each.kind)]


@contextmanager
def reader(folder: Path, server: Server | None = None) -> Iterator["Reader"]:
    """Somebody with an empty home, who has the server at hand if there is one."""
    person = Reader(folder, server)
    try:
        yield person
    finally:
        person.leave()


class Reader:
    """Does what a document says."""

    def __init__(self, folder: Path, server: Server | None) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        self.url = server.url if server else WRITTEN
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("MLHOST_")}
        self.environment |= {
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder / "share"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MLHOST_SERVER_PORT": "0",
        }
        if server:
            self.environment |= {"MLHOST_URL": server.url, "MLHOST_PASSWORD": server.password}
        self._servers: list[subprocess.Popen[str]] = []
        self._python: subprocess.Popen[str] | None = None
        self._printed = ""
        self._password = server.password if server else ""

    def read(self, document: Path) -> Counter[str]:
        """Do all there is to do, and count it by kind; AssertionError names the line of what is not true."""
        done: Counter[str] = Counter()
        for block in blocks(document):
            try:
                self._do(block)
            except Exception as fault:
                raise AssertionError(f"{document.name}:{block.line}: {fault}") from fault
            done[block.kind] += 1
        return done

    def leave(self) -> None:
        """End what is still running."""
        if self._python is not None:
            self._python.communicate(timeout=30)
        for server in self._servers:
            server.terminate()
            server.communicate(timeout=30)

    def _do(self, block: Block) -> None:
        text = block.text.replace(WRITTEN, self.url)
        if block.kind == "text":
            self._compare(block.text)
        elif block.kind == "bash":
            self._printed = "".join(self._command(line) for line in _commands(block.text))
        elif block.kind == "python test":
            (self.folder / "test_project.py").write_text(text)
            self._printed = self._run(
                [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
            )
        elif block.kind in ("python", "python notebook"):
            self._printed = self._in_python(block.kind, text)
        elif block.kind in ("toml", "toml elsewhere"):
            self._settings(text, is_kept=block.kind == "toml")
        elif block.kind == "bash elsewhere":
            for line in _commands(text):
                exists(line)
        else:
            raise AssertionError(f"nothing is done with blocks of the kind {block.kind!r}")

    def _compare(self, expected: str) -> None:
        printed = self._printed.replace(self.url, WRITTEN)
        same = doctest.OutputChecker().check_output(expected, printed, LIKE)
        assert same, f"it says\n{expected}and what was printed is\n{printed}"

    def _command(self, line: str) -> str:
        if line.startswith("pip install "):
            installable(line)
            return ""
        if re.match(r"mlhost serve\b|./scripts/serve\b", line):
            return self._serve(line)
        return self._run(["bash", "-c", line.replace(WRITTEN, self.url)])

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            capture_output=True,
            input=f"{self._password}\n" * 3,
            text=True,
            timeout=60,
            cwd=self.folder,
            env=self.environment,
            start_new_session=True,  # no terminal: passwords are read from the input
        )
        assert done.returncode == 0, f"{command[-1]} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def _serve(self, line: str) -> str:
        process = subprocess.Popen(
            shlex.split(line),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=self.folder,
            env=self.environment,
        )
        self._servers.append(process)
        self.url, said = until_ready(process)
        self._password = said.partition("with the password ")[2].partition("\n")[0]  # people use one for everything
        return said

    def _in_python(self, kind: str, text: str) -> str:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-c", PROCESS],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=self.folder,
                env=self.environment,
            )
        assert self._python.stdin
        assert self._python.stdout
        self._python.stdin.write(json.dumps([kind, text]) + "\n")
        self._python.stdin.flush()
        printed, fault = json.loads(self._python.stdout.readline())
        assert not fault, fault
        return str(printed)

    def _settings(self, text: str, *, is_kept: bool) -> None:
        file = self.folder / ("mlhost.toml" if is_kept else "elsewhere.toml")
        file.write_text(text, "utf-8")
        load(file, {}, {})


def _commands(text: str) -> list[str]:
    """The lines of a block without empty ones and comments; one that ends in a backslash goes on."""
    joined = text.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def exists(line: str) -> None:
    """The command, or AssertionError: the program's help has the words and the options of the line."""
    command, *words = shlex.split(line, comments=True)
    if command != "mlhost":
        assert os.access(ROOT / command, os.X_OK), f"there is no {command}"
        return
    from click import Command, Context, Group

    from mlhost.cli import main

    at: Command | None = main
    while isinstance(at, Group):
        at = at.get_command(Context(at), words.pop(0))
    assert at is not None, f"{line}: there is no such command"
    known = {flag for each in at.params for flag in each.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, line


def installable(line: str) -> None:
    """AssertionError unless each extra there is asked for is one, and each other package one that the tests have."""
    extras = set(importlib.metadata.metadata("mlhost").get_all("Provides-Extra") or ())
    for word in [each for each in shlex.split(line)[2:] if not each.startswith("-")]:
        wanted = Requirement(word)
        importlib.metadata.version(wanted.name)
        assert wanted.name != "mlhost" or wanted.extras <= extras, line
