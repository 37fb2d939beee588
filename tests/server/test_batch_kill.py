"""A batch and SIGKILL: however often the server is killed while records run, each ends with one answer."""

import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Server, Start

pytestmark = pytest.mark.untraced

RECORDS, KILLS = 1000, 20
# Each record leaves a line when it runs, and waits until it is within what the present server may do.
CODE = """
import time
with open({runs!r}, 'a') as file:
    file.write('%d\\n' % x)
while x >= int(open({limit!r}).read() or 0):
    time.sleep(0.002)
time.sleep(0.002)
y = x * 3 + 1
"""


def committed(data: Path) -> dict[int, bytes]:
    """What a killed server has left in its ledger: position -> answer."""
    with closing(sqlite3.connect(data / "mlhost.sqlite")) as connection:
        [[done]] = connection.execute("select done from batches")
        found = dict(connection.execute("select position, answer from batch_results"))
    assert len(found) == done
    return found


@pytest.mark.timeout(240)
def test_every_record_ends_with_its_own_answer_once_although_the_server_is_killed_twenty_times(
    start: Start, tmp_path: Path
) -> None:
    chance, runs, limit, before = random.Random(5), tmp_path / "runs", tmp_path / "limit", dict[int, bytes]()
    limit.write_text("0")
    server = start()
    token = server.login()
    server.publish(token, "Long", CODE.format(runs=str(runs), limit=str(limit)))
    records = [{"x": n} for n in range(RECORDS)]
    started = server.call("POST", "/api/Long/1/batch", 202, token, json=records)
    batch = f"/api/Long/1/batch/{started['BatchExecutionId']}"
    for life in range(1, KILLS + 1):
        limit.write_text(str(life * RECORDS // (KILLS + 1)))
        time.sleep(chance.uniform(0, 0.3))
        server.kill()
        after = committed(tmp_path / "data")
        assert after.items() >= before.items(), "a result that was committed is another one"
        ran = {int(line) for line in runs.read_text().split()} if runs.exists() else set()
        runs.unlink(missing_ok=True)
        assert not ran & before.keys(), "a record that was done ran again"
        assert after.keys() - before.keys() <= ran
        before = after
        server = start(password=None)
    assert 0 < len(before) < RECORDS, "the kills did not meet a batch that runs"
    token = server.login()
    limit.write_text(str(RECORDS))
    answer = ended(server, token, batch)
    assert (answer["state"], answer["completedItemCount"]) == ("Complete", RECORDS)
    assert [result["outputParameters"] for result in answer["batchExecutionResults"]] == [
        {"y": 3 * n + 1} for n in range(RECORDS)
    ]
    assert all(result["success"] for result in answer["batchExecutionResults"])
    assert not {int(line) for line in runs.read_text().split()} & before.keys()
    for n in (0, RECORDS // 2, RECORDS - 1):
        assert server.call("POST", "/api/Long/1", token=token, json={"x": n}) == answer["batchExecutionResults"][n]


def test_a_batch_that_was_acknowledged_survives_a_kill_at_once(start: Start) -> None:
    server = start()
    token = server.login()
    server.publish(token, "Long", "y = x")
    ids = []
    for n in range(5):
        ids.append(server.call("POST", "/api/Long/1/batch", 202, token, json=[{"x": n}])["BatchExecutionId"])
        server.kill()
        server = start(password=None)
        token = server.login()
        assert server.call("GET", "/api/Long/1/batch", token=token) == ids
    for n, execution_id in enumerate(ids):
        [result] = ended(server, token, f"/api/Long/1/batch/{execution_id}")["batchExecutionResults"]
        assert result["outputParameters"] == {"y": n}


def ended(server: Server, token: str, batch: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while (answer := server.call("GET", batch, token=token))["state"] != "Complete":
        assert answer["state"] != "Failed", answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)
    return answer
