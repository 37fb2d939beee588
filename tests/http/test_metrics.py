"""What is counted of real calls, and how Prometheus and the charts get to see it."""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from yarl import URL

from mlhost.errors import Busy
from mlhost.executors.pool import Usage
from mlhost.host import Host
from mlhost.http.exposition import Exposition
from mlhost.http.server import serve
from mlhost.services import NOTHING, Service
from tests.parts import Api, host_of_its_own, names_and_types, signed_in, until

counter = itertools.count()

# Ends as it is told to.
ENDING = """
import os, time
if how == 'raise':
    raise ValueError('raised')
if how == 'wait':
    time.sleep(0.3)
if how == 'go on':
    time.sleep(60)
if how == 'die':
    os._exit(3)
pid = os.getpid()
"""
TAKES, GIVES = names_and_types(how="character"), names_and_types(pid="integer")


@pytest.fixture
async def name(admin: Api) -> AsyncIterator[str]:
    """A published service that no other test uses, in version 1."""
    name = f"Measured{next(counter)}"
    await publish(admin, name)
    yield name
    await admin("DELETE", f"/services/{name}/1")


async def publish(api: Api, name: str, version: str = "1") -> None:
    await api.publish(name, version, ENDING, inputParameterDefinitions=TAKES, outputParameterDefinitions=GIVES)


async def call(api: Api, name: str, how: str = "return", expect: int = 200) -> Any:
    return await api("POST", f"/api/{name}/1", expect, {"how": how})


async def rested(host: Host, name: str, idle: int = 1) -> None:
    """Wait until so many workers of the service rest; after its first call one is weighed."""
    await until(lambda: host.services.ready(name, "1").pool.seen() == Usage(0, idle, 0, 0))


async def scrape(api: Api) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """All samples by name and labels, as Prometheus' own client reads them."""
    text = (await api("GET", "/metrics")).decode()
    samples: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in read_text(text):
        for sample in family.samples:
            values = samples.setdefault(sample.name, {})
            assert frozenset(sample.labels.items()) not in values, "one sample, told twice"
            values[frozenset(sample.labels.items())] = sample.value
    return samples


async def of(api: Api, name: str, metric: str, version: str = "1") -> dict[str, float]:
    """The samples of a version, by the value of the one label there is beside its own; "" if there is none."""
    found = {}
    for labels, value in (await scrape(api)).get(metric, {}).items():
        own = dict(labels)
        if own.get("service") == name and own.pop("version") == version:
            del own["service"]
            found[",".join(own.values())] = value
    return found


# --- what is counted -------------------------------------------------------------------------------------------------


async def test_calls_are_counted_with_the_time_they_took(admin: Api, name: str) -> None:
    assert await of(admin, name, "mlhost_requests_total") == {"worker": 0}
    for how in ("return", "wait", "return"):
        await call(admin, name, how)
    assert await of(admin, name, "mlhost_requests_total") == {"worker": 3}
    assert await of(admin, name, "mlhost_request_seconds_count") == {"worker": 3}
    assert 0.3 < (await of(admin, name, "mlhost_request_seconds_sum"))["worker"] < 5
    buckets = await of(admin, name, "mlhost_request_seconds_bucket")
    in_quarter = {bound: count for bound, count in buckets.items() if "0.25" in bound.split(",")}
    assert list(in_quarter.values()) == [2]
    assert await of(admin, name, "mlhost_errors_total") == {}


async def test_calls_on_either_way_through_the_server_are_counted_once(admin: Api, name: str) -> None:
    body, headers = {"how": "return"}, {"Authorization": f"Bearer {admin.token}"}
    for extra in ({}, {"Connection": "close"}):  # plain, and aiohttp's
        async with admin.http.post(f"/api/{name}/1", json=body, headers=headers | extra) as answer:
            assert answer.status == 200
    assert await of(admin, name, "mlhost_requests_total") == {"worker": 2}


