"""Realtime services over HTTP: a model is published and changed as the original's client does; the rest is shared."""

import asyncio
import io
import itertools
import json
import platform
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from sklearn.base import BaseEstimator
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from mlhost.auth.principal import Principal, Role
from mlhost.engines import Engines
from mlhost.executors import parcels
from mlhost.host import Host, ensure_admin, open_host
from mlhost.http.server import serve
from mlhost.realtime import serialize
from mlhost.scoring import score_on
from mlhost.store.blobs import Blobs
from mlhost.store.folder import DataFolder
from tests.parts import PASSWORD, Api, cheap_passwords, config_for_tests, signed_in

counter = itertools.count()
iris = load_iris(as_frame=True)
X, y = iris.data, iris.target
MODEL = serialize(SVC().fit(X, y))
SYSTEM = Principal("system", Role.OWNER)
ROWS = X.iloc[[0, 60]].to_dict(orient="list")


@pytest.fixture
def name() -> str:
    """A service name no other test uses."""
    return f"Realtime{next(counter)}"


def form(model: bytes | None = None, **texts: str) -> FormData:
    made = FormData(default_to_multipart=True)
    for key, text in texts.items():
        made.add_field(key, text)
    if model is not None:
        made.add_field("model", io.BytesIO(model), filename="model")
    return made


async def publish(api: Api, path: str, model: bytes | None = MODEL, expect: int = 201, **texts: str) -> Any:
    return await api("POST", f"/realtime-services/{path}", expect, data=form(model, **texts))


async def predicted(api: Api, path: str, rows: Any = ROWS) -> Any:
    answer = await api("POST", f"/api/{path}", json={"inputData": rows})
    assert answer["success"], answer["errorMessage"]
    return answer["outputParameters"]


# --- publishing


async def test_a_published_model_is_listed_described_and_answers(admin: Api, name: str) -> None:
    address = await publish(admin, f"{name}/1.0", description="which iris", operationId="rate")
    assert address == f"/api/{name}/1.0"
    assert admin.headers["Location"] == address
    [found] = await admin("GET", f"/services/{name}/1.0")
    assert found.pop("creationTime")
    assert found.pop("pythonVersion") == platform.python_version()
    assert len(found.pop("snapshotId")) == 36
    assert found.pop("engineReason").startswith("compiled, given numbers in double precision; its answers were the est")
    assert found == {
        "engine": "onnx",
        "name": name,
        "version": "1.0",
        "versionPublishedBy": "admin",
        "runtimeType": "Realtime",
        "initCode": None,
        "code": None,
        "description": "which iris",
        "operationId": "rate",
        "inputParameterDefinitions": [{"name": "inputData", "type": "data.frame"}],
        "outputParameterDefinitions": [{"name": "outputData", "type": "data.frame"}],
        "outputFileNames": [],
        "myPermissionOnService": "read/write",
    }
    assert [each["version"] for each in await admin("GET", f"/services/{name}")] == ["1.0"]
    assert await admin("POST", address, json={"inputData": ROWS | {"species": ["?", "?"]}}) == {
        "success": True,
        "errorMessage": "",
        "consoleOutput": "",
        "changedFiles": [],
        "outputFiles": {},
        "outputParameters": {"outputData": {"Prediction": [0, 1]}},
    }


async def test_without_a_version_the_server_makes_one(admin: Api, name: str) -> None:
    address = await publish(admin, name)
    [found] = await admin("GET", f"/services/{name}")
    assert address == f"/api/{name}/{found['version']}"
    assert len(found["version"]) == 36
    assert (found["description"], found["operationId"]) == (None, None)


