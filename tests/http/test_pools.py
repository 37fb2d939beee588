"""Dedicated pools: workers kept started for a service, and what is told of them."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from mlhost.host import ensure_admin, open_host
from mlhost.http.server import serve
from mlhost.store.folder import DataFolder
from tests.parts import PASSWORD, Api, cheap_passwords, config_for_tests, signed_in

counter = itertools.count()
DEFAULT = config_for_tests().pool.workers


@pytest.fixture
async def service(admin: Api) -> str:
    """The path of a service that no other test uses."""
    name = f"Pooled{next(counter)}"
    await admin.publish(name, "1", "import os; pid = os.getpid()", outputParameterDefinitions=PID)
    return f"/services/{name}/1"


PID = [{"name": "pid", "type": "integer"}]


async def state(api: Api, service: str) -> Any:
    [found] = await api("GET", f"{service}/pool")
    return found


async def filled(api: Api, service: str) -> Any:
    async with asyncio.timeout(20):
        while (found := await state(api, service))["Status"] != "Success":
            assert found["Status"] == "Pending"
            await asyncio.sleep(0.02)
    return found


async def test_a_service_without_a_pool_of_its_own_tells_the_workers_it_has(admin: Api, service: str) -> None:
    found = await state(admin, service)
    address = found["ComputeNodeEndpoint"]
    assert address == f"{str(admin.http._base_url).rstrip('/')}/"
    assert found == {
        "ComputeNodeEndpoint": address,
        "computeNodeEndpoint": address,
        "Status": "NotFound",
        "status": "NotFound",
        "busy": 0,
        "idle": 1,  # the one it was tried out with
        "starting": 0,
        "waiting": 0,
        "initialPoolSize": 0,
        "maxPoolSize": DEFAULT,
        "calls": 0,
        "queueSeconds": 0.0,
        "runSeconds": 0.0,
    }


async def test_a_pool_is_filled_without_a_call_and_says_when_it_is(admin: Api) -> None:
    await admin.publish("SlowToStart", "1", "y = 1", initCode="import time; time.sleep(0.6)")
    service = "/services/SlowToStart/1"
    assert isinstance(await admin("POST", f"{service}/pool", json={"InitialPoolSize": 3, "MaxPoolSize": 4}), str)
    found = await state(admin, service)
    assert (found["status"], found["idle"], found["starting"]) == ("Pending", 1, 1)
    found = await filled(admin, service)
    assert (found["idle"], found["initialPoolSize"], found["maxPoolSize"]) == (3, 3, 4)
    await admin("DELETE", service)


async def test_calls_that_run_are_counted_as_busy_and_as_waiting(admin: Api) -> None:
    await admin.publish("Sleepy", "1", "import time; time.sleep(0.3)")
    await admin("POST", "/services/Sleepy/1/pool", json={"InitialPoolSize": 1, "MaxPoolSize": 1})
    calls = asyncio.gather(*(admin("POST", "/api/Sleepy/1", json={}) for _ in range(3)))
    seen = set()
    while not calls.done():
        found = await state(admin, "/services/Sleepy/1")
        seen.add((found["busy"], found["idle"], found["waiting"]))
    await calls
    assert (1, 0, 2) in seen
    found = await state(admin, "/services/Sleepy/1")
    assert found["idle"] == 1
    # The second waited for the first, the third for both.
    assert found["calls"] == 3
    assert found["queueSeconds"] > 0.8
    assert found["runSeconds"] >= 0.9
    await admin("DELETE", "/services/Sleepy/1")


async def test_the_most_workers_bound_how_many_calls_run_at_once(admin: Api, service: str) -> None:
    await admin("POST", f"{service}/pool", json={"MaxPoolSize": 1})
    address = service.replace("/services", "/api")
    answers = await asyncio.gather(*(admin("POST", address, json={}) for _ in range(8)))
    assert len({answer["outputParameters"]["pid"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("body", "least", "most"),
    [
        ({}, 0, DEFAULT),
        ({"InitialPoolSize": 0, "MaxPoolSize": 0}, 0, DEFAULT),
        ({"InitialPoolSize": 1}, 1, DEFAULT),
        ({"InitialPoolSize": 3}, 3, 3),
        ({"MaxPoolSize": 5}, 0, 5),
        ({"initialPoolSize": 1, "maxPoolSize": 1}, 1, 1),
    ],
)
async def test_sizes_that_are_not_given_are_the_servers_own(
    admin: Api, service: str, body: dict[str, int], least: int, most: int
) -> None:
    await admin("POST", f"{service}/pool", json=body)
    found = await filled(admin, service)
    assert (found["initialPoolSize"], found["maxPoolSize"]) == (least, most)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"InitialPoolSize": 3, "MaxPoolSize": 2}, "larger than MaxPoolSize"),
        ({"InitialPoolSize": 1, "MaxPoolSize": 0}, "larger than MaxPoolSize"),
        ({"InitialPoolSize": -1}, "InitialPoolSize: -1"),
        ({"MaxPoolSize": -1}, "MaxPoolSize: -1"),
        ({"InitialPoolSize": 1, "MaxPoolSize": 10**30}, "pool.max"),
        ({"InitialPoolSize": 81}, "pool.max"),
        ({"InitialPoolSize": 80}, "all pools together may keep 78"),
        ({"InitialPoolSize": "many"}, "InitialPoolSize"),
    ],
)
async def test_sizes_that_cannot_be_are_refused_and_change_nothing(
    admin: Api, service: str, body: dict[str, Any], said: str
) -> None:
    assert said in (await admin("POST", f"{service}/pool", 400, body))["message"]
    assert (await state(admin, service))["Status"] == "NotFound"


async def test_without_its_pool_a_service_has_the_servers_bounds_again(admin: Api, service: str) -> None:
    await admin("POST", f"{service}/pool", json={"InitialPoolSize": 3, "MaxPoolSize": 3})
    await filled(admin, service)
    assert isinstance(await admin("DELETE", f"{service}/pool"), str)
    found = await state(admin, service)
    assert (found["Status"], found["idle"], found["maxPoolSize"]) == ("NotFound", DEFAULT, DEFAULT)
    await admin("DELETE", f"{service}/pool")  # once more is nothing new


async def test_a_patched_version_keeps_its_pool_and_a_new_one_under_its_name_has_none(admin: Api, service: str) -> None:
    await admin("POST", f"{service}/pool", json={"InitialPoolSize": 2, "MaxPoolSize": 3})
    await admin("PATCH", service, json={"description": "patched"})
    found = await filled(admin, service)
    assert (found["idle"], found["maxPoolSize"]) == (2, 3)
    await admin("DELETE", service)
    await admin("GET", f"{service}/pool", 404)
    await admin("POST", service, 201, {"runtimeType": "Python", "code": "y = 1"})
    assert (await state(admin, service))["Status"] == "NotFound"


async def test_only_its_publisher_and_owners_give_a_service_a_pool(
    admin: Api, carol: Api, rita: Api, norman: Api, service: str
) -> None:
    name = f"Pooled{next(counter)}"
    await carol.publish(name, "1", "y = 1")
    await carol("POST", f"/services/{name}/1/pool", json={"InitialPoolSize": 1})
    await admin("POST", f"/services/{name}/1/pool", json={"InitialPoolSize": 2})
    await filled(rita, f"/services/{name}/1")
    for stranger in (carol, rita, norman):
        await stranger("POST", f"{service}/pool", 403, {"InitialPoolSize": 1})
        await stranger("DELETE", f"{service}/pool", 403)
    await norman("GET", f"{service}/pool", 403)


async def test_an_unknown_service_has_no_pool(admin: Api) -> None:
    for method, body in (("GET", None), ("POST", {}), ("DELETE", None)):
        await admin(method, "/services/Nowhere/1/pool", 404, body)


async def test_a_pool_is_filled_again_after_a_restart(tmp_path: Path) -> None:
    config = config_for_tests(runtime={"preload": ()})
    for is_first in (True, False):
        with DataFolder.open(tmp_path) as folder:
            async with open_host(config, folder, cheap_passwords()) as host:
                await ensure_admin(host, PASSWORD)
                async with serve(host) as url, signed_in(url, "admin") as api:
                    if is_first:
                        await api.publish("Kept", "1", "y = 1")
                        await api("POST", "/services/Kept/1/pool", json={"InitialPoolSize": 2, "MaxPoolSize": 3})
                    found = await filled(api, "/services/Kept/1")
                    assert (found["idle"], found["maxPoolSize"]) == (2, 3)


async def test_pools_together_leave_workers_to_sessions_to_patches_and_to_readyz(tmp_path: Path) -> None:
    config = config_for_tests(runtime={"preload": ()}, pool={"initial": 0, "max": 4})
    with DataFolder.open(tmp_path) as folder:
        async with open_host(config, folder, cheap_passwords()) as host:
            await ensure_admin(host, PASSWORD)
            async with serve(host) as url, signed_in(url, "admin") as api:
                for name in ("One", "Two"):
                    await api.publish(name, "1", "y = 1")
                await api("POST", "/services/One/1/pool", 400, {"InitialPoolSize": 4})
                await api("POST", "/services/One/1/pool", json={"InitialPoolSize": 1})
                told = await api("POST", "/services/Two/1/pool", 400, {"InitialPoolSize": 2})
                assert "those of other services keep 1" in told["message"]
                await api("POST", "/services/Two/1/pool", json={"InitialPoolSize": 1})
                await api("POST", "/services/One/1/pool", json={"InitialPoolSize": 1})  # its own do not count twice
                await filled(api, "/services/Two/1")
                await api("GET", "/readyz")
                await api("PATCH", "/services/One/1", json={"code": "y = 2"})
                await api("DELETE", await api.session())
