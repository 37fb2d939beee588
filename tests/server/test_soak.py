"""Endurance: what thousands of sessions leave behind in the server."""

import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.parts import until
from tests.server.conftest import Server, Start

CYCLES = 2000  # sessions opened, used and closed
WARMING = 400  # of them, before anything is compared
BATCH = 50  # cycles between two looks at the server
AT_ONCE = 4
SPARE = 2  # workers in the reserve: pool.initial
MAX_GROWTH_MB = 1.0  # in a thousand cycles
CODE = "import math\nvalues = [math.sqrt(n) for n in range(1000)]\nprint(len(values))"
POOL_THREADS = min(32, (os.cpu_count() or 1) + 4)  # that asyncio starts one by one for blocking work, and keeps


@dataclass(frozen=True)
class Look:
    """What a process of the server's holds while nobody asks it anything."""

    descriptors: int
    threads: int
    below: int  # processes that it or its children started
    resident_mb: float

    @classmethod
    def at(cls, pid: int) -> "Look":
        process = Path(f"/proc/{pid}")
        [resident] = [line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS")]
        return cls(
            descriptors=len(list((process / "fd").iterdir())),
            threads=len(list((process / "task").iterdir())),
            below=len(below(pid)),
            resident_mb=int(resident.split()[1]) / 1024,
        )


def below(pid: int) -> set[int]:
    """The process ids of all that this one or its children started."""
    children = {
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    }
    return children.union(*map(below, children))


def cycle(server: Server, token: str) -> None:
    """A session from its opening to its end."""
    session = server.call("POST", "/sessions", 201, token, json={"runtimeType": "Python"})["sessionId"]
    request = {"code": CODE, "outputParameters": ["values"]}
    done = server.call("POST", f"/sessions/{session}/execute", token=token, json=request)
    assert done["consoleOutput"] == "1000\n"
    assert len(done["outputParameters"][0]["value"]) == 1000
    server.call("DELETE", f"/sessions/{session}", token=token)


def growth(looks: list[Look]) -> float:
    """MB in a thousand cycles, fitted."""
    cycles = [number * BATCH / 1000 for number in range(len(looks))]
    return statistics.linear_regression(cycles, [look.resident_mb for look in looks]).slope


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_two_thousand_sessions_leave_nothing_behind(start: Start, tmp_path: Path) -> None:
    server = start()
    token = server.login()
    await until(lambda: any(map(below, below(server.process.pid))))
    [template] = (pid for pid in below(server.process.pid) if below(pid))
    watched = {"server": server.process.pid, "template": template}
    looks: dict[str, list[Look]] = {name: [] for name in watched}
    with ThreadPoolExecutor(AT_ONCE) as clients:
        for done in range(BATCH, CYCLES + 1, BATCH):
            list(clients.map(lambda _: cycle(server, token), range(BATCH)))
            await until(lambda: len(below(template)) == SPARE)
            for name, pid in watched.items():
                if done >= WARMING:
                    looks[name].append(Look.at(pid))
    print()
    for name, seen in looks.items():
        print(f"{name} after {WARMING} sessions:  {seen[0]}")
        print(f"{name} after {CYCLES} sessions: {seen[-1]}")
        print(f"{name}: {growth(seen):+.2f} MB in a thousand sessions, fitted")
    for seen in looks.values():
        assert seen[-1].descriptors <= seen[0].descriptors + AT_ONCE, "connections may be closing yet"
        assert seen[-1].below == seen[0].below
        assert seen[-1].threads <= seen[0].threads + POOL_THREADS
        assert growth(seen) < MAX_GROWTH_MB
    await until(lambda: len(list((tmp_path / "data" / "work").iterdir())) <= SPARE)  # the folders of workers
    assert server.stop()[0] == 0