async def test_the_request_of_the_originals_client_is_understood_to_the_byte(admin: Api, name: str) -> None:
    boundary = "75b2b8f2ac7ffccf46cd14c34b606aff"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="description"\r\n\r\nrt\r\n--{boundary}\r\n'
        'Content-Disposition: form-data; name="model"; filename="model"\r\n\r\n'
    ).encode() + (MODEL + f"\r\n--{boundary}--\r\n".encode())
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    assert await admin("POST", f"/realtime-services/{name}/1", 201, data=body, headers=headers) == f"/api/{name}/1"
    [found] = await admin("GET", f"/services/{name}/1")
    assert found["description"] == "rt"
    assert await predicted(admin, f"{name}/1") == {"outputData": {"Prediction": [0, 1]}}


async def test_the_parts_may_come_in_any_order_and_others_are_passed_over(admin: Api, name: str) -> None:
    made = FormData(default_to_multipart=True)
    made.add_field("more", "x" * 1000)
    made.add_field("model", MODEL, filename="iris.blob", content_type="application/octet-stream")
    made.add_field("Description", "ünder")
    await admin("POST", f"/realtime-services/{name}/1", 201, data=made)
    assert (await admin("GET", f"/services/{name}/1"))[0]["description"] == "ünder"


class Exits(BaseEstimator):  # type: ignore[misc]
    def fit(self) -> "Exits":
        self.fitted_ = True
        return self

    def predict(self, rows: Any) -> Any:
        import os

        os._exit(5)


class Fails(Exits):
    def predict(self, rows: Any) -> Any:
        raise RuntimeError("as ever")


def by_value(model: Any) -> bytes:
    """Serialized as from a script: workers cannot import the tests."""
    import sys

    import cloudpickle

    here = sys.modules[type(model).__module__]
    cloudpickle.register_pickle_by_value(here)
    try:
        return serialize(model)
    finally:
        cloudpickle.unregister_pickle_by_value(here)


@pytest.mark.parametrize(
    ("model", "texts", "words"),
    [
        (b"blob\x00\x01model", {}, "mlhost.realtime.serialize(model)"),
        (b"not even that", {}, "mlhost.realtime.serialize(model)"),
        (b"", {}, "the file is empty; it is to be the bytes by mlhost.realtime.serialize(model)"),
        (None, {"description": "nothing else"}, "needs a model, as bytes by mlhost.realtime.serialize(model)"),
        (MODEL[:-500], {}, "The model does not load: "),
        (by_value(Exits().fit()), {}, "Opening the model failed: its code ended the process with exit status 5"),
        (by_value(Fails().fit()), {}, "The model does not predict: RuntimeError: as ever"),
        (MODEL, {"operationId": "not valid"}, "operationId"),
    ],
    ids=["foreign", "other", "empty", "missing", "damaged", "exits", "fails", "operationId"],
)
async def test_a_model_that_could_never_work_is_refused_with_the_reason_and_not_stored(
    admin: Api, host: Host, name: str, model: bytes | None, texts: dict[str, str], words: str
) -> None:
    blobs = "select count(*) from blobs"
    before = (await host.store.read(blobs))[0][0]
    told = await publish(admin, f"{name}/1", model, 400, **texts)
    assert words in told["message"]
    assert await admin("GET", f"/services/{name}") == []
    assert (await host.store.read(blobs))[0][0] == before


async def test_a_body_that_is_no_form_or_has_two_models_is_refused(admin: Api, name: str) -> None:
    told = await admin("POST", f"/realtime-services/{name}/1", 400, json={"model": "x"})
    assert "multipart/form-data" in told["message"]
    twice = form(MODEL)
    twice.add_field("model", MODEL, filename="again")
    assert "two parts" in (await admin("POST", f"/realtime-services/{name}/1", 400, data=twice))["message"]
    cut = b'--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\nblob'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    await admin("POST", f"/realtime-services/{name}/1", 400, data=cut, headers=headers)
    long = form(MODEL)
    long.add_field("description", io.BytesIO(b"x" * (1 << 20 | 1)))
    await admin("POST", f"/realtime-services/{name}/1", 413, data=long)


