"""`mlhost serve` as a process: first start, drain, kill -9, two servers, what it loads."""

import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import requests

from mlhost.store.folder import DataFolder
from tests.parts import PASSWORD, SHARED, until
from tests.server.conftest import Start
from tests.server.test_cli import mlhost
from tests.slapd import QUERY_PASSWORD, Slapd

HERE = Path(__file__).parent


def test_the_first_start_makes_a_password_and_prints_it_once(start: Start, tmp_path: Path) -> None:
    server = start(password=None)
    [password] = re.findall(r"with the password (\S+)", server.said)
    file = tmp_path / "data" / "admin-password"
    assert file.read_text().strip() == password
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    server.login(password)
    assert server.stop()[0] == 0
    again = start(password=None)
    assert password not in again.said
    assert "admin-password" in again.said
    again.login(password)


def test_a_password_from_a_file_replaces_the_one_there_was(start: Start, tmp_path: Path) -> None:
    start().stop()
    file = tmp_path / "password"
    file.write_text("from a file!\n")
    server = start("--admin-password-file", str(file))
    server.login("from a file!")


def test_an_owner_is_made_although_other_users_were_there_first(start: Start, tmp_path: Path) -> None:
    DataFolder.open(tmp_path / "data").close()
    mlhost("user", "add", "carol", "--password", "a password", "--data", tmp_path / "data")
    server = start(password=None)
    [password] = re.findall(r"with the password (\S+)", server.said)
    server.login(password)


@pytest.mark.untraced
def test_sigterm_ends_a_server_whose_code_runs_on_though_nobody_reads_what_it_prints(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "mlhost.toml").write_text(
        "[runtime]\nallowed_placements = ['inline']\n[limits]\nexecute_seconds = 0.1\n"
    )
    server = start()
    token = server.login()
    opened = server.call("POST", "/sessions", 201, token, json={"runtimeType": "Python", "placement": "inline"})
    code = "import time; time.sleep(60)"
    server.call("POST", f"/sessions/{opened['sessionId']}/execute", 410, token, json={"code": code})
    assert server.process.stdout is not None
    server.process.stdout.close()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0


def test_sigterm_ends_a_server_whose_code_runs_on_after_the_time_to_drain(start: Start) -> None:
    server = start(drain_seconds=1)
    token = server.login()
    opened = server.call("POST", "/sessions", 201, token, json={"runtimeType": "Python"})
    path = f"/sessions/{opened['sessionId']}/execute"
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(
            server.call("POST", path, 410, token, json={"code": "import time; time.sleep(60)"})
        )
    )
    asking.start()
    time.sleep(0.5)
    begun = time.monotonic()
    assert server.stop()[0] == 0
    assert time.monotonic() - begun < 6
    asking.join()
    assert "The session has ended" in answers[0]["message"]


def test_sigterm_lets_running_requests_finish_and_exits_0(start: Start) -> None:
    server = start()
    token = server.login()
    server.publish(token, "Slow", "import time\ntime.sleep(1)\ny = x")
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(server.call("POST", "/api/Slow/1", token=token, json={"x": 1}))
    )
    asking.start()
    time.sleep(0.3)
    status, said = server.stop()
    asking.join()
    assert (status, answers[0]["outputParameters"]) == (0, {"y": 1})
    assert "Stopping" in said


