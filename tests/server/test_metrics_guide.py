"""The guide to metrics is true: its commands run, its settings let Prometheus in, it names what there is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import requests
import yaml  # type: ignore[import-untyped]
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from mlhost.errors import BY_CODE, Busy, Invalid, MlhostError, Unavailable, WorkerLost
from mlhost.executors import pool
from mlhost.metrics.tally import CODE_FAILED, TIMED_OUT
from tests.parts import PASSWORD, ROOT
from tests.server.conftest import Server, Start

GUIDE = (ROOT / "docs" / "how-to" / "metrics.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def rows() -> dict[str, tuple[str, set[str]]]:
    """The table: the type and the labels of each metric."""
    found = {}
    for names, kind, labels in re.findall(r"^\| (`mlhost_.*?) \| (\w+) \| (.*?) ?\|", GUIDE, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            found[name] = kind, set(re.findall(r"`(\w+)`", labels))
    return found


def families(server: Server, token: str) -> list[Metric]:
    return list(text_string_to_metric_families(server.call("GET", "/metrics", token=token).decode()))


def test_a_scrape_as_the_guide_has_it_set_up_is_answered(start: Start, tmp_path: Path) -> None:
    server = start()
    [commands], [settings] = blocks("bash"), blocks("yaml")
    environment = os.environ | {
        "MLHOST_PASSWORD": PASSWORD,
        "MLHOST_URL": server.url,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    for command in commands.splitlines():
        subprocess.run(
            ["bash", "-c", command.replace("http://127.0.0.1:12800", server.url)],
            input=f"{PASSWORD}\n{PASSWORD}\n",
            text=True,
            check=True,
            timeout=60,
            cwd=tmp_path,
            env=environment,
            start_new_session=True,  # no terminal: passwords are read from the input
        )
    [job] = yaml.safe_load(settings)["scrape_configs"]
    asked = job["authorization"]
    token = (tmp_path / Path(asked["credentials_file"]).name).read_text().strip()
    answer = requests.get(
        server.url + job["metrics_path"], headers={"Authorization": f"{asked['type']} {token}"}, timeout=10
    )
    assert answer.status_code == 200
    assert "mlhost_build_info" in answer.text
    assert job["static_configs"] == [{"targets": ["127.0.0.1:12800"]}]
    server.call("POST", "/sessions", 403, token, json={"runtimeType": "Python"})  # a Reader's token


def test_the_guide_names_every_metric_with_its_type_and_labels(start: Start) -> None:
    server = start()
    token = server.login()
    for code in ("y = 1", "raise ValueError('always')"):
        name = f"/{'Fine' if code == 'y = 1' else 'Failing'}/1"
        server.call("POST", f"/services{name}", 201, token, json={"runtimeType": "Python", "code": code})
        server.call("POST", f"/api{name}", 200, token, json={})
    told = {}
    for family in families(server, token):
        if family.name.startswith("mlhost_"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            name = f"{family.name}_total" if family.type == "counter" else family.name
            told[name] = family.type, labels or rows()[name][1]  # nothing of it yet
    assert told == rows()


def test_the_guide_s_kinds_and_reasons_are_those_there_are() -> None:
    [kinds] = re.findall(r"- `kind` of an error: (.*?)\. Calls", GUIDE, re.DOTALL)
    [reasons] = re.findall(r"- `reason` of a restart: (.*?)\n", GUIDE)
    counted = {kind.code for kind in (Invalid, Busy, WorkerLost, Unavailable, MlhostError)} | {CODE_FAILED, TIMED_OUT}
    named = set(re.findall(r"`(\w+)`", kinds))
    assert named == counted
    assert counted - {TIMED_OUT} <= BY_CODE.keys()
    assert set(re.findall(r"`(\w+)`", reasons)) == {pool.LOST, pool.CALLS, pool.GROWTH}


def test_the_guide_s_questions_are_about_metrics_there_are() -> None:
    [questions] = blocks("promql")
    asked = set(re.findall(r"mlhost_\w+", questions))
    parts = {name for row in rows() for name in (row, *(f"{row}_{part}" for part in ("bucket", "sum", "count")))}
    assert asked <= parts
    for labels in re.findall(r"by \((.*?)\)", questions):
        assert set(labels.split(", ")) <= {"service", "version", "le"}
