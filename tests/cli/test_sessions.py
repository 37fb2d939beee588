"""`mlhost session`: code that runs where its console can be seen, and is cancelled by Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlhost.client import Client
from mlhost.testing import Server, serve
from tests.cli.conftest import Mlhost


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return tmp_path / "code.py"


def test_code_runs_in_a_session_of_its_own_which_ends_with_it(mlhost: Mlhost, signed_in: Client, code: Path) -> None:
    code.write_text("print('first'); print('last')")
    assert mlhost("session", "run", code).stdout == "first\nlast\n"
    assert mlhost("session", "run", "-", answers="print(1)").stdout == "1\n"
    assert signed_in.sessions() == []
    assert mlhost("session", "list").output == "No session is open.\n"


def test_code_that_fails_ends_with_3_after_its_console(mlhost: Mlhost, signed_in: Client, code: Path) -> None:
    code.write_text("print('so far')\n1 / 0")
    told = mlhost("session", "run", code, expect=3)
    assert told.stdout.startswith("so far\n")
    assert "ZeroDivisionError" in told.stdout
    assert told.stderr.count("\n") == 1
    assert signed_in.sessions() == []


def test_a_session_that_is_kept_is_run_in_again_and_killed(mlhost: Mlhost, signed_in: Client, code: Path) -> None:
    code.write_text("x = 1\nprint('same')")
    assert "stays open" in mlhost("session", "run", code, "--keep").stderr
    (listed,) = json.loads(mlhost("session", "list", "--json").output)
    assert listed["id"] in mlhost("session", "list").output
    assert mlhost("session", "run", code, "--session", listed["id"]).stdout == "same\n"
    code.write_text("print(x)")
    assert mlhost("session", "run", code, "--session", listed["id"]).stdout == "1\n"
    assert mlhost("session", "console", listed["id"], "--once").stdout == "1\n"
    assert "closed" in mlhost("session", "kill", listed["id"]).output
    assert "session" in mlhost("session", "kill", listed["id"], expect=1).stderr
    assert signed_in.sessions() == []
    mlhost("session", "run", code, "--session", "x", "--keep", expect=2)
    assert "cannot be read" in mlhost("session", "run", code.parent / "nothing.py", expect=1).stderr


def test_a_console_is_followed_until_the_session_is_closed(mlhost: Mlhost, signed_in: Client) -> None:
    session = signed_in.session()
    session.run("print('before')")

    def go_on() -> None:
        time.sleep(0.4)
        session.run("print('meanwhile')")
        time.sleep(0.4)
        session.close()

    thread = threading.Thread(target=go_on)
    thread.start()
    assert mlhost("session", "console", session.id).stdout == "before\nmeanwhile\n"
    thread.join()


def test_ctrl_c_cancels_the_code_and_leaves_the_session(tmp_path: Path, code: Path) -> None:
    code.write_text("import time\nprint('running')\ntry:\n    time.sleep(50)\nfinally:\n    print('cancelled')")
    with serve(profile="isolated") as server:
        process = _started(server, tmp_path, "session", "run", str(code))
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"  # while it runs
        process.send_signal(signal.SIGINT)
        said, told = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "cancelled" in said
        assert "The code was cancelled. Session" in told
        assert "Traceback" not in told
        with server.connect() as ml:
            (left,) = ml.sessions()
            assert ml.attach(left.id).run("print(1)").console == "1\n"


def _started(server: Server, home: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "MLHOST_URL": server.url,
        "MLHOST_PASSWORD": server.password,
        "XDG_CONFIG_HOME": str(home),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "mlhost", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
