"""Realtime services over HTTP: a model is published and changed as the original's client does; the rest is shared."""

import asyncio
import io
import itertools
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

from mlhost.host import Host, ensure_admin, open_host
from mlhost.http.server import serve
from mlhost.realtime import serialize
from mlhost.store.folder import DataFolder
from tests.parts import PASSWORD, Api, cheap_passwords, config_for_tests, signed_in

counter = itertools.count()
iris = load_iris(as_frame=True)
X, y = iris.data, iris.target
MODEL = serialize(SVC().fit(X, y))
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

    here = sys.modules[__name__]
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
    [row] = await host.store.read("select blob from services where name = ?", (name,))
    await admin("DELETE", f"/services/{name}/1")
    await admin("POST", f"/api/{name}/1", 404, json={"inputData": ROWS})
    assert await host.store.read("select 1 from blobs where sha256 = ?", (row["blob"],)) == []
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


async def test_many_callers_at_once_each_get_their_own_answer(admin: Api, name: str) -> None:
    await publish(admin, f"{name}/1")
    rows = [X.iloc[[n]].to_dict(orient="list") for n in range(0, 150, 5)]
    expected = SVC().fit(X, y).predict(X.iloc[::5]).tolist()
    answers = await asyncio.gather(*(predicted(admin, f"{name}/1", row) for row in rows))
    assert [answer["outputData"]["Prediction"][0] for answer in answers] == expected


@pytest.mark.untraced
@pytest.mark.parametrize("profile", ["isolated", "embedded"])
async def test_it_is_there_again_after_a_restart_in_either_profile(tmp_path: Path, profile: str) -> None:
    async def server() -> AsyncIterator[Api]:
        with DataFolder.open(tmp_path) as folder:
            config = config_for_tests(runtime={"profile": profile})
            async with open_host(config, folder, cheap_passwords()) as host:
                await ensure_admin(host, PASSWORD)
                async with serve(host) as url:
                    async for api in signed_in(url, "admin"):
                        yield api

    async for api in server():
        await publish(api, "Iris/1")
    async for api in server():
        assert await predicted(api, "Iris/1") == {"outputData": {"Prediction": [0, 1]}}


async def test_a_model_larger_than_one_part_of_the_store_is_kept_whole(admin: Api, name: str) -> None:
    model = SVC().fit(X, y)
    model.ballast_ = b"".join(n.to_bytes(4, "big") for n in range(6_000_000))
    await publish(admin, f"{name}/1", serialize(model))  # 24 MB
    assert await predicted(admin, f"{name}/1") == {"outputData": {"Prediction": [0, 1]}}