async def test_errors_are_counted_by_kind(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"limits": {"score_seconds": 0.5}, "pool": {"workers": 1, "queue": 0, "initial": 0}}
    async with host_of_its_own(tmp_path, **settings) as host, serve(host) as url, signed_in(url, "admin") as api:
        await publish(api, "Ending")
        await api("POST", "/api/Ending/1", 400, {"how": [1]})
        await rested(host, "Ending")
        await call(api, "Ending", "raise")
        await call(api, "Ending", "raise")
        assert "Stopped after 0.5 seconds" in (await call(api, "Ending", "go on"))["errorMessage"]
        await call(api, "Ending", "die", expect=503)
        await rested(host, "Ending")
        slow = asyncio.ensure_future(call(api, "Ending", "wait"))
        await until(lambda: host.services.ready("Ending", "1").pool.seen().busy == 1)
        await call(api, "Ending", expect=503)
        await slow
        assert await of(api, "Ending", "mlhost_errors_total") == {
            "invalid": 1,
            "code_failed": 2,
            "timeout": 1,
            "worker_lost": 1,
            "busy": 1,
        }
        assert await of(api, "Ending", "mlhost_requests_total") == {"worker": 7}
        assert await of(api, "Ending", "mlhost_request_seconds_count") == {"worker": 4}  # those that had an answer
        assert await of(api, "Ending", "mlhost_worker_restarts_total") == {"lost": 1}
        assert (host.metrics.now().requests, host.metrics.now().errors) == (7, 6)


async def test_a_version_whose_worker_does_not_start_is_counted_as_unavailable(tmp_path: Path) -> None:
    async with (
        host_of_its_own(tmp_path, pool={"retire_seconds": 0.05}) as host,
        serve(host) as url,
        signed_in(url, "admin") as api,
    ):
        sign = tmp_path / "started"
        init = f"import os\nif os.path.exists({str(sign)!r}): raise ValueError('not twice')\nopen({str(sign)!r}, 'w')"
        await api.publish("Once", "1", "y = 1", initCode=init)
        await rested(host, "Once", idle=0)
        await api("POST", "/api/Once/1", 503, {})
        assert await of(api, "Once", "mlhost_errors_total") == {"unavailable": 1}


async def test_calls_of_services_there_are_none_of_have_one_number_and_no_label(admin: Api) -> None:
    before = (await scrape(admin))["mlhost_unknown_calls_total"][frozenset()]
    for unknown in ("unheard-of", "neither"):
        await admin("POST", f"/api/{unknown}/1", 404, {})
    told = await scrape(admin)
    assert told["mlhost_unknown_calls_total"] == {frozenset(): before + 2}
    assert not [labels for values in told.values() for labels in values if "unheard-of" in dict(labels).values()]


async def answers(api: Api, **labels: str) -> float:
    told = (await scrape(api))["mlhost_http_requests_total"]
    return sum(value for key, value in told.items() if labels.items() <= dict(key).items())


async def test_requests_are_counted_by_route_and_status_and_no_word_of_theirs_is_a_label(
    admin: Api, norman: Api, name: str
) -> None:
    status, calls = {"method": "GET", "route": "/status"}, {"method": "POST", "route": "/api/{name}/{version}"}
    before = [await answers(admin, **status, status=code) for code in ("200", "403")]
    await admin("GET", "/status")
    await norman("GET", "/status", 403)
    assert [await answers(admin, **status, status=code) for code in ("200", "403")] == [before[0] + 1, before[1] + 1]
    before = [await answers(admin, **calls, status=code) for code in ("200", "400")]
    await call(admin, name)
    await admin("POST", f"/api/{name}/1", 200, {"how": "return"}, headers={"Connection": "close"})
    await admin("POST", f"/api/{name}/1", 400, {"how": [1]})
    await admin("POST", f"/api/{name}/1", 400, {"how": [1]}, headers={"Connection": "close"})
    assert [await answers(admin, **calls, status=code) for code in ("200", "400")] == [before[0] + 2, before[1] + 2]
    before_elsewhere = await answers(admin, method="-", route="-", status="404")
    await admin("GET", "/unheard/of", 404)
    await admin("PROPFIND", "/unheard/of", 404)
    await admin("PROPFIND", "/status", 405)
    assert await answers(admin, method="-", route="-", status="404") == before_elsewhere + 2
    text = (await admin("GET", "/metrics")).decode()
    assert "unheard/of" not in text
    assert "PROPFIND" not in text


