"""Scoring, side by side: mlhost and whatever peers are installed answer the same calls in one run.

Every server runs on one CPU and the load comes from another; all are up at the same time and asked in turn, and what
counts are ratios of medians over the rounds. mlhost checks a bearer token on every call, the peers have no door.
Peers besides aiohttp, each in an environment of its own: scripts/bench peers fastapi litserve bentoml mlserver mlflow
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forms
from load import Figures, Target, closed, open_loop, resident_mb
from machine import describe, launched, running
from models import BODIES, FOREST, REGRESSION, SVC_MODEL

from mlhost.realtime import serialize

HERE = Path(__file__).parent
PEERS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlhost" / "peers"
WORKS = {
    "noop": "no-op",
    "svc": "Iris SVC, one row",
    "forest": "RandomForest(100), one row",
    "rows": "LogisticRegression, 100 x 4",
}
PLACEMENTS = ("process", "inline")
REALTIME = {"svc": SVC_MODEL, "forest": FOREST, "rows": REGRESSION}  # the same models without code
OPEN_ROUNDS = 5  # of open loops to a round of others: short ones, as a machine has its moods
COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
CODE = {
    "noop": "iris_species = flower_data",
    "svc": "iris_species = [names[index] for index in svc.predict([flower_data])]",
    "forest": "iris_species = [names[index] for index in forest.predict([flower_data])]",
    "rows": "iris_species = [names[index] for index in regression.predict(flower_data)]",
}
MODELS = """
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

