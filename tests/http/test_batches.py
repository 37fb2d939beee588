"""Batch executions over HTTP: begin, follow, fetch, cancel; and what is done to a service meanwhile."""

import asyncio
import io
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mlhost.auth.principal import Principal, Role
from mlhost.host import Host, ensure_admin, open_host
from mlhost.http.server import serve
from mlhost.store.folder import DataFolder
from tests.parts import PASSWORD, Api, cheap_passwords, config_for_tests, names_and_types, signed_in, until

counter = itertools.count()
ECHO = {
    "inputParameterDefinitions": names_and_types(x="numeric"),
    "outputParameterDefinitions": names_and_types(y="numeric"),
}
# Records wait for a file that the test makes; x < 0 does not wait.
GATED = "import os, time\nwhile x >= 0 and not os.path.exists({gate!r}): time.sleep(0.005)\ny = x * 3"
LOOPS = "while x >= 0: pass\ny = x"
ADMIN = Principal("admin", Role.OWNER)

MakeHost = Callable[..., Any]


@pytest.fixture
async def path(host: Host) -> AsyncIterator[str]:
    """The path of a service no other test uses; its workers are gone after the test."""
    name = f"Batched{next(counter)}"
    yield f"/api/{name}/1.0"
    for service in await host.services.list(ADMIN, name):
        await host.services.delete(ADMIN, name, service.version)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Records of GATED wait until it exists."""
    return tmp_path / "gate"


async def publish(api: Api, path: str, code: str, **fields: Any) -> None:
    _, _, name, version = path.split("/")
    await api.publish(name, version, code, **(ECHO | fields))


async def start(api: Api, path: str, records: Any, query: str = "") -> str:
    """Begin a batch; its path."""
    started = await api("POST", f"{path}/batch{query}", 202, records)
    assert started["BatchExecutionId"] == started["batchExecutionId"]
    return f"{path}/batch/{started['BatchExecutionId']}"


async def ended(api: Api, batch: str, seconds: float = 30) -> Any:
    async with asyncio.timeout(seconds):
        while (answer := await api("GET", batch))["state"] not in ("Complete", "Failed"):
            assert answer["batchExecutionResults"] == []
            await asyncio.sleep(0.02)
    return answer


async def seen(api: Api, batch: str, condition: Callable[[Any], bool]) -> Any:
    """The batch with its partial results, once they are as the condition wants them."""
    async with asyncio.timeout(15):
        while not condition(answer := await api("GET", f"{batch}?showPartialResults=true")):
            await asyncio.sleep(0.02)
    return answer


def values(answer: Any) -> list[Any]:
    return [result["outputParameters"].get("y") for result in answer["batchExecutionResults"]]


def xs(*numbers: float) -> list[dict[str, float]]:
    return [{"x": number} for number in numbers]


# --- beginning and following


async def test_a_batch_answers_each_record_in_its_order(admin: Api, path: str) -> None:
    await publish(admin, path, "y = x * 3")
    batch = await start(admin, path, xs(*range(50)), "?parallelCount=4")
    answer = await ended(admin, batch)
    assert (answer["state"], answer["completedItemCount"], answer["totalItemCount"]) == ("Complete", 50, 50)
    assert values(answer) == [3 * n for n in range(50)]
    assert answer["batchExecutionResults"][0] == await admin("POST", path, json={"x": 0})


async def test_the_answer_of_the_start_leads_to_the_batch(admin: Api, path: str) -> None:
    await publish(admin, path, "y = x")
    await admin("POST", f"{path}/batch", 202, xs(1))
    assert (await ended(admin, admin.headers["Location"]))["totalItemCount"] == 1


async def test_results_are_shown_when_all_are_there_unless_partial_ones_are_asked_for(
    admin: Api, path: str, gate: Path
) -> None:
    await publish(admin, path, GATED.format(gate=str(gate)))
    batch = await start(admin, path, xs(1, -1, -2), "?parallelCount=2")
    for spelling in ("showPartialResult=true", "showPartialResults=True", "SHOWPARTIALRESULTS=TRUE"):
        partial = await seen(admin, f"{batch}?{spelling}&x=", lambda answer: answer["completedItemCount"] == 2)
        assert (partial["state"], partial["totalItemCount"], values(partial)) == ("InProgress", 3, [-3, -6])
    for query in ("", "?showPartialResults=false"):
        plain = await admin("GET", batch + query)
        assert (plain["completedItemCount"], plain["batchExecutionResults"]) == (2, [])
    gate.touch()
    assert values(await ended(admin, batch)) == [3, -3, -6]


async def test_a_record_that_does_not_fit_or_raises_is_an_item_without_success(admin: Api, path: str) -> None:
    await publish(admin, path, "print('see', x)\ny = 1 / x")
    answer = await ended(admin, await start(admin, path, [{"x": 2}, {}, {"x": "abc"}, {"x": 0}, {"x": 4}]))
    results = answer["batchExecutionResults"]
    assert (answer["state"], answer["completedItemCount"]) == ("Complete", 5)
    assert [result["success"] for result in results] == [True, False, False, False, True]
    assert "'x'" in results[1]["errorMessage"]
    assert results[3]["errorMessage"] == "ZeroDivisionError: float division by zero"
    assert values(answer) == [0.5, None, None, None, 0.25]
    assert results[4]["consoleOutput"] == "see 4.0\n"
    assert all(set(result) == set(results[0]) for result in results)


async def test_a_record_that_kills_its_worker_is_tried_three_times_and_the_others_are_answered(
    admin: Api, path: str, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    code = f"open({str(runs)!r}, 'a').write('%d ' % x)\nimport os\nif x == 1: os._exit(3)\ny = x"
    await publish(admin, path, code)
    answer = await ended(admin, await start(admin, path, xs(*range(4)), "?parallelCount=1"))
    assert values(answer) == [0, None, 2, 3]
    assert (
        "lost during this call, 3 times: its code ended the process with exit status 3."
        in answer["batchExecutionResults"][1]["errorMessage"]
    )
    assert runs.read_text().split() == ["0", "1", "1", "1", "2", "3"]


async def test_numbers_that_are_not_json_are_read_as_in_a_single_call(admin: Api, path: str) -> None:
    await publish(admin, path, "y = 1.0 if x != x else x")
    started = await admin("POST", f"{path}/batch", 202, data=b'[{"x": NaN}, {"x": 2}]')
    assert values(await ended(admin, f"{path}/batch/{started['BatchExecutionId']}")) == [1, 2]


@pytest.mark.parametrize("text", [b"\xff", b"\\ud800"])
async def test_a_record_whose_text_is_damaged_spoils_no_other(admin: Api, path: str, text: bytes) -> None:
    await publish(admin, path, "y = 1")
    body = b'[{"x": 1}, {"x": "%b"}, {"x": 2}]' % text
    started = await admin("POST", f"{path}/batch", 202, data=body)
    assert values(await ended(admin, f"{path}/batch/{started['BatchExecutionId']}")) == [1, None, 1]


async def test_a_batch_of_no_records_is_complete(admin: Api, path: str) -> None:
    await publish(admin, path, "y = x")
    answer = await ended(admin, await start(admin, path, []))
    assert answer == {
        "state": "Complete",
        "completedItemCount": 0,
        "totalItemCount": 0,
        "batchExecutionResults": [],
    }


@pytest.mark.parametrize(
    ("query", "body", "words"),
    [
        ("", b'{"x": 1}', "array"),
        ("", b"", "array"),
        ("", b'[{"x": 1}, 5]', "Record 1"),
        ("", b'[{"x": 1}, [2], 3]', "Record 1"),
        ("", b'[{"x": 1}', "JSON"),
        ("?parallelCount=0", b"[]", "parallelCount"),
        ("?parallelCount=-1", b"[]", "parallelCount"),
        ("?parallelCount=2147483648", b"[]", "parallelCount"),
        ("?parallelCount=many", b"[]", "parallelCount"),
    ],
)
async def test_what_cannot_be_a_batch_is_refused_with_words(
    admin: Api, path: str, query: str, body: bytes, words: str
) -> None:
    await publish(admin, path, "y = x")
    assert words in (await admin("POST", f"{path}/batch{query}", 400, data=body))["message"]
    assert await admin("GET", f"{path}/batch") == []


async def test_a_flag_that_is_neither_true_nor_false_is_refused(admin: Api, path: str) -> None:
    await publish(admin, path, "y = x")
    batch = await start(admin, path, xs(1))
    assert "showPartialResult" in (await admin("GET", f"{batch}?showPartialResult=maybe", 400))["message"]


async def test_no_more_records_run_at_once_than_parallel_count_says(admin: Api, path: str, tmp_path: Path) -> None:
    code = f"""