async def test_what_calls_wait_for_a_worker_is_told_apart_from_what_they_take(admin: Api, name: str) -> None:
    await admin("POST", f"/services/{name}/1/pool", json={"InitialPoolSize": 1, "MaxPoolSize": 1})
    calls = asyncio.gather(*(call(admin, name, "wait") for _ in range(3)))
    await asyncio.sleep(0.1)
    assert await of(admin, name, "mlhost_waiting_calls") == {"": 2}
    assert await of(admin, name, "mlhost_service_workers") == {"busy": 1, "idle": 0, "starting": 0}
    await calls
    assert await of(admin, name, "mlhost_queue_seconds_count") == {"": 3}
    assert (await of(admin, name, "mlhost_queue_seconds_sum"))[""] == pytest.approx(0.9, abs=0.25)
    assert (await of(admin, name, "mlhost_request_seconds_sum"))["worker"] == pytest.approx(1.8, abs=0.4)
    await admin("DELETE", f"/services/{name}/1/pool")


async def test_a_worker_that_is_killed_is_counted_when_another_takes_its_place(
    admin: Api, host: Host, name: str
) -> None:
    pid = (await call(admin, name))["outputParameters"]["pid"]
    await rested(host, name)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: host.services.ready(name, "1").pool._idle[0].worker.lost)
    pid = (await call(admin, name))["outputParameters"]["pid"]
    assert await of(admin, name, "mlhost_worker_restarts_total") == {"lost": 1}
    await rested(host, name)
    waiting = asyncio.ensure_future(call(admin, name, "wait", expect=503))
    await asyncio.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    await waiting
    assert await of(admin, name, "mlhost_worker_restarts_total") == {"lost": 2}
    assert await of(admin, name, "mlhost_errors_total") == {"worker_lost": 1}


async def test_records_of_batches_are_counted_apart(admin: Api, name: str) -> None:
    records = [{"how": how} for how in ("return", "raise", "return")] + [{"how": [1]}]
    started = await admin("POST", f"/api/{name}/1/batch", 202, records)
    batch = f"/api/{name}/1/batch/{started['batchExecutionId']}"
    async with asyncio.timeout(20):
        while (await admin("GET", batch))["state"] != "Complete":
            await asyncio.sleep(0.02)
    assert await of(admin, name, "mlhost_batch_records_total") == {"": 4}
    assert await of(admin, name, "mlhost_batch_errors_total") == {"code_failed": 1, "invalid": 1}
    assert await of(admin, name, "mlhost_batch_record_seconds_count") == {"": 3}
    assert await of(admin, name, "mlhost_requests_total") == {"worker": 0}
    assert await of(admin, name, "mlhost_queue_seconds_count") == {}


# --- how long it is kept ---------------------------------------------------------------------------------------------


async def test_a_patch_keeps_the_counts_and_what_is_deleted_is_told_no_more(admin: Api) -> None:
    for version in ("1", "2"):
        await publish(admin, "Patched", version)
    await call(admin, "Patched")
    await admin("PATCH", "/services/Patched/1", json={"code": "pid = 0"})
    await call(admin, "Patched")
    assert await of(admin, "Patched", "mlhost_requests_total") == {"worker": 2}
    before = (await scrape(admin))["mlhost_service_versions"][frozenset()]
    await admin("DELETE", "/services/Patched/1")
    told = await scrape(admin)
    assert told["mlhost_service_versions"] == {frozenset(): before - 1}
    of_it = {("service", "Patched"), ("version", "1")}
    assert not [labels for values in told.values() for labels in values if labels >= of_it]
    assert await of(admin, "Patched", "mlhost_requests_total", "2") == {"worker": 0}
    await publish(admin, "Patched")
    assert await of(admin, "Patched", "mlhost_requests_total") == {"worker": 0}
    for version in ("1", "2"):
        await admin("DELETE", f"/services/Patched/{version}")


