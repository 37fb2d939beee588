"""What sessions and workers cost in one run of this machine, beside what they may cost.

Every figure is a median and taken by way of what the server itself uses. Nothing is pinned to a processor, and the
loop is the server's (uvloop). The memory of a worker is its share (PSS) while as many live as the bench opens: what
the template imported is counted once among them all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop
from figures import HEAD, Figure
from machine import Server, describe, running

from mlhost.auth.principal import Principal, Role
from mlhost.config import Config
from mlhost.executors import Executor
from mlhost.executors.forking import ProcessSettings
from mlhost.executors.inline import InlineExecutor
from mlhost.executors.interpreter import IS_SUPPORTED, InterpreterExecutor
from mlhost.executors.process import ProcessExecutor
from mlhost.host import Host, open_host
from mlhost.runtime.program import ProgramSpec, prepare, score
from mlhost.store.folder import DataFolder

WHO = Principal("bench", Role.OWNER)
ROUND_TRIP_US = {"process": 120, "inline": 70}  # targets; the other placements are only measured
PAYLOAD = json.dumps({"x": "x" * 1000}).encode()  # 1 KB there, and as much back
ECHO = ProgramSpec(code="y = x", init_code="", inputs=[("x", "character")], outputs=[("y", "character")], files=[])
COMPUTE = "total = 0\nfor number in range({steps}):\n    total += number % 7"
COMPUTE_SECONDS = 0.4  # about, of one run of it
PASSWORD = "bench password"
REFILL_SECONDS = 0.1  # between two openings, for the reserve to start another spare worker


async def measure(rounds: int, calls: int, workers: int, sessions: int) -> AsyncIterator[Figure]:
    """All figures, one after the other."""
    yield Figure("new session, first block run, from a warm pool", await opening(2, rounds), "ms", 15)
    yield Figure("new session, first block run, without", await opening(0, rounds), "ms", 60)
    async for placement, times in round_trips(calls):
        target = ROUND_TRIP_US.get(placement)
        yield Figure(f"service call in a worker and back, 1 KB, {placement}", times, "us", target)
    shares, own = await memory(workers)
    yield Figure(f"memory of an idle worker, its share with {workers} of them", shares, "MB", 15)
    yield Figure("memory of an idle worker, nobody else's", own, "MB")
    yield Figure(
        "two computing sessions at once, against in turn", await parallel(rounds // 5), "x", 1.8, at_least=True
    )
    yield Figure(f"growth of the server with {sessions} idle sessions", [growth(sessions)], "MB", 20)


# --- sessions --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def hosted(initial: int, most: int) -> AsyncIterator[Host]:
    """A host whose template has done its imports."""
    config = Config()
    config = replace(
        config,
        pool=replace(config.pool, initial=initial),
        sessions=replace(config.sessions, max=most, max_per_user=most),
    )
    with DataFolder.ephemeral() as folder:
        async with open_host(config, folder) as host:
            await host.sessions.close(WHO, await opened(host))
            yield host


async def opened(host: Host) -> str:
    """The id of a new session that has run its first block."""
    session = await host.sessions.open(WHO)
    await run(host, session.id, "1")
    return session.id


async def run(host: Host, session_id: str, code: str, *outputs: str) -> list[Any]:
    """The values of the outputs."""
    outcome, _ = await host.sessions.execute(WHO, session_id, code, [], list(outputs))
    assert not outcome["error"], outcome["error"]
    return [json.loads(output["value"]) for output in outcome["outputs"]]


async def opening(initial: int, rounds: int) -> list[float]:
    """Milliseconds until a new session has run its first block, with so many spare workers."""
    times = []
    async with hosted(initial, 10) as host:
        for _ in range(rounds):
            await asyncio.sleep(REFILL_SECONDS)
            begun = time.perf_counter()
            session_id = await opened(host)
            times.append((time.perf_counter() - begun) * 1e3)
            await host.sessions.close(WHO, session_id)
    return times


async def memory(count: int) -> tuple[list[float], list[float]]:
    """MB of each of so many workers that have run a block: its share, and what is its alone."""
    async with hosted(0, count) as host:
        ids = [await opened(host) for _ in range(count)]
        pids = [(await run(host, each, "import os\npid = os.getpid()", "pid"))[0] for each in ids]
        rows = [smaps(pid) for pid in pids]
    return [row["Pss"] for row in rows], [row["Private_Clean"] + row["Private_Dirty"] for row in rows]


def smaps(pid: int) -> dict[str, float]:
    """The memory of a process in MB, by its kinds."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}


