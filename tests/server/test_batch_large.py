"""A batch of a hundred thousand records: the server's memory, its other callers, and what it comes to."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.server.conftest import Server, Start
from tests.server.test_memory import growth

MOST_GROWTH_BYTES = 60 << 20
MOST_SECONDS_WAITED = 2.0  # by another caller, on a machine that has better things to do


@contextmanager
def other_caller(server: Server, token: str) -> Iterator[list[float]]:
    """Somebody who calls the service and publishes meanwhile; the seconds each answer took."""
    seconds: list[float] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.wait(0.05):
            for method, path, expect, body in (
                ("POST", "/api/Long/1", 200, {"x": 1}),
                ("PATCH", "/services/Other/1", 200, {"description": "changed"}),
            ):
                begun = time.monotonic()
                server.call(method, path, expect, token, json=body)
                seconds.append(time.monotonic() - begun)

    thread = threading.Thread(target=call)
    thread.start()
    yield seconds
    stop.set()
    thread.join()


@pytest.mark.parametrize(
    "count", [5_000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(300)])], ids="{} records".format
)
def test_a_large_batch_passes_through_a_server_that_stays_small_and_answers_others(start: Start, count: int) -> None:
    server = start()
    token = server.login()
    for name, code in (("Long", "y = x * 3"), ("Other", "y = x")):
        server.publish(token, name, code)
    records = json.dumps([{"x": n, "more": "abcdefghijklmnopqrstuvwxyz"} for n in range(count)])
    batches = "/api/Long/1/batch"
    answer = {}

    def run() -> None:
        nonlocal answer
        started = server.call("POST", batches, 202, token, data=records)["BatchExecutionId"]
        while (answer := server.call("GET", f"{batches}/{started}", token=token))["state"] != "Complete":
            time.sleep(0.2)
        server.call("DELETE", f"{batches}/{started}", token=token)

    server.call("POST", batches, 202, token, json=[{"x": 1}])  # what the first needs once does not grow with the size
    begun = time.monotonic()
    with other_caller(server, token) as seconds:
        grown = growth(server, run)
    print(
        f"{count} records in {time.monotonic() - begun:.1f} s with another caller beside, who waited at most"
        f" {max(seconds):.2f} s; the server grew by {grown / 2**20:.0f} MB"
    )
    results = answer["batchExecutionResults"]
    assert [result["outputParameters"]["y"] for result in results] == [3 * n for n in range(count)]
    assert grown < MOST_GROWTH_BYTES
    assert max(seconds) < MOST_SECONDS_WAITED