async def test_two_hosts_in_one_process_count_each_its_own_and_a_new_one_from_nothing(tmp_path: Path) -> None:
    for count in (1, 2):  # the second time on the data folders of the first
        async with (
            host_of_its_own(tmp_path / "a") as one,
            host_of_its_own(tmp_path / "b") as other,
            serve(one) as url,
            serve(other) as other_url,
            signed_in(url, "admin") as here,
            signed_in(other_url, "admin") as there,
        ):
            if count == 1:
                await publish(here, "Twin")
                await publish(there, "Twin")
            await call(here, "Twin")
            await call(here, "Twin")
            await call(there, "Twin")
            assert await of(here, "Twin", "mlhost_requests_total") == {"worker": 2}
            assert await of(there, "Twin", "mlhost_requests_total") == {"worker": 1}


# --- how it is told --------------------------------------------------------------------------------------------------


async def test_the_host_and_its_process_are_told(admin: Api, host: Host, session: str) -> None:
    del session
    told = await scrape(admin)
    single = {name: values[frozenset()] for name, values in told.items() if list(values) == [frozenset()]}
    assert single["mlhost_sessions"] == host.sessions.count() >= 1
    assert single["mlhost_workers"] == host.reserve.count() >= 1
    assert single["mlhost_sessions_max"] == host.config.sessions.max
    assert single["mlhost_workers_max"] == host.config.pool.max
    assert single["mlhost_batches_running"] == 0
    assert single["process_resident_memory_bytes"] > 1e7
    assert single["process_cpu_seconds_total"] > 0
    assert 0 < single["process_open_fds"] < single["process_max_fds"]
    assert [dict(labels)["version"] for labels in told["mlhost_build_info"]]


async def test_names_and_units_are_as_prometheus_has_them(admin: Api, name: str) -> None:
    await call(admin, name)
    families = list(read_text((await admin("GET", "/metrics")).decode()))
    assert len({family.name for family in families}) == len(families)
    for family in families:
        if family.name.startswith("mlhost_"):
            assert family.documentation.endswith(".")
            assert family.type in ("counter", "gauge", "histogram")
            told = {sample.name for sample in family.samples}
            if family.type == "counter":
                assert told <= {f"{family.name}_total"}
            if family.type == "histogram":
                assert family.name.endswith("_seconds")


async def test_openmetrics_is_answered_to_whoever_accepts_it(admin: Api, name: str) -> None:
    await call(admin, name)
    prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2"
    for accepted, kind, read in (
        (prometheus, "application/openmetrics-text", read_openmetrics),
        ("*/*", "text/plain", read_text),
        ("application/json", "text/plain", read_text),
    ):
        headers = {"Accept": accepted, "Authorization": f"Bearer {admin.token}"}
        async with admin.http.get("/metrics", headers=headers) as answer:
            assert (answer.status, answer.content_type, answer.charset) == (200, kind, "utf-8")
            assert answer.headers["Content-Encoding"] in ("gzip", "deflate")
            found = [
                sample
                for family in read(await answer.text())
                for sample in family.samples
                if sample.name == "mlhost_request_seconds_count" and sample.labels["service"] == name
            ]
            assert [sample.value for sample in found] == [1]


async def test_a_token_for_one_service_does_not_read_the_metrics_and_a_reader_s_does(admin: Api, rita: Api) -> None:
    for owner, scope, status in ((admin, "consume:one", 403), (rita, "publish", 200)):
        made = await owner("POST", "/tokens", 201, {"name": "scraper", "scope": scope})
        await Api(owner.http, made["token"])("GET", "/metrics", status)
        await owner("DELETE", f"/tokens/{made['id']}")


# --- what it costs ---------------------------------------------------------------------------------------------------


async def test_a_scrape_starts_and_ends_no_worker(tmp_path: Path) -> None:
    async with (
        host_of_its_own(tmp_path, pool={"initial": 0}) as host,
        serve(host) as url,
        signed_in(url, "admin") as api,
    ):
        await publish(api, "Quiet")
        await api("POST", "/services/Quiet/1/pool", json={"InitialPoolSize": 1, "MaxPoolSize": 1})
        pid = (await call(api, "Quiet"))["outputParameters"]["pid"]
        await rested(host, "Quiet")
        os.kill(pid, signal.SIGKILL)
        await rested(host, "Quiet", idle=0)
        for _ in range(3):
            assert await of(api, "Quiet", "mlhost_service_workers") == {"busy": 0, "idle": 0, "starting": 0}
        assert host.reserve.count() == 0
        await api("GET", "/services/Quiet/1/pool")  # this does
        await rested(host, "Quiet")