async def parallel(rounds: int) -> list[float]:
    """How many times as fast two computing sessions are at once as one after the other."""
    gains = []
    async with hosted(0, 2) as host:
        first, second = await opened(host), await opened(host)

        async def compute(session_id: str) -> None:
            await run(host, session_id, COMPUTE.format(steps=steps))

        steps = 1_000_000
        steps = int(steps * COMPUTE_SECONDS / await seconds(lambda: compute(first)))
        for _ in range(max(3, rounds)):
            in_turn = await seconds(lambda: compute(first)) + await seconds(lambda: compute(second))
            at_once = await seconds(lambda: asyncio.gather(compute(first), compute(second)))
            gains.append(in_turn / at_once)
    return gains


async def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


# --- calls -----------------------------------------------------------------------------------------------------------


def placements(work: Path) -> dict[str, Executor]:
    """An executor of every placement that this Python has."""
    made: dict[str, Executor] = {
        "process": ProcessExecutor(work, ProcessSettings(preload=Config().runtime.preload)),
        "inline": InlineExecutor(work),
    }
    if IS_SUPPORTED:
        made["interpreter"] = InterpreterExecutor(work)
    return made


async def round_trips(calls: int) -> AsyncIterator[tuple[str, list[float]]]:
    """Microseconds of calls of a program that gives back what it got, for each placement."""
    with tempfile.TemporaryDirectory() as folder:
        for placement, executor in placements(Path(folder)).items():
            worker = await executor.open(deadline_seconds=60)
            await worker.call(prepare, ECHO)
            times = []
            for number in range(calls + calls // 10):
                begun = time.perf_counter()
                await worker.call(score, PAYLOAD)
                if number >= calls // 10:  # those before warm up
                    times.append((time.perf_counter() - begun) * 1e6)
            await worker.close()
            await executor.close()
            yield placement, times


# --- a whole server --------------------------------------------------------------------------------------------------


def growth(count: int) -> float:
    """MB by which the process of the server grows when so many sessions are opened that run one block each."""
    environment = {
        "MLHOST_ADMIN_PASSWORD": PASSWORD,
        "MLHOST_SESSIONS_MAX": str(count),
        "MLHOST_SESSIONS_MAX_PER_USER": str(count),
        "MLHOST_POOL_MAX": str(count + 10),
        "MLHOST_LOGS_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "mlhost", "serve", "--ephemeral", "--port", "0"]
    with running(command, environment=environment) as server:
        token = ask(server, "POST", "/login", "", {"username": "admin", "password": PASSWORD})["access_token"]

        def open_one() -> str:
            session = ask(server, "POST", "/sessions", token, {"runtimeType": "Python"})["sessionId"]
            assert ask(server, "POST", f"/sessions/{session}/execute", token, {"code": "x = 1"})["success"]
            return session

        for _ in range(10):  # so that what is loaded or allocated but once is not counted
            ask(server, "DELETE", f"/sessions/{open_one()}", token)
        before = smaps(server.pid)["Rss"]
        for _ in range(count):
            open_one()
        return smaps(server.pid)["Rss"] - before


def ask(server: Server, method: str, path: str, token: str, body: Any = None) -> Any:
    """The JSON of one answer."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(server.url + path, data, headers, method=method)) as answer:
        text = answer.read()
        return json.loads(text) if text else None


async def main() -> None:
    """Parse, measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench runtime", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="sessions opened for a figure")
    parser.add_argument("--calls", type=int, default=5000, help="calls of each placement")
    parser.add_argument("--workers", type=int, default=20, help="idle workers whose memory is measured")
    parser.add_argument("--sessions", type=int, default=200, help="idle sessions of the server")
    arguments = parser.parse_args()
    print(describe())
    print(HEAD)
    async for figure in measure(**vars(arguments)):
        print(figure, flush=True)


uvloop.run(main())
