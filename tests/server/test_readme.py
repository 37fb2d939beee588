"""The README is true: its commands run, its table is the route table, its program prints what it says."""

import os
import re
import subprocess
import sys

from mlhost.http.guard import PERMISSIONS
from tests.parts import PASSWORD, ROOT
from tests.server.conftest import Start
from tests.server.test_cli import mlhost

README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_program_in_the_readme_prints_what_it_says(start: Start) -> None:
    server = start(preload="sklearn.svm,sklearn.datasets")
    *_, program, realtime = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{realtime}"],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"MLHOST_URL": server.url, "MLHOST_PASSWORD": PASSWORD},
    )
    rated = "{'outputData': {'Prediction': [0, 1]}}"
    assert done.stdout == f"True\n{{'species': 'setosa'}}\n{rated}\n", done.stderr
    assert f"prints `{rated}`" in README
    assert "It prints `True` and `{'species': 'setosa'}`" in README
    assert len([line for line in program.splitlines() if line]) <= 25


def test_every_command_in_the_readme_exists() -> None:
    for line in "".join(blocks("bash")).splitlines():
        command = line.partition("#")[0].split()
        if command[0] == "mlhost":
            words = [word for word in command[1:] if not word.startswith("-")]
            mlhost(*(words[:2] if words[0] in ("user", "config", "tls") else words[:1]), "--help")
        else:
            assert os.access(ROOT / command[0], os.X_OK)


def test_every_script_the_readme_names_exists_and_measures_what_it_says() -> None:
    named = set(re.findall(r"`(?:\./)?((?:scripts/|\.ci/)\w+)((?: \w+)?)`", README))
    assert {("scripts/soak", ""), ("scripts/bench", " runtime"), (".ci/run", "")} <= named
    for script, subject in named:
        assert os.access(ROOT / script, os.X_OK)
        assert not subject or (ROOT / f"{script}es" / f"{subject.strip()}.py").is_file()


def test_the_table_lists_every_route_there_is() -> None:
    rows = re.findall(r"^\| (`(?:GET|POST|DELETE|PATCH).*?) \|", README, re.MULTILINE)
    listed = set()
    for row in rows:
        for part in re.split(r"; ", row):
            methods: list[str] = []
            for piece in re.findall(r"`([^`]+)`", part):
                method, _, path = piece.partition(" ")
                methods.append(method)
                if path:
                    listed |= {(each, path) for each in methods}
                    methods = []
    pages = {route for route in PERMISSIONS if route[1] == "/" or route[1].startswith(("/console", "/static"))}
    assert listed == set(PERMISSIONS) - pages - {("DELETE", "/login/refreshToken/{refreshToken}")}