async def test_scrapes_during_calls_disturb_neither(admin: Api, name: str) -> None:
    async def call_often() -> None:
        for _ in range(100):
            assert (await call(admin, name))["success"]

    calls = asyncio.gather(*(call_often() for _ in range(4)))
    seen = [0.0]
    while not calls.done():
        seen.append((await of(admin, name, "mlhost_requests_total"))["worker"])
    await calls
    assert seen == sorted(seen)
    assert await of(admin, name, "mlhost_requests_total") == {"worker": 400}


@pytest.fixture
async def crowded(tmp_path: Path) -> AsyncIterator[Host]:
    """A host with a thousand services that have been called."""
    async with host_of_its_own(tmp_path) as host:
        for number in range(1000):
            service = Service(f"s{number}", "1", "amy", 0.0, None, None, replace(NOTHING, code="1"))
            ready = host.services._ready[service.name, "1"] = host.services._make_ready(service)
            ready.meter.queue.add(0.001)
            ready.meter.calls.answer(0.01)
            ready.meter.calls.refuse(Busy("full"))
        yield host


async def test_a_scrape_of_a_thousand_called_services_leaves_the_event_loop_free(crowded: Host) -> None:
    longest = 0.0
    scraping = asyncio.ensure_future(Exposition(crowded).text(""))
    while not scraping.done():
        before = thread_time()  # of the processor: other programs may be at work here
        await asyncio.sleep(0)
        longest = max(longest, thread_time() - before)
    text, _ = await scraping
    assert text.count(b"mlhost_request_seconds_sum{") == 1000
    assert longest < 0.1


async def test_who_reads_a_scrape_slowly_keeps_nobody_waiting(crowded: Host) -> None:
    async with serve(crowded) as url, signed_in(url, "admin") as api:
        address = URL(url)
        reader, writer = await asyncio.open_connection(address.host, address.port, limit=1)
        writer.write(f"GET /metrics HTTP/1.1\r\nHost: {address.authority}\r\n".encode())
        writer.write(f"Authorization: Bearer {api.token}\r\n\r\n".encode())
        assert await reader.read(8) == b"HTTP/1.1"  # and no more of some megabytes
        started = perf_counter()
        await asyncio.gather(api("GET", "/metrics"), api("GET", "/livez"), call(api, "unheard-of", expect=404))
        assert perf_counter() - started < 10
        writer.close()


# --- the history -----------------------------------------------------------------------------------------------------


async def test_the_history_is_told_as_json(admin: Api, host: Host, name: str) -> None:
    await call(admin, name)
    await call(admin, name, "raise")
    host.metrics.end_step()
    told = await admin("GET", "/metrics/history", params={"service": name, "version": "1", "seconds": "60"})
    assert told["stepSeconds"] == 5
    assert {len(value) for key, value in told.items() if key != "stepSeconds"} == {len(told["times"])}
    assert sum(told["requestsPerSecond"]) * 5 == pytest.approx(2)
    assert sum(told["errorsPerSecond"]) * 5 == pytest.approx(1)
    assert 0 < max(told["p50Milliseconds"], key=lambda value: value or 0) < 5000
    assert (await admin("GET", "/metrics/history", params={"seconds": "100000"}))["stepSeconds"] == 300
    assert (await admin("GET", "/metrics/history"))["stepSeconds"] == 5


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"service": "unheard-of"}, 404),
        ({"service": "unheard-of", "version": "1"}, 404),
        ({"version": "1"}, 400),
        ({"seconds": "soon"}, 400),
        ({"seconds": "0"}, 400),
        ({"seconds": "-1"}, 400),
        ({"seconds": "9999999999"}, 400),
    ],
)
async def test_a_history_there_is_none_of_is_refused(admin: Api, query: dict[str, str], status: int) -> None:
    await admin("GET", "/metrics/history", status, params=query)