async def test_a_taken_version_is_a_conflict_whatever_it_runs(admin: Api, name: str) -> None:
    await publish(admin, f"{name}/1")
    await publish(admin, f"{name}/1", expect=409)
    await admin.publish(name, "1", "y = 1", 409)
    await admin.publish(name, "2", "y = 1")
    await publish(admin, f"{name}/2", expect=409)
    assert await predicted(admin, f"{name}/1") == {"outputData": {"Prediction": [0, 1]}}


async def test_readers_consume_and_do_not_publish(rita: Api, admin: Api, name: str) -> None:
    await publish(rita, f"{name}/1", expect=403)
    await publish(admin, f"{name}/1")
    assert await predicted(rita, f"{name}/1") == {"outputData": {"Prediction": [0, 1]}}
    await rita("PATCH", f"/realtime-services/{name}/1", 403, data=form(description="mine"))


# --- changing


async def test_a_patch_keeps_what_it_does_not_give(admin: Api, name: str) -> None:
    await publish(admin, f"{name}/1", description="old", operationId="rate")
    [old] = await admin("GET", f"/services/{name}/1")
    assert await admin("PATCH", f"/realtime-services/{name}/1", data=form(description="new")) == f"/api/{name}/1"
    [new] = await admin("GET", f"/services/{name}/1")
    assert new == old | {"description": "new"}
    assert await predicted(admin, f"{name}/1") == {"outputData": {"Prediction": [0, 1]}}


async def test_a_patch_with_an_empty_file_is_not_taken_for_one_without(admin: Api, name: str) -> None:
    await publish(admin, f"{name}/1", description="old")
    told = await admin("PATCH", f"/realtime-services/{name}/1", 400, data=form(b"", description="new"))
    assert "mlhost.realtime.serialize(model)" in told["message"]
    assert (await admin("GET", f"/services/{name}/1"))[0]["description"] == "old"


async def test_a_patch_may_bring_another_model(admin: Api, name: str) -> None:
    await publish(admin, f"{name}/1", description="old")
    [old] = await admin("GET", f"/services/{name}/1")
    named = LogisticRegression(max_iter=500).fit(X, iris.target_names[y])
    await admin("PATCH", f"/realtime-services/{name}/1", data=form(serialize(named)))
    [new] = await admin("GET", f"/services/{name}/1")
    assert new["snapshotId"] != old["snapshotId"]
    assert new["description"] == "old"
    assert await predicted(admin, f"{name}/1") == {"outputData": {"Prediction": ["setosa", "versicolor"]}}
    told = await admin("PATCH", f"/realtime-services/{name}/1", 400, data=form(MODEL[:-500]))
    assert "does not load" in told["message"]
    assert await predicted(admin, f"{name}/1") == {"outputData": {"Prediction": ["setosa", "versicolor"]}}


async def test_only_its_publisher_and_owners_may_change_it(admin: Api, carol: Api, name: str) -> None:
    await publish(admin, f"{name}/1")
    await carol("PATCH", f"/realtime-services/{name}/1", 403, data=form(description="mine"))
    await carol("PATCH", f"/realtime-services/{name}/2", 404, data=form(description="mine"))
    await publish(carol, f"{name}/2")
    await admin("PATCH", f"/realtime-services/{name}/2", data=form(description="not only hers"))


async def test_each_kind_of_service_is_changed_at_its_own_address(admin: Api, name: str) -> None:
    await publish(admin, f"{name}/1")
    await admin.publish(name, "2", "y = 1")
    told = await admin("PATCH", f"/services/{name}/1", 400, {"description": "d", "runtimeType": "Python"})
    assert told["message"] == (f"{name} 1 is a Realtime service; it is changed by PATCH /realtime-services/{name}/1.")
    told = await admin("PATCH", f"/realtime-services/{name}/2", 400, data=form(MODEL))
    assert told["message"] == f"{name} 2 is a Python service; it is changed by PATCH /services/{name}/2."
    told = await admin("POST", f"/services/{name}/3", 400, {"runtimeType": "Realtime", "code": "y = 1"})
    assert "/realtime-services" in told["message"]


