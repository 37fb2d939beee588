"""The memory of the server process while snapshots larger than it pass through."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.server.conftest import Server, Start

MOST_GROWTH_BYTES = 60 << 20


def peak_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def growth(server: Server, act: Callable[[], object]) -> int:
    """By how much the peak memory of the server exceeds what it had before, in bytes."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the peak begins anew
    before = peak_bytes(server)
    act()
    return peak_bytes(server) - before


@pytest.mark.parametrize(
    "megabytes", [64, pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(300)])], ids="{}MB".format
)
def test_a_large_array_is_snapshot_loaded_downloaded_and_published_through_a_server_that_stays_small(
    start: Start, megabytes: int
) -> None:
    server = start(preload="numpy")
    token = server.login()
    session = server.call("POST", "/sessions", 201, token, json={"runtimeType": "Python"})["sessionId"]

    def execute(session: str, code: str) -> str:
        done = server.call("POST", f"/sessions/{session}/execute", token=token, json={"code": code})
        assert done["success"], done
        return str(done["consoleOutput"])

    def download() -> int:
        headers = {"Authorization": f"Bearer {token}"}
        with requests.get(f"{server.url}/snapshots/{taken}", headers=headers, stream=True, timeout=60) as answer:
            return sum(len(chunk) for chunk in answer.iter_content(1 << 20))

    # A small one first: what every snapshot needs once is not what grows with the size.
    execute(session, "import numpy\na = numpy.arange(10.0)")
    small = server.call("POST", f"/sessions/{session}/snapshot", 201, token, json={})["snapshotId"]
    server.call("POST", f"/sessions/{session}/loadsnapshot/{small}", token=token)

    execute(session, f"a = numpy.random.default_rng(1).random({megabytes} * 125_000)\nprint(a.sum())")
    create = f"/sessions/{session}/snapshot"
    taken = ""

    def take() -> None:
        nonlocal taken
        taken = server.call("POST", create, 201, token, json={"strict": True})["snapshotId"]

    grown = {"take": growth(server, take)}
    other = server.call("POST", "/sessions", 201, token, json={"runtimeType": "Python"})["sessionId"]
    load = f"/sessions/{other}/loadsnapshot/{taken}"
    grown["load"] = growth(server, lambda: server.call("POST", load, token=token))
    assert execute(other, "print(a.sum())") == execute(session, "print(a.sum())")
    grown["download"] = growth(server, lambda: download() > megabytes * 10**6)
    service = {"runtimeType": "Python", "code": "y = float(a[0])", "snapshotId": taken}
    grown["publish"] = growth(server, lambda: server.call("POST", "/services/large/1", 201, token, json=service))
    assert max(grown.values()) < MOST_GROWTH_BYTES, grown
    print({name: f"{size / 2**20:.1f} MiB" for name, size in grown.items()})