iris = load_iris()
names = [str(name) for name in iris.target_names]
svc = SVC().fit(iris.data, iris.target)
forest = RandomForestClassifier(100, random_state=0).fit(iris.data, iris.target)
regression = LogisticRegression(max_iter=1000).fit(iris.data, iris.target)
del iris
"""


@dataclass
class Contender:
    """A running server and what it was measured at: work and connections -> figures, one a round."""

    name: str
    targets: dict[str, Target]
    resident_mb: float  # of its first process, once its services have been called
    figures: dict[tuple[str, int], list[Figures]] = field(default_factory=dict)

    def median(self, work: str, connections: int, what: str) -> float | None:
        taken = self.figures.get((work, connections))
        return statistics.median(getattr(each, what) for each in taken) if taken else None


# --- the servers ---------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def peer(
    name: str,
    command: list[str],
    works: tuple[str, ...],
    cpus: set[int],
    form: Callable[[str], tuple[str, bytes]] = forms.plain,
) -> Iterator[Contender]:
    """A peer that listens on the port that stands for PORT in the command, and is asked in its own form."""
    port = free_port()
    command = [part.replace("PORT", str(port)) for part in command]
    asked = {work: form(work) for work in works}
    targets = {work: Target(f"http://127.0.0.1:{port}{path}", body, {}) for work, (path, body) in asked.items()}
    with launched(command, cpus, {"PYTHONPATH": str(HERE)}) as process:
        for work in works:
            _until_answered(targets[work])
        yield Contender(name, targets, resident_mb(process.pid))


def _until_answered(target: Target, seconds: float = 60) -> None:
    latest = time.monotonic() + seconds
    while True:
        try:
            ask("POST", target.url, target.body, target.headers)
        except OSError:
            if time.monotonic() > latest:
                raise SystemExit(f"{target.url} does not answer") from None
            time.sleep(0.1)
        else:
            return


def ask(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> Any:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} | headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


@contextmanager
def mlhost(cpus: set[int], **settings: str) -> Iterator[list[Contender]]:
    """Ours, with the services in each placement, and realtime ones: a contender for each."""
    environment = {"MLHOST_RUNTIME_ALLOWED_PLACEMENTS": ",".join(PLACEMENTS)} | settings
    command = [sys.executable, "-m", "mlhost", "serve", "--demo", "--ephemeral", "--port", "0"]
    with running(command, cpus, environment) as server:
        headers = {"Authorization": f"Bearer {server.token}"}

        def call(method: str, path: str, body: Any = None) -> Any:
            return ask(method, server.url + path, None if body is None else json.dumps(body).encode(), headers)

        session = call("POST", "/sessions", {"runtimeType": "Python"})["sessionId"]
        assert call("POST", f"/sessions/{session}/execute", {"code": MODELS})["success"]
        snapshot = call("POST", f"/sessions/{session}/snapshot", {"name": "models"})["snapshotId"]
        call("DELETE", f"/sessions/{session}")
        contenders = []
        for placement in PLACEMENTS:
            targets = {}
            for work, code in CODE.items():
                definition = {
                    "code": code,
                    "snapshotId": snapshot,
                    "runtimeType": "Python",
                    "placement": placement,
                    "inputParameterDefinitions": [
                        {"name": "flower_data", "type": "matrix" if work == "rows" else "vector"}
                    ],
                    "outputParameterDefinitions": [{"name": "iris_species", "type": "vector"}],
                }
                call("POST", f"/services/{work}/{placement}", definition)
                targets[work] = Target(f"{server.url}/api/{work}/{placement}", forms.plain(work)[1], headers)
                _until_answered(targets[work])
            contenders.append(Contender(f"mlhost, {placement}", targets, resident_mb(server.pid)))
        targets = {work: realtime(server.url, headers, work, model) for work, model in REALTIME.items()}
        yield [*contenders, Contender("mlhost, realtime", targets, resident_mb(server.pid))]


def realtime(url: str, headers: dict[str, str], work: str, model: Any) -> Target:
    """A model published as a realtime service, which is to be compiled."""
    form = b'--part\r\nContent-Disposition: form-data; name="model"; filename="model"\r\n\r\n%b\r\n--part--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=part"}
    content = form % serialize(model, columns=COLUMNS)
    address = url + ask("POST", f"{url}/realtime-services/{work}/realtime", content, headers | kind)
    [service] = ask("GET", f"{url}/services/{work}/realtime", None, headers)
    assert service["engine"] == "onnx", service
    columns = dict(zip(COLUMNS, zip(*(BODIES[work] if work == "rows" else [BODIES[work]]), strict=True), strict=True))
    target = Target(address, json.dumps({"inputData": columns}).encode(), headers)
    _until_answered(target)
    return target


def installed_peers(cpus: set[int], stack: ExitStack) -> Iterator[Contender]:
    """Bare aiohttp, and those of `scripts/bench peers`."""
    every = tuple(WORKS)
    script = HERE / "peers"
    yield stack.enter_context(
        peer("bare aiohttp", [sys.executable, str(script / "aiohttp_inline.py"), "PORT"], every, cpus)
    )
    for name, command, works, *form in (
        ("FastAPI", ["fastapi/bin/python", str(script / "fastapi_inline.py"), "PORT"], every),
        ("LitServe", ["litserve/bin/python", str(script / "litserve_api.py"), "PORT", "svc"], ("svc",)),
        (
            "BentoML",
            ["bentoml/bin/bentoml", "serve", "bentoml_service:Consume", "--working-dir", str(script)]
            + ["--host", "127.0.0.1", "--port", "PORT"],
            every,
        ),
        *(
            (
                name,
                ["mlserver/bin/python", str(script / "mlserver_start.py"), "PORT", workers],
                every,
                forms.open_inference,
            )
            for name, workers in (("MLServer", "1"), ("MLServer, no worker", "0"))
        ),
        (
            "MLflow",
            ["mlflow/bin/python", str(script / "mlflow_start.py"), "PORT", "svc"],
            ("svc",),
            forms.invocation,
        ),
    ):
        program = PEERS / command[0]
        if program.exists():
            yield stack.enter_context(peer(name, [str(program), *command[1:]], works, cpus, *form))
        else:
            print(f"{name} skipped: not installed (scripts/bench peers {command[0].partition('/')[0]})")


# --- the tables ----------------------------------------------------------------------------------------------------


def measure(contenders: list[Contender], works: list[str], rounds: int, seconds: float, cpu: int) -> None:
    for number in range(rounds + 1):
        for work in works:
            for connections in (1, 32):
                for contender in contenders:
                    if target := contender.targets.get(work):
                        figures = closed(target, connections, seconds if number else 1, cpu)
                        if number:  # the first round warms up
                            contender.figures.setdefault((work, connections), []).append(figures)


def _measured(contenders: list[Contender]) -> list[tuple[str, str]]:
    return [(work, title) for work, title in WORKS.items() if (work, 1) in contenders[0].figures]


def show(contenders: list[Contender]) -> None:
    for work, title in _measured(contenders):
        print(f"\n{title}\n{'':<20}{'1: p50 us':>11}{'p99':>9}{'32: req/s':>12}{'p99 us':>9}")
        for contender in contenders:
            if (work, 1) not in contender.figures:
                continue
            alone = [contender.median(work, 1, what) for what in ("p50", "p99")]
            many = [contender.median(work, 32, what) for what in ("rate", "p99")]
            print(f"{contender.name:<20}{alone[0]:>11,.0f}{alone[1]:>9,.0f}{many[0]:>12,.0f}{many[1]:>9,.0f}")


def ratios(contenders: list[Contender]) -> None:
    """Ours beside each peer: how many times its p50 with one connection, and its requests a second with 32."""
    ours = [each for each in contenders if each.name.startswith("mlhost")]
    peers = [each for each in contenders if each not in ours]
    print(f"\n{'ratios':<20}" + "".join(f"{other.name:>24}" for other in peers))
    for work, title in _measured(contenders):
        print(title)
        for contender in ours:
            if (work, 1) not in contender.figures:
                continue
            cells = ""
            for other in peers:
                if (work, 1) in other.figures:
                    p50 = contender.median(work, 1, "p50") / other.median(work, 1, "p50")
                    rate = contender.median(work, 32, "rate") / other.median(work, 32, "rate")
                    cells += f"{f'p50 {p50:.2f} x, req/s {rate:.2f} x':>24}"
                else:
                    cells += f"{'-':>24}"
            print(f"  {contender.name:<18}{cells}")


def half_loaded(contenders: list[Contender], works: list[str], rounds: int, seconds: float) -> None:
    """Open loops at half of what 32 connections got, the servers in turn; beside ours what bare aiohttp makes of it."""
    asked = [each for each in contenders if each.name.startswith(("mlhost", "bare"))]
    loads = [(each, work) for work in works if work in ("noop", "svc") for each in asked if work in each.targets]
    taken: dict[tuple[str, str], list[Figures]] = {(each.name, work): [] for each, work in loads}
    for _ in range(OPEN_ROUNDS * rounds):
        for each, work in loads:
            rate = each.median(work, 32, "rate") / 2
            taken[each.name, work].append(open_loop(each.targets[work], rate, seconds / OPEN_ROUNDS))
    print("\nopen loop at half of that")
    for (name, work), figures in taken.items():
        rate, p50, p99 = (statistics.median(getattr(each, what) for each in figures) for what in ("rate", "p50", "p99"))
        times = sorted(each.p99 / each.p50 for each in figures)
        told = f"p50 {p50:.0f} us, p99 {p99:.0f} us, {statistics.median(times):.1f} x, {times[0]:.1f} x at best"
        print(f"{name}, {WORKS[work]}, {rate:,.0f} a second: {told}")


def two_cores(cpus: list[int], seconds: float) -> None:
    """Two workers on all CPUs, beside one worker with one CPU for it and the server, and one on all of them."""
    rates = []
    for workers, own in (("2", cpus), ("1", cpus[:1]), ("1", cpus)):
        with mlhost(set(own), MLHOST_POOL_WORKERS=workers) as (process, *_):
            closed(process.targets["svc"], 32, 1, cpus[-1])
            rates.append(closed(process.targets["svc"], 32, seconds, cpus[-1]).rate)
    two, one, spread = rates
    print(f"Iris SVC, two cores, two workers: {two / one:.2f} x one on one core ({one:,.0f} a second),", end=" ")
    print(f"{two / spread:.2f} x one on two ({spread:,.0f})")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="scripts/bench scoring", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=[*WORKS])
    parser.add_argument("--seconds", type=float, default=3, help="of load for each figure of a round")
    arguments = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    servers = {cpus[0]}
    print(describe())
    with ExitStack() as stack:
        contenders = list(installed_peers(servers, stack))
        contenders += stack.enter_context(mlhost(servers))
        os.sched_setaffinity(0, {cpus[-1]})
        measure(contenders, arguments.works, arguments.rounds, arguments.seconds, cpus[-1])
        show(contenders)
        ratios(contenders)
        half_loaded(contenders, arguments.works, arguments.rounds, arguments.seconds)
        for contender in contenders:
            print(f"{contender.name}, resident memory of its first process: {contender.resident_mb:.0f} MB")
    os.sched_setaffinity(0, cpus)
    two_cores(cpus, arguments.seconds)


main()