async def test_a_deleted_version_is_gone_with_its_model(admin: Api, host: Host, name: str) -> None:
    model = serialize(LogisticRegression(max_iter=500).fit(X, y + 10))
    await publish(admin, f"{name}/1", model)
    [row] = await host.store.read("select blob, compiled from services where name = ?", (name,))
    await admin("DELETE", f"/services/{name}/1")
    await admin("POST", f"/api/{name}/1", 404, json={"inputData": ROWS})
    assert row["compiled"] is not None
    assert await host.store.read("select 1 from blobs where sha256 in (?, ?)", tuple(row)) == []
    await publish(admin, f"{name}/1", model)
    assert await predicted(admin, f"{name}/1") == {"outputData": {"Prediction": [10, 11]}}


# --- consuming


async def test_the_swagger_document_has_one_frame_in_and_one_out(admin: Api, name: str) -> None:
    await publish(admin, f"{name}/1", description="which iris", operationId="rate")
    document = await admin("GET", f"/api/{name}/1/swagger.json")
    frame = {"type": "object", "description": "data.frame"}
    assert document["definitions"]["InputParameters"]["properties"] == {"inputData": frame}
    assert document["definitions"]["OutputParameters"]["properties"] == {"outputData": frame}
    assert document["paths"][f"/api/{name}/1"]["post"]["operationId"] == "rate"


async def test_what_the_model_cannot_take_is_an_answer_or_refused_naming_the_field(admin: Api, name: str) -> None:
    await publish(admin, f"{name}/1")
    answer = await admin("POST", f"/api/{name}/1", json={"inputData": {"petal": [1]}})
    assert not answer["success"]
    assert answer["errorMessage"].startswith("ValueError: inputData has no column 'sepal length (cm)'")
    assert "_model.answer(inputData)" in answer["consoleOutput"]
    assert "mlhost" not in answer["consoleOutput"]  # how the server calls the model tells its callers nothing
    assert "inputData" in (await admin("POST", f"/api/{name}/1", 400, json={}))["message"]
    assert "inputData" in (await admin("POST", f"/api/{name}/1", 400, json={"inputData": 5}))["message"]
    assert await predicted(admin, f"{name}/1") == {"outputData": {"Prediction": [0, 1]}}


class Own(SVC):  # type: ignore[misc]
    """An estimator that nobody knows how to compile."""


PLAIN = {name: [value] for name, value in X.iloc[60].items()}
LAST = iris.feature_names[-1]


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        (ROWS, 200),
        (PLAIN, 200),
        ({name: values[0] for name, values in PLAIN.items()}, 200),
        (dict(reversed(PLAIN.items())) | {"species": ["?"]}, 200),
        (X.iloc[[0, 60]].to_dict(orient="records"), 200),
        ([X.iloc[0].to_dict(), X.iloc[60].drop(LAST).to_dict()], 200),
        ({name: values * 1000 for name, values in PLAIN.items()}, 200),
        ({name: [int(values[0])] for name, values in PLAIN.items()}, 200),
        (PLAIN | {LAST: [None]}, 200),
        (PLAIN | {LAST: [float("nan")]}, 200),
        (PLAIN | {LAST: [1e300]}, 200),
        (PLAIN | {LAST: ["1.5"]}, 200),
        (PLAIN | {LAST: ["x"]}, 200),
        (PLAIN | {LAST: [True]}, 200),
        (PLAIN | {LAST: [1.0, 2.0]}, 400),
        ({name: [] for name in PLAIN}, 200),
        ({"petal": [1]}, 200),
        ({}, 200),
        ([], 200),
        (None, 200),
        (5, 400),
        ("x", 400),
    ],
)
async def test_whatever_is_asked_a_compiled_model_answers_as_one_in_workers(
    admin: Api, both: str, rows: Any, status: int
) -> None:
    compiled, own = [await admin("POST", f"/api/{both}/{kind}", status, {"inputData": rows}) for kind in ("1", "2")]
    for answer in (compiled, own):
        for changing in ("consoleOutput", "requestId"):  # the first names the version
            answer.pop(changing, None)
        if "errorMessage" in answer:
            answer["errorMessage"] = answer["errorMessage"].replace("Own", "SVC")
    assert compiled == own


