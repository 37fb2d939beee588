"""The notebook's magics, in IPython's own shell, against a real server."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from mlhost.client import Client
from mlhost.notebook import MagicFailed
from mlhost.testing import Server, serve


class Notebook:
    """Runs cells as a notebook does."""

    def __init__(self) -> None:
        self.shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))  # type: ignore[no-untyped-call]
        self.run("%load_ext mlhost")

    def run(self, cell: str) -> Any:
        """The value of the cell; raises what it raised."""
        done = self.shell.run_cell(cell)  # type: ignore[no-untyped-call]
        done.raise_error()
        return done.result


@pytest.fixture
def at_server(mlhost_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `connect()` finds the server."""
    for name, value in (("URL", mlhost_server.url), ("USER", "admin"), ("PASSWORD", mlhost_server.password)):
        monkeypatch.setenv(f"MLHOST_{name}", value)


@pytest.fixture
def notebook(at_server: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)  # of whoever runs the tests; IPython warns if it is another one
    notebook = Notebook()
    yield notebook
    notebook.run("%mlhost close")


def test_a_cell_runs_in_a_session_and_shows_what_it_prints(
    notebook: Notebook, mlhost_client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.run("%%mlhost run\nx = 20\nprint('there')")
    told = capsys.readouterr().out
    assert told.startswith("A session is open at http://127.0.0.1:")
    assert told.endswith(".\nthere\n")
    assert "x" not in notebook.shell.user_ns
    notebook.run("%%mlhost run\nprint(x + 1)")
    assert capsys.readouterr().out == "21\n"


def test_objects_go_there_and_come_back(notebook: Notebook) -> None:
    notebook.run("import pandas as pd\nframe, n = pd.DataFrame({'a': [1, 2]}), 3")
    notebook.run("%mlhost push frame n")
    notebook.run("%%mlhost run\ntotal = int(frame.a.sum()) * n\ndoubled = frame * 2\nclass Own: pass\nown = Own()")
    notebook.run("%mlhost pull total doubled")
    assert notebook.shell.user_ns["total"] == 9
    assert notebook.shell.user_ns["doubled"].a.tolist() == [2, 4]
    with pytest.raises(MagicFailed, match=r"Forbidden: .*trust=True"):
        notebook.run("%mlhost pull own")
    notebook.run("%mlhost pull own --trust")
    assert type(notebook.shell.user_ns["own"]).__name__ == "Own"
    with pytest.raises(MagicFailed, match=r"NotFound: .*'nothing'"):
        notebook.run("%mlhost pull nothing")


def test_a_cell_becomes_a_service_with_what_the_session_has(notebook: Notebook, mlhost_client: Client) -> None:
    notebook.run("factor = 7")
    notebook.run("%mlhost push factor")
    cell = "%%mlhost service scaled/1.0 --in x:float rows:data.frame --out y:float n:int --description {factor}-fold\n"
    service = notebook.run(cell + "y, n = factor * x, len(rows)")
    assert repr(service) == "<Service scaled 1.0 (x: numeric, rows: data.frame) -> (y: numeric, n: integer)>"
    assert notebook.run("_(x=6, rows={'a': [1, 2]})") == {"y": 42, "n": 2}
    with pytest.raises(MagicFailed, match=r"Conflict: .*scaled"):
        notebook.run("%%mlhost service scaled/1.0 --out y:float\ny = 1")
    notebook.run("%%mlhost service scaled/1.0 --replace --out y:float\ny = 1")
    assert mlhost_client.get("scaled", "1.0")() == 1
    notebook.run("%%mlhost service scaled --out y:float\ny = 2")
    assert len(mlhost_client.services("scaled")) == 2
    with pytest.raises(MagicFailed, match="never closed"):
        notebook.run("%%mlhost service broken/1.0\ny = (")


def test_what_the_cell_raises_comes_with_its_trace_and_stops_the_notebook(
    notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MagicFailed, match=r"^ZeroDivisionError: division by zero$"):
        notebook.run("%%mlhost run\ndef f():\n    return 1 / 0\nprint('before')\nf()")
    told = capsys.readouterr().out
    assert "before\nTraceback (most recent call last):\n" in told
    assert "line 2, in f\n    return 1 / 0\n" in told
    assert told.rstrip().endswith("ZeroDivisionError: division by zero")
    assert "notebook.py" not in told
    notebook.run("%%mlhost run\nprint(f.__name__)")
    assert capsys.readouterr().out == "f\n"


def test_what_is_printed_is_shown_while_the_cell_runs(notebook: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    notebook.run("%%mlhost run\nprint('first')")
    shown: list[tuple[float, str]] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            if told := capsys.readouterr().out:
                shown.append((time.monotonic(), told))

    looking = threading.Thread(target=look)
    looking.start()
    notebook.run("%%mlhost run\nimport time\nprint('second')\ntime.sleep(1)\nprint('third')")
    at = time.monotonic()
    time.sleep(0.1)
    ended.set()
    looking.join()
    assert "".join(told for _, told in shown).endswith(".\nfirst\nsecond\nthird\n")
    assert next(when for when, told in shown if "second" in told) < at - 0.3


def test_what_the_cell_before_has_printed_is_not_shown_again(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mlhost.notebook.LOOK_SECONDS", 0)  # it looks before the server has begun with the cell
    for number in range(20):
        notebook.run(f"%%mlhost run\nprint('cell {number}')")
    told = capsys.readouterr().out.partition("\n")[2]
    assert told == "".join(f"cell {number}\n" for number in range(20))


def test_ctrl_c_interrupts_the_cell_and_the_session_stays(
    notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.run("%%mlhost run\nx = 1")
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    with pytest.raises(MagicFailed, match="KeyboardInterrupt"):
        notebook.run("%%mlhost run\nprint('sleeping')\nimport time\nfor _ in range(3000):\n    time.sleep(0.01)")
    assert time.monotonic() - started < 10
    assert "sleeping\nTraceback" in capsys.readouterr().out
    notebook.run("%%mlhost run\nprint(x)")
    assert capsys.readouterr().out == "1\n"


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("%mlhost", "required: VERB"),
        ("%mlhost fly", r"invalid choice: 'fly'.*connect.*run.*service"),
        ("%mlhost run x = 1", "unrecognized arguments: x = 1"),
        ("%mlhost run", "write %%mlhost run"),
        ("%%mlhost push x\ny = 1", "write %mlhost push"),
        ("%mlhost push", "required: NAME"),
        ("%mlhost push not_there nor_this", "the notebook has no variable not_there, nor_this"),
        ("%%mlhost service\ny = 1", "required: NAME/VERSION"),
        ("%%mlhost service s/1 --in x\ny = 1", "'x' has no type; write x:float"),
        ("%%mlhost service s/1 --in x:flaot\ny = 1", r"'flaot' is no type; there are character, .*numeric.*any"),
        ("%mlhost push 'x", "No closing quotation"),
    ],
)
def test_a_line_that_cannot_be_understood_is_told_how_to_write_it(notebook: Notebook, cell: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){words}"):
        notebook.run(cell)


def test_a_mistake_is_shown_in_a_line_without_the_trace_of_the_client(
    notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MagicFailed):
        notebook.run("%mlhost connect nowhere")
    told = capsys.readouterr()
    assert told.out == "Invalid: 'nowhere' is no address of a server, such as http://127.0.0.1:12800.\n"
    assert told.err == ""


def sessions(ml: Client) -> list[str]:
    told = ml.wire.run(ml.wire.transport.ask("GET", "/sessions")).json()
    return [each["id"] for each in told]


def test_another_server_can_be_named_and_the_session_there_ends_with_the_notebook(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve() as other, other.connect() as ml:
        monkeypatch.setenv("MLHOST_PASSWORD", other.password)
        notebook.run(f"%mlhost connect {other.url}")
        assert capsys.readouterr().out == f"A session is open at {other.url}.\n"
        assert len(sessions(ml)) == 1
        notebook.run("%mlhost close")
        assert sessions(ml) == []


def test_a_session_that_was_lost_is_told_and_replaced(
    notebook: Notebook, mlhost_client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.run("%mlhost connect")
    for session in sessions(mlhost_client):
        mlhost_client.wire.run(mlhost_client.wire.transport.ask("DELETE", f"/sessions/{session}"))
    with pytest.raises(MagicFailed, match="the next cell opens another session"):
        notebook.run("%%mlhost run\nx = 1")
    notebook.run("%%mlhost run\nprint('again')")
    assert capsys.readouterr().out.endswith("again\n")