def test_a_second_server_on_the_same_data_is_refused_with_words(start: Start, tmp_path: Path) -> None:
    server = start()
    second = subprocess.run(
        [sys.executable, "-m", "mlhost", "serve", "--port", "0", "--data", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 1
    assert f"in use by another server, process {server.process.pid}" in second.stderr


def test_a_taken_port_is_refused_with_words(start: Start, tmp_path: Path) -> None:
    server = start()
    port = server.url.rpartition(":")[2]
    second = subprocess.run(
        [sys.executable, "-m", "mlhost", "serve", "--port", port, "--ephemeral"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 5
    assert "choose another --port" in second.stderr


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not merely been left for init to wait for."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


FLEE = """
import os, signal, time
pids = [os.getpid(), os.getppid()]
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(each, signal.SIG_IGN)
        os.write(writer, str(os.getpid()).encode())
        time.sleep(1000)
    os._exit(0)
pids.append(int(os.read(reader, 20)))
os.wait()
"""


async def test_nothing_is_left_of_a_killed_server(start: Start, tmp_path: Path) -> None:
    server = start()
    token = server.login()
    opened = server.call("POST", "/sessions", 201, token, json={"runtimeType": "Python"})
    execute = f"/sessions/{opened['sessionId']}/execute"
    done = server.call("POST", execute, token=token, json={"code": FLEE, "outputParameters": ["pids"]})

    def hang() -> None:
        with pytest.raises(requests.ConnectionError):
            server.call("POST", execute, token=token, json={"code": "sum(range(10 ** 12))"})

    hanging = threading.Thread(target=hang)
    hanging.start()
    time.sleep(0.3)
    server.kill()
    pids = done["outputParameters"][0]["value"]
    assert len(pids) == 3
    await until(lambda: not any(is_running(pid) for pid in pids), 1)
    hanging.join()
    assert list((tmp_path / "data" / "work").iterdir())
    start()
    assert not any("-" in each.name and list(each.iterdir()) for each in (tmp_path / "data" / "work").iterdir())


@pytest.mark.untraced
@pytest.mark.parametrize(
    "kills", [15, pytest.param(50, marks=[pytest.mark.soak, pytest.mark.timeout(240)])], ids="{} kills".format
)
def test_an_acknowledged_publish_survives_kills(start: Start, kills: int) -> None:
    server = start()
    for n in range(kills):
        token = server.login()
        server.publish(token, f"S{n}", f"y = x + {n}")
        server.kill()
        server = start(password=None)
        token = server.login()
        answer = server.call("POST", f"/api/S{n}/1", token=token, json={"x": 1})
        assert answer["outputParameters"] == {"y": n + 1}
    names = {each["name"] for each in server.call("GET", "/services", token=token)}
    assert names == {f"S{n}" for n in range(kills)}


def test_the_server_never_loads_the_scientific_stack() -> None:
    """A server in a process of its own goes through the life of a service and then tells what it has imported."""
    done = subprocess.run(
        [sys.executable, HERE / "walk_and_tell_modules.py"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "mlhost" in loaded
    assert not loaded & {"numpy", "pandas", "sklearn", "scipy", "dill"}


@pytest.mark.skipif(not (SHARED / "accept").is_dir(), reason="the acceptance checks (../shared/accept) are not here")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("document", ["the original's", "ours"])
def test_the_acceptance_walkthrough_passes_without_contract_errors(start: Start, tmp_path: Path, document: str) -> None:
    server = start(preload="numpy,sklearn.svm,sklearn.datasets", password="Walk-through1")
    environment = os.environ | {"MLHOST_URL": server.url, "MLHOST_USER": "admin", "MLHOST_PASSWORD": "Walk-through1"}
    if document == "ours":
        environment["MLHOST_SWAGGER"] = str(tmp_path / "swagger.json")
        (tmp_path / "swagger.json").write_bytes(requests.get(f"{server.url}/swagger.json", timeout=10).content)
    done = subprocess.run(
        [sys.executable, "contract_check.py", "walkthrough.py"],
        cwd=SHARED / "accept",
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 error(s)" in done.stderr


def test_the_demo_prints_a_curl_line_that_works_when_pasted(start: Start) -> None:
    server = start("--demo", preload="sklearn.svm,sklearn.datasets")
    [curl] = [line for line in server.said.splitlines() if line.startswith("curl")]
    done = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=30)
    assert '"iris_species":"setosa"' in done.stdout
    assert server.stop()[0] == 0
    again = start("--demo")
    assert "setosa" in again.said


def test_an_ephemeral_server_leaves_no_folder(start: Start) -> None:
    server = start("--ephemeral")
    [folder] = re.findall(r"Data in (\S+)", server.said)
    assert Path(folder).is_dir()
    assert server.stop()[0] == 0
    assert not Path(folder).exists()


def test_a_second_signal_ends_a_server_that_waits(start: Start) -> None:
    server = start()
    token = server.login()
    server.publish(token, "Stuck", "import time\ntime.sleep(30)\ny = x")

    def ask() -> None:
        with pytest.raises(requests.ConnectionError):
            server.call("POST", "/api/Stuck/1", token=token, json={"x": 1})

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.5)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert server.process.poll() is None
    assert server.stop()[0] == 1
    asking.join()


def test_a_server_with_a_directory_says_who_signs_in_and_logs_no_password(
    start: Start, directory: Slapd, tmp_path: Path
) -> None:
    ldap = asdict(directory.settings())
    settings = {f"MLHOST_LDAP_{name.upper()}": str(value) for name, value in ldap.items() if value != ""}
    server = start(log=tmp_path / "log", MLHOST_LOGS_LEVEL="debug", **settings)
    assert f"Sign in as a user of {ldap['url']}; admin does not (auth.keep_admin)." in server.said
    server.call("POST", "/login", json={"username": "BOB", "password": PASSWORD})
    server.call("POST", "/login", 401, json={"username": "bob", "password": "not bob's at all"})
    server.call("POST", "/login", 401, json={"username": "admin", "password": PASSWORD})
    server.stop()
    written = (tmp_path / "log").read_text()
    assert "the local admin is not let in" in written
    audit = (tmp_path / "data" / "audit.jsonl").read_text()
    assert len(audit.splitlines()) == 3
    assert not [each for each in (PASSWORD, "not bob's", QUERY_PASSWORD) if each in written + audit]
    demo = [sys.executable, "-m", "mlhost", "serve", "--demo", "--ephemeral", "--port", "0"]
    refused = subprocess.run(demo, env=os.environ | settings, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert refused.returncode == 1 and "--demo publishes as admin" in refused.stderr