@pytest.fixture(scope="module")
async def both(url: str) -> AsyncIterator[str]:
    """The same model as version 1, which is compiled, and 2, which is not."""
    async with signed_in(url, "admin") as api:
        await publish(api, "Both/1")
        await publish(api, "Both/2", by_value(Own().fit(X, y)))
        engines = [(await api("GET", f"/services/Both/{version}"))[0]["engine"] for version in "12"]
        assert engines == ["onnx", "worker"]
        yield "Both"


async def test_plain_calls_of_a_compiled_model_ask_no_worker(
    admin: Api, host: Host, both: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a worker was asked")

    ready = host.services.ready(both, "1")
    monkeypatch.setattr(ready.pool, "lease", never)
    before = ready.meter.compiled.count, ready.meter.calls.count
    assert await predicted(admin, f"{both}/1") == {"outputData": {"Prediction": [0, 1]}}
    assert (ready.meter.compiled.count, ready.meter.calls.count) == (before[0] + 1, before[1])
    told = f'mlhost_requests_total{{engine="onnx",service="{both}",version="1"}} {before[0] + 1}.0\n'
    assert told in (await admin("GET", "/metrics")).decode()


async def test_the_reason_for_workers_is_told_and_a_patch_decides_again(admin: Api, host: Host, name: str) -> None:
    await publish(admin, f"{name}/1", by_value(Own().fit(X, y)))
    [found] = await admin("GET", f"/services/{name}/1")
    assert found["engine"] == "worker"
    assert "Own" in found["engineReason"]
    await admin("PATCH", f"/realtime-services/{name}/1", data=form(MODEL))
    assert (await admin("GET", f"/services/{name}/1"))[0]["engine"] == "onnx"
    assert host.services.ready(name, "1").compiled is not None
    await admin("PATCH", f"/realtime-services/{name}/1", data=form(by_value(Own().fit(X, y))))
    assert (await admin("GET", f"/services/{name}/1"))[0]["engine"] == "worker"
    assert host.services.ready(name, "1").compiled is None
    assert await host.store.read("select compiled from services where name = ? and compiled is not null", (name,)) == []


async def test_an_onnx_file_is_run_in_the_server_as_well(admin: Api, host: Host, name: str) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    onnx = skl2onnx.to_onnx(LogisticRegression(max_iter=500).fit(X, y), X.to_numpy("float32")[:1])
    await publish(admin, f"{name}/1", serialize(onnx, columns=X))
    ready = host.services.ready(name, "1")
    in_server = await predicted(admin, f"{name}/1")
    assert ready.compiled is not None
    body = json.dumps({"inputData": ROWS}).encode()
    async with ready.pool.lease() as worker:
        told = json.loads(await parcels.whole(await score_on(worker, body, ready.meter.calls, 0.0)))
    assert in_server == told["outputParameters"]
    assert in_server["outputData"]["output_label"] == [0, 1]


async def test_without_onnxruntime_in_the_server_workers_answer_and_the_extra_is_named(
    admin: Api, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlhost.engines.NEEDED", ("no_such_module_as_this",))
    await publish(admin, f"{name}/1", serialize(SVC(C=3).fit(X, y)))
    [found] = await admin("GET", f"/services/{name}/1")
    assert found["engine"] == "worker"
    assert "pip install 'mlhost[realtime]'" in found["engineReason"]
    assert await predicted(admin, f"{name}/1") == {"outputData": {"Prediction": [0, 1]}}
    monkeypatch.undo()
    await admin("PATCH", f"/realtime-services/{name}/1", data=form(description="still by workers"))
    assert (await admin("GET", f"/services/{name}/1"))[0]["engine"] == "worker"
    await admin("PATCH", f"/realtime-services/{name}/1", data=form(serialize(SVC(C=3).fit(X, y))))
    assert (await admin("GET", f"/services/{name}/1"))[0]["engine"] == "onnx"


class Dies(SVC):  # type: ignore[misc]
    """Predicts one row, and with more it ends its process."""

    def predict(self, rows: Any) -> Any:
        import os

        return super().predict(rows) if len(rows) < 3 else os._exit(3)


async def test_a_model_that_ends_the_process_it_is_compared_in_stays_in_workers(admin: Api, name: str) -> None:
    await publish(admin, f"{name}/1", by_value(Dies().fit(X, y)))
    [found] = await admin("GET", f"/services/{name}/1")
    assert found["engine"] == "worker"
    assert found["engineReason"].startswith("it could not be compiled: ")
    assert await predicted(admin, f"{name}/1") == {"outputData": {"Prediction": [0, 1]}}


async def test_a_compiled_model_that_is_gone_or_does_not_open_any_more_is_told_in_the_log(
    admin: Api, host: Host, both: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = (await host.services.get(SYSTEM, both, "1")).definition.engine
    assert engine is not None
    engines = Engines(host.store, Blobs(host.store, host.folder.key("blobs")))
    [row] = await host.store.read("select blob, compiled from services where name = ? and version = '1'", (both,))
    assert await engines.open(row["compiled"], engine) is not None
    assert not caplog.messages
    for sha256 in ("0" * 64, row["blob"]):  # none, and one that is no ONNX file
        assert await engines.open(sha256, engine) is None
        assert "workers answer in its place" in caplog.messages[-1]


async def test_a_dedicated_pool_of_a_compiled_model_is_told_as_any(admin: Api, both: str) -> None:
    pool = f"/services/{both}/1/pool"
    assert (await admin("GET", pool))[0]["status"] == "NotFound"
    await admin("POST", pool, json={"InitialPoolSize": 1, "MaxPoolSize": 2})
    assert (await admin("GET", pool))[0]["maxPoolSize"] == 2
    await admin("DELETE", pool)


async def test_many_callers_at_once_each_get_their_own_answer(admin: Api, name: str) -> None:
    await publish(admin, f"{name}/1")
    rows = [X.iloc[[n]].to_dict(orient="list") for n in range(0, 150, 5)]
    expected = SVC().fit(X, y).predict(X.iloc[::5]).tolist()
    answers = await asyncio.gather(*(predicted(admin, f"{name}/1", row) for row in rows))
    assert [answer["outputData"]["Prediction"][0] for answer in answers] == expected


@pytest.mark.untraced
@pytest.mark.parametrize("profile", ["isolated", "embedded"])
async def test_it_is_there_again_after_a_restart_in_either_profile(tmp_path: Path, profile: str) -> None:
    async def server() -> AsyncIterator[tuple[Api, Host]]:
        with DataFolder.open(tmp_path) as folder:
            config = config_for_tests(runtime={"profile": profile})
            async with open_host(config, folder, cheap_passwords()) as host:
                await ensure_admin(host, PASSWORD)
                async with serve(host) as url, signed_in(url, "admin") as api:
                    yield api, host

    async for api, _ in server():
        await publish(api, "Iris/1")
    async for api, host in server():
        assert await predicted(api, "Iris/1") == {"outputData": {"Prediction": [0, 1]}}
        while host.services.ready("Iris", "1").compiled is None:
            await asyncio.sleep(0.01)
        assert await predicted(api, "Iris/1") == {"outputData": {"Prediction": [0, 1]}}


async def test_a_model_larger_than_one_part_of_the_store_is_kept_whole(admin: Api, name: str) -> None:
    model = SVC().fit(X, y)
    model.ballast_ = b"".join(n.to_bytes(4, "big") for n in range(6_000_000))
    await publish(admin, f"{name}/1", serialize(model))  # 24 MB
    assert await predicted(admin, f"{name}/1") == {"outputData": {"Prediction": [0, 1]}}