import os, time
mine = {str(tmp_path)!r} + '/%d' % x
open(mine, 'w').close()
time.sleep(0.02)
y = len(os.listdir({str(tmp_path)!r}))
os.remove(mine)
"""
    await publish(admin, path, code)
    assert max(values(await ended(admin, await start(admin, path, xs(*range(30)), "?parallelCount=1")))) == 1
    assert max(values(await ended(admin, await start(admin, path, xs(*range(30)), "?parallelCount=2")))) == 2
    assert max(values(await ended(admin, await start(admin, path, xs(*range(30)), "?parallelcount=500")))) == 2


async def test_the_answers_are_those_that_the_service_s_own_document_describes(admin: Api, path: str) -> None:
    await publish(admin, path, "open('a.txt', 'w').close()\ny = x", outputFileNames=["a.txt"])
    document = await admin("GET", f"{path}/swagger.json")
    properties = {name: set(kind.get("properties", ())) for name, kind in document["definitions"].items()}
    started = await admin("POST", f"{path}/batch", 202, xs(1))
    assert properties["StartBatchExecutionResponse"] | {"BatchExecutionId"} == set(started)
    answer = await ended(admin, f"{path}/batch/{started['batchExecutionId']}")
    assert properties["BatchWebServiceResult"] == set(answer)
    assert properties["WebServiceResult"] == set(answer["batchExecutionResults"][0])
    states = document["definitions"]["BatchWebServiceResult"]["properties"]["state"]["enum"]
    assert answer["state"] == "Complete"
    assert "complete" in states  # the original's document has another case than its answers


# --- files


async def test_the_files_of_each_record_are_fetched_by_its_index_from_0(admin: Api, path: str) -> None:
    code = "if x: open('answer.csv', 'w').write('row %d' % x)\ny = x"
    await publish(admin, path, code, outputFileNames=["answer.csv", "never.txt"])
    batch = await start(admin, path, xs(0, 1, 2))
    answer = await ended(admin, batch)
    assert answer["batchExecutionResults"][0]["outputFiles"] == {"answer.csv": None, "never.txt": None}
    assert await admin("GET", f"{batch}/0/files") == []
    for index in (1, 2):
        assert await admin("GET", f"{batch}/{index}/files") == ["answer.csv"]
        assert await admin("GET", f"{batch}/{index}/files/answer.csv") == f"row {index}".encode()
    assert admin.headers["Content-Type"] == "application/octet-stream"
    for wrong in ("3/files", "-1/files", "x/files", f"{10**30}/files", "0/files/answer.csv", "1/files/never.txt"):
        await admin("GET", f"{batch}/{wrong}", 404)
        await admin("GET", f"{batch}/1/files/..%2Fanswer.csv", 404)


async def test_a_record_without_a_result_has_no_files_yet(admin: Api, path: str, gate: Path) -> None:
    await publish(admin, path, GATED.format(gate=str(gate)))
    batch = await start(admin, path, xs(1))
    assert "no result yet" in (await admin("GET", f"{batch}/0/files", 404))["message"]
    gate.touch()
    await ended(admin, batch)
    assert await admin("GET", f"{batch}/0/files") == []


# --- whose


async def test_ids_are_the_callers_own_and_of_one_version_and_an_owner_sees_all(
    admin: Api, carol: Api, rita: Api, path: str
) -> None:
    await publish(admin, path, "y = x")
    other = path.replace("1.0", "2.0")
    await publish(admin, other, "y = x")
    hers, his, others = (
        await start(carol, path, xs(1)),
        await start(rita, path, xs(2)),
        await start(carol, other, xs(3)),
    )
    ids = [each.rpartition("/")[2] for each in (hers, his, others)]
    assert await carol("GET", f"{path}/batch") == [ids[0]]
    assert await rita("GET", f"{path}/batch") == [ids[1]]
    assert await admin("GET", f"{path}/batch") == ids[:2]
    assert await rita("GET", f"{other}/batch") == []
    await ended(admin, hers)
    for api, batch in ((rita, hers), (carol, his), (carol, f"{path}/batch/{ids[2]}"), (admin, f"{path}/batch/x")):
        await api("GET", batch, 404)
        await api("DELETE", batch, 404)
        await api("GET", f"{batch}/0/files", 404)
        await api("GET", f"{batch}/0/files/answer.csv", 404)
    assert await admin("DELETE", hers) == [ids[0]]
    await carol("GET", hers, 404)


async def test_an_unknown_version_has_no_batches(admin: Api) -> None:
    for method, rest in (("GET", ""), ("POST", ""), ("GET", "/1"), ("DELETE", "/1"), ("GET", "/1/0/files")):
        assert "'Nobody'" in (await admin(method, f"/api/Nobody/1/batch{rest}", 404))["message"]


# --- cancelling


async def test_cancelling_interrupts_the_records_that_run_and_removes_everything(
    admin: Api, host: Host, path: str, tmp_path: Path
) -> None:
    beats = tmp_path / "beats"
    await publish(admin, path, f"while x >= 0: open({str(beats)!r}, 'a').write('.')\ny = x")
    batch = await start(admin, path, xs(-1, 1, 2, 3))
    await seen(admin, batch, lambda answer: answer["completedItemCount"] == 1)
    await until(beats.exists)
    begun = time.monotonic()
    assert await admin("DELETE", batch) == [batch.rpartition("/")[2]]
    assert time.monotonic() - begun < 3
    counted = beats.stat().st_size
    await asyncio.sleep(0.1)
    assert counted == beats.stat().st_size
    assert not host.batches.count()
    await admin("GET", batch, 404)
    await admin("DELETE", batch, 404)
    assert await admin("GET", f"{path}/batch") == []
    query = "select count(*) from batches join batch_inputs on batch = id where execution_id = ?"
    assert (await host.store.read(query, (batch.rpartition("/")[2],)))[0][0] == 0
    assert values({"batchExecutionResults": [await admin("POST", path, json={"x": -5})]}) == [-5]


async def test_of_two_who_cancel_at_once_one_is_told_it_is_gone(admin: Api, path: str) -> None:
    await publish(admin, path, LOOPS)
    batch = await start(admin, path, xs(1))

    async def delete() -> int:
        headers = {"Authorization": f"Bearer {admin.token}"}
        async with admin.http.delete(batch, headers=headers) as response:
            return response.status

    assert sorted(await asyncio.gather(delete(), delete())) == [200, 404]


async def test_an_answer_cut_short_by_a_deletion_does_not_look_whole(admin: Api, path: str) -> None:
    outputs = {"outputParameterDefinitions": names_and_types(y="character")}
    await publish(admin, path, "y = 'long' * 25_000", **outputs)
    batch = await start(admin, path, xs(*range(300)))
    await ended(admin, batch)
    async with admin.http.get(batch, headers={"Authorization": f"Bearer {admin.token}"}) as response:
        assert response.status == 200
        await admin("DELETE", batch)
        with pytest.raises(aiohttp.ClientError):
            await response.read()
    await admin("GET", f"{path}/batch")


# --- beside calls, patches and deletions


async def test_a_single_call_is_answered_at_once_while_a_batch_has_all_workers(
    admin: Api, path: str, gate: Path
) -> None:
    await publish(admin, path, GATED.format(gate=str(gate)))
    batch = await start(admin, path, xs(*range(20)))
    await seen(admin, batch, lambda answer: answer["state"] == "InProgress")
    await asyncio.sleep(0.2)
    for n in range(1, 6):
        begun = time.monotonic()
        assert (await admin("POST", path, json={"x": -n}))["outputParameters"] == {"y": -3 * n}
        assert time.monotonic() - begun < 2
    gate.touch()
    assert values(await ended(admin, batch)) == [3 * n for n in range(20)]


async def test_a_batch_goes_on_with_the_version_it_began_with_when_that_is_patched(
    admin: Api, path: str, gate: Path
) -> None:
    _, _, name, version = path.split("/")
    await publish(admin, path, GATED.format(gate=str(gate)))
    batch = await start(admin, path, xs(*range(30)))
    await seen(admin, batch, lambda answer: answer["state"] == "InProgress")
    await admin("PATCH", f"/services/{name}/{version}", json={"description": "the same"})
    await admin("PATCH", f"/services/{name}/{version}", json={"code": "y = -x"})
    assert (await admin("POST", path, json={"x": 5}))["outputParameters"] == {"y": -5}
    gate.touch()
    assert values(await ended(admin, batch)) == [3 * n for n in range(30)]
    assert values(await ended(admin, await start(admin, path, xs(7)))) == [-7]


async def test_the_snapshot_of_a_patched_version_stays_until_its_batches_have_ended(
    admin: Api, host: Host, session: str, path: str, gate: Path
) -> None:
    _, _, name, version = path.split("/")
    await admin.execute(session, "factor = 3")
    taken = (await admin("POST", f"{session}/snapshot", 201, {}))["snapshotId"]
    await publish(admin, path, GATED.format(gate=str(gate)).replace("* 3", "* factor"), snapshotId=taken)
    [blob] = [snapshot.blob for snapshot in await host.snapshots.list(ADMIN) if snapshot.id == taken]
    await admin("DELETE", f"/snapshots/{taken}")
    batch = await start(admin, path, xs(*range(30)))
    await seen(admin, batch, lambda answer: answer["state"] == "InProgress")
    empty = await admin.session()
    nothing = (await admin("POST", f"{empty}/snapshot", 201, {}))["snapshotId"]
    await admin("PATCH", f"/services/{name}/{version}", json={"code": "y = x", "snapshotId": nothing})
    await admin("DELETE", f"/snapshots/{nothing}")
    gate.touch()
    assert values(await ended(admin, batch)) == [3 * n for n in range(30)]
    assert not await host.store.read("select 1 from blobs where sha256 = ?", (blob,))
    await admin("DELETE", empty)


async def test_deleting_a_version_ends_its_batches_and_a_new_one_does_not_show_them(
    admin: Api, host: Host, path: str
) -> None:
    _, _, name, version = path.split("/")
    code = "import time\ntime.sleep(0.01)\ny = x"
    await publish(admin, path, code)
    complete = await start(admin, path, xs(-1))
    await ended(admin, complete)
    running = await start(admin, path, xs(*range(5000)))
    await seen(admin, running, lambda answer: answer["state"] == "InProgress")
    await admin("DELETE", f"/services/{name}/{version}")
    await admin("GET", running, 404)
    await publish(admin, path, code)
    assert await admin("GET", f"{path}/batch") == []
    await until(lambda: not host.batches.count(), 5)
    await admin("GET", complete, 404)


# --- bounds, failure, restarts


@pytest.fixture
def make_host(tmp_path: Path) -> MakeHost:
    """Hosts of their own on one data folder, each with its server and an Owner signed in."""

    class Opened:
        def __init__(self, **sections: dict[str, Any]) -> None:
            self.config = config_for_tests(runtime={"preload": ()}, **sections)

        async def __aenter__(self) -> tuple[Host, Api]:
            self.parts = self._open()
            return await anext(self.parts)

        async def __aexit__(self, *fault: object) -> None:
            await anext(self.parts, None)

        async def _open(self) -> AsyncIterator[tuple[Host, Api]]:
            with DataFolder.open(tmp_path / "data") as folder:
                async with open_host(self.config, folder, cheap_passwords()) as host:
                    await ensure_admin(host, PASSWORD)
                    async with serve(host) as url, signed_in(url, "admin") as api:
                        yield host, api

    return Opened


async def test_a_user_may_have_so_many_unfinished_batches_and_records_in_one(
    make_host: MakeHost, path: str, gate: Path
) -> None:
    async with make_host(batches={"max_open_per_user": 2, "max_records": 3}) as (_, api):
        await publish(api, path, GATED.format(gate=str(gate)))
        batches = [await start(api, path, xs(n)) for n in range(2)]
        refused = await api("POST", f"{path}/batch", 503, xs(1))
        assert "batches.max_open_per_user" in refused["message"]
        gate.touch()
        for batch in batches:
            await ended(api, batch)
        gate.unlink()
        at_once = await asyncio.gather(*(start(api, path, xs(1)) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(refused, AssertionError) for refused in at_once) == 3
        gate.touch()
        for batch in at_once:
            if isinstance(batch, str):
                await ended(api, batch)
        assert "batches.max_records" in (await api("POST", f"{path}/batch", 400, xs(1, 2, 3, 4)))["message"]
        await ended(api, await start(api, path, xs(1, 2, 3)))


async def test_a_batch_waits_while_all_workers_there_may_be_are_taken(make_host: MakeHost, path: str) -> None:
    async with make_host(pool={"initial": 0, "max": 1, "retire_seconds": 0.2}) as (host, api):
        await publish(api, path, "y = x")
        await until(lambda: host.reserve.count() == 0)
        session = await api.session()
        batch = await start(api, path, xs(1, 2))
        await asyncio.sleep(2.5)
        assert (await api("GET", batch))["state"] == "Ready"
        await api("DELETE", session)
        assert values(await ended(api, batch)) == [1, 2]


async def test_finished_batches_are_deleted_after_the_time_they_are_kept(make_host: MakeHost, path: str) -> None:
    async with make_host(batches={"keep_seconds": 0.4}) as (host, api):
        await publish(api, path, "y = x")
        await start(api, path, xs(1))
        async with asyncio.timeout(10):
            while await host.store.read("select 1 from batches"):
                await asyncio.sleep(0.05)
        assert await api("GET", f"{path}/batch") == []
        assert not await host.store.read("select 1 from batch_results")


async def test_what_runs_for_a_deleted_version_is_stopped_and_removed(make_host: MakeHost, path: str) -> None:
    async with make_host(batches={"keep_seconds": 0.4}) as (host, api):
        await publish(api, path, LOOPS)
        batch = await start(api, path, xs(1, 2, 3))
        await seen(api, batch, lambda answer: answer["state"] == "InProgress")
        _, _, name, version = path.split("/")
        await api("DELETE", f"/services/{name}/{version}")
        await api("GET", batch, 404)
        async with asyncio.timeout(5):
            while await host.store.read("select 1 from batches") or await host.store.read("select 1 from batch_inputs"):
                await asyncio.sleep(0.05)
        await until(lambda: not host.batches.count())


async def test_a_batch_whose_workers_do_not_start_fails_and_keeps_what_is_done(
    make_host: MakeHost, path: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    init = f"import os\nif os.path.exists({str(broken)!r}): raise OSError('the model is gone')"
    async with make_host() as (_, api):
        code = f"import os\nif x == 1: open({str(broken)!r}, 'w').close(); os._exit(1)\ny = x"
        await publish(api, path, code, initCode=init)
        answer = await ended(api, batch := await start(api, path, xs(0, 1, 2), "?parallelCount=1"))
        assert (answer["state"], answer["completedItemCount"], answer["totalItemCount"]) == ("Failed", 1, 3)
        assert values(answer) == [0]
        assert "the model is gone" in answer["errorMessage"]
        assert await api("GET", f"{batch}/0/files") == []


async def test_a_batch_goes_on_after_a_restart_and_runs_no_record_twice_that_was_done(
    make_host: MakeHost, path: str, tmp_path: Path, gate: Path
) -> None:
    runs = tmp_path / "runs"
    code = f"open({str(runs)!r}, 'a').write('%d ' % x)\n" + GATED.format(gate=str(gate))
    async with make_host() as (_, api):
        await publish(api, path, code)
        batch = await start(api, path, xs(-1, -2, 1, 2, -3))
        await seen(api, batch, lambda answer: answer["completedItemCount"] == 2)
        await until(lambda: sorted(runs.read_text().split()) == ["-1", "-2", "1", "2"])
    gate.touch()
    async with make_host() as (_, api):
        assert values(await ended(api, batch)) == [-3, -6, 3, 6, -9]
    assert sorted(runs.read_text().split()) == ["-1", "-2", "-3", "1", "1", "2", "2"]


async def test_a_disk_that_is_full_for_a_while_costs_no_result_and_no_second_run(
    make_host: MakeHost, path: str, tmp_path: Path, gate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = tmp_path / "runs"
    code = f"open({str(runs)!r}, 'a').write('%d ' % x)\n" + GATED.format(gate=str(gate)) + "\ny = 'long' * 50_000"
    outputs = {"outputParameterDefinitions": names_and_types(y="character")}
    async with make_host() as (host, api):

        async def let_pages(more: int) -> None:
            async with host.store.write() as db:
                [[count]] = await db.execute_fetchall("pragma page_count")
                await db.execute_fetchall(f"pragma max_page_count = {count + more}")

        await publish(api, path, code, **outputs)
        batch = await start(api, path, xs(*range(10)))
        await let_pages(20)
        gate.touch()
        await until(lambda: runs.exists() and len(runs.read_text().split()) == 10)
        await asyncio.sleep(0.5)
        assert (await api("GET", batch))["state"] == "InProgress"
        assert "a batch waits for the store" in caplog.text
        await let_pages(100_000)
        answer = await ended(api, batch)
        assert [len(value) for value in values(answer)] == [200_000] * 10
        assert sorted(map(int, runs.read_text().split())) == list(range(10))


async def test_what_was_half_stored_or_half_removed_is_gone_after_a_restart(make_host: MakeHost, path: str) -> None:
    async with make_host() as (host, api):
        await publish(api, path, "y = x")
        batches = [await start(api, path, xs(1, 2)) for _ in range(3)]
        for batch in batches:
            await ended(api, batch)
        async with host.store.write() as db:
            await db.execute("update batches set state = 'arriving' where id = 1")
            await db.execute("update batches set state = 'deleted' where id = 2")
        assert len(await api("GET", f"{path}/batch")) == 1
    async with make_host() as (host, api):
        assert len(await api("GET", f"{path}/batch")) == 1
        async with asyncio.timeout(5):
            while len(await host.store.read("select 1 from batches")) > 1:
                await asyncio.sleep(0.01)
        assert len(await host.store.read("select 1 from batch_results")) == 2


async def test_ten_batches_at_once_are_each_answered_with_their_own(admin: Api, path: str) -> None:
    await publish(admin, path, "y = x * 3")
    batches = await asyncio.gather(*(start(admin, path, xs(*range(n, n + 100))) for n in range(10)))
    for n, batch in enumerate(batches):
        assert values(await ended(admin, batch)) == [3 * x for x in range(n, n + 100)]


async def test_a_record_larger_than_what_is_stored_together_comes_through(admin: Api, path: str) -> None:
    types = {
        "inputParameterDefinitions": names_and_types(x="character"),
        "outputParameterDefinitions": names_and_types(y="integer"),
    }
    await publish(admin, path, "y = len(x)", **types)
    lengths = [1, 3_000_000, 2, 600_000, 600_000]
    body = json.dumps([{"x": "a" * length} for length in lengths]).encode()
    started = await admin("POST", f"{path}/batch", 202, data=io.BytesIO(body))
    assert values(await ended(admin, f"{path}/batch/{started['BatchExecutionId']}")) == lengths
