"""What the original SDK is put through, run by its own interpreter (3.7 too): prints the faults of steps as JSON.

Each function with a `client` is a step and a test of its own (tests/clients/test_sdk.py); its name is a sentence.
`MODELS` is a folder with two models as bytes for realtime services: they add and multiply two columns' numbers.
`SHIMMED` tells whether mlhost.compat.azureml is in force, without which no service takes more than three inputs.
"""

import contextlib
import inspect
import io
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import requests
from azureml.common.http_client import HttpException
from azureml.deploy import DeployClient
from azureml.deploy.server import MLServer

URL, PASSWORD = os.environ["MLHOST_URL"], os.environ["MLHOST_PASSWORD"]
MODELS = Path(os.environ["MODELS"])
SHIMMED = os.environ["SHIMMED"] == "1"
# Services of several clients on one server are kept apart by name.
PREFIX = f"py{sys.version_info[0]}{sys.version_info[1]}"
# Server type by SDK spelling, value.
VALUES = {
    "int": (int, 7),
    "float": (float, 2.5),
    "str": (str, "wörd"),
    "bool": (bool, True),
    "array": ("numpy.array", np.array([1.0, 2.5, 3.0])),
    "words": ("list", np.array(["a", "b"])),
    "matrix": ("numpy.matrix", np.matrix([[1, 2], [3, 4]])),
    "frame": (pd.DataFrame, pd.DataFrame({"name": ["x", "y"], "size": [1.5, 2.0]})),
}


def login(auth):
    return DeployClient(URL, use=MLServer, auth=auth)


def token():
    pair = requests.post(URL + "/login", json={"username": "admin", "password": PASSWORD}).json()
    return str(pair["access_token"])


def sessions_and_snapshots():
    headers = {"Authorization": "Bearer " + token()}
    return [requests.get(URL + path, headers=headers).json() for path in ("/sessions", "/snapshots")]


BEFORE = sessions_and_snapshots()


def scale(x, factor):
    return [each * factor for each in x]


def prepare():
    global offset  # noqa: PLW0603 - as the SDK's documentation has it
    offset = 100


def shifted(x):
    return x + offset


def fails(action, *words):
    """Whether an action ends in an HttpException that says all the words."""
    try:
        action()
    except HttpException as error:
        return all(word in str(error) for word in words)
    return False


def finished(batch):
    """The results of a batch when all of it is done."""
    deadline = time.time() + 30
    while True:
        results = batch.results(show_partial_results=True)
        if results.state == "Complete" or time.time() > deadline:
            return results
        time.sleep(0.05)


def same(left, right):
    if isinstance(right, pd.DataFrame):
        return left.to_dict("list") == right.to_dict("list")
    if isinstance(right, np.ndarray):
        return np.array_equal(left, right)
    return left == right and type(left) is type(right)


# --- the steps -----------------------------------------------------------------------------------------------------


def a_user_logs_in_with_name_and_password_or_with_a_token(client):
    assert isinstance(login(token()).list_services(), list)
    assert fails(lambda: login(("admin", "wrong")), "401")


def a_function_is_deployed_and_consumed(client):
    name = PREFIX + "Scale"
    service = (
        client.service(name)
        .version("1.0")
        .code_fn(scale)
        .inputs(x="numpy.array", factor=float)
        .outputs(answer="numpy.array")
        .description("Scales.")
        .deploy()
    )
    assert np.array_equal(service.scale(np.array([1, 2]), 3).output("answer"), [3.0, 6.0])
    result = service.scale(x=np.array([1.5]), factor=2)
    assert result.error == "" and result.outputs["answer"].tolist() == [3.0]
    assert result.raw_outputs == {"answer": [3.0]}
    assert result.api == "/api/" + name + "/1.0"


def init_runs_before_the_function(client):
    service = (
        client.service(PREFIX + "Shifted")
        .version("1")
        .code_fn(shifted, prepare)
        .inputs(x=float)
        .outputs(y=float)
        .deploy()
    )
    assert service.shifted(1).output("y") == 101.0


def code_with_models_objects_artifacts_and_an_alias_is_deployed(client):
    service = (
        client.service(PREFIX + "Code")
        .version("v1.0")
        .code_str(
            "answer = sum(weights) * factor['by'] + x + one\nprint('scored')\n"
            "with open('answer.csv', 'w') as file:\n    file.write('answer,%s' % answer)",
            "one = 1",
        )
        .inputs(x=float)
        .outputs(answer=float)
        .models(weights=[1, 2, 3])
        .objects(factor={"by": 10})
        .artifacts(["answer.csv", "never.png"])
        .alias("score")
        .description("What it does.")
        .deploy()
    )
    result = service.score(0.5)
    assert result.output("answer") == 61.5, result
    assert result.console_output == "scored\n"
    assert result.artifact("answer.csv", encoding="utf-8") == "answer,61.5"
    assert result.artifact("never.png") is None
    assert sorted(result.artifacts) == ["answer.csv", "never.png"]


def capabilities_tell_what_was_published(client):
    told = client.get_service(PREFIX + "Code", version="v1.0").capabilities()
    assert told["name"] == PREFIX + "Code" and told["version"] == "v1.0"
    assert told["published_by"] == "admin" and told["runtime"] == "Python"
    assert told["description"] == "What it does."
    assert told["operation_id"] == "score"
    assert told["inputs"] == [{"name": "x", "type": "numeric"}]
    assert told["outputs_encoded"] == [{"name": "answer", "type": "float"}]
    assert told["artifacts"] == ["answer.csv", "never.png"]
    assert told["public-functions"]["score"] == "score(self,x)"
    assert told["creation_time"] and told["snapshot_id"]


def the_swagger_document_names_the_alias(client):
    document = json.loads(client.get_service(PREFIX + "Code", version="v1.0").swagger())
    assert document["swagger"] == "2.0"
    operation = document["paths"]["/api/" + PREFIX + "Code/v1.0"]["post"]
    assert operation["operationId"] == "score"
    assert list(document["definitions"]["InputParameters"]["properties"]) == ["x"]


def services_are_listed_by_name_and_version(client):
    name = PREFIX + "Listed"
    for version in ("2.0", "1.0"):
        client.deploy_service(name, version=version, code_str="y = x", inputs={"x": int}, outputs={"y": int})
    assert {name, PREFIX + "Scale"} <= {each["name"] for each in client.list_services()}
    assert [each["version"] for each in client.list_services(name)] == ["2.0", "1.0"]
    [one] = client.list_services(name, version="2.0")
    assert one["inputParameterDefinitions"] == [{"name": "x", "type": "integer"}]
    assert client.get_service(name).capabilities()["version"] == "1.0"  # the latest published
    assert client.get_service(name, version="2.0").consume(5).output("y") == 5


def a_service_without_a_version_gets_one(client):
    service = client.service(PREFIX + "Guid").code_str("y = 1").outputs(y=int).deploy()
    assert len(service.capabilities()["version"]) == 36
    assert service.consume().output("y") == 1


def a_version_cannot_be_deployed_twice(client):
    again = client.service(PREFIX + "Listed").version("1.0").code_str("y = 1").outputs(y=int)
    assert fails(again.deploy, "409")


def a_new_description_alone_keeps_code_and_snapshot(client):
    name = PREFIX + "Kept"
    client.deploy_service(
        name,
        version="1.0",
        code_str="y = kept + x",
        inputs={"x": float},
        outputs={"y": float},
        objects={"kept": 40},
        description="Old.",
    )
    service = client.service(name).version("1.0").description("New.").redeploy()
    assert service.capabilities()["description"] == "New."
    assert service.consume(2).output("y") == 42.0


def new_code_and_objects_replace_the_old(client):
    name = PREFIX + "Replaced"
    options = {"inputs": {"x": float}, "outputs": {"y": float}, "alias": "run"}
    client.deploy_service(name, version="1", code_str="y = x + o", objects={"o": 1}, description="Kept.", **options)
    service = client.redeploy_service(name, version="1", code_str="y = x * o", objects={"o": 10}, **options)
    assert service.run(2).output("y") == 20.0
    assert service.capabilities()["description"] == "Kept."


def a_deleted_service_is_gone(client):
    name = PREFIX + "Deleted"
    client.deploy_service(name, version="1", code_str="y = 1", outputs={"y": int})
    assert client.delete_service(name, version="1") is True
    assert client.list_services(name) == []
    assert fails(lambda: client.get_service(name, version="1"), "404")
    assert fails(lambda: client.delete_service(name, version="1"), "404")


def every_type_goes_there_and_back(client):
    for spelling, (kind, value) in VALUES.items():
        service = client.deploy_service(
            PREFIX + "Type", version=spelling, code_str="y = x", inputs={"x": kind}, outputs={"y": kind}
        )
        result = service.consume(value)
        assert result.error == "", (spelling, result.error)
        assert same(result.output("y"), value), (spelling, result.output("y"))


def services_take_from_none_to_fifty_inputs(client):
    for count in (0, 1, 2, 3, 4, 5, 8, 20, 50) if SHIMMED else (0, 1, 2, 3):
        kinds = {f"p{number}": list(VALUES)[number % len(VALUES)] for number in range(count)}
        last = f"p{count - 1}"
        service = client.deploy_service(
            PREFIX + "Many",
            version=str(count),
            code_str=f"count = len([{', '.join(kinds)}])\nlast = {last if count else repr('none')}",
            inputs={name: VALUES[kind][0] for name, kind in kinds.items()},
            outputs={"count": int, "last": VALUES[kinds[last]][0] if count else str},
        )
        values = [VALUES[kind][1] for kind in kinds.values()]
        named = dict(zip(kinds, values))  # noqa: B905 - 3.10's
        for result in (service.consume(*values), service.consume(**named)):
            assert result.error == "" and result.output("count") == count, (count, result.error)
            assert same(result.output("last"), values[-1] if count else "none"), count


def code_that_raises_is_an_error_in_the_answer(client):
    service = client.deploy_service(PREFIX + "Raises", version="1", code_str="y = p", outputs={"y": int})
    result = service.consume()
    assert result.error == "NameError: name 'p' is not defined", result.error
    assert "Traceback" in result.console_output
    assert result.outputs == {"y": None}


def a_batch_is_started_followed_and_its_files_are_read(client):
    code = "y = x * 2\nwith open('y.txt', 'w') as file:\n    file.write(str(y))"
    service = client.deploy_service(
        PREFIX + "Batch", version="1", code_str=code, inputs={"x": float}, outputs={"y": float}, artifacts=["y.txt"]
    )
    for records in (
        pd.DataFrame({"x": [1.0, 2.0, 3.0]}),
        {"x": [1, 2, 3]},
        [{"x": 1.0}, {"x": 2.0}, {"x": 3.0}],
    ):
        batch = service.batch(records, parallel_count=2).start()
        assert batch.execution_id in service.list_batch_executions()
        results = finished(service.get_batch(batch.execution_id))
        assert (results.state, results.completed_item_count, results.total_item_count) == ("Complete", 3, 3)
        assert [results.execution(index).output("y") for index in range(3)] == [2.0, 4.0, 6.0]
        assert results.execution(1).artifact("y.txt") == b"4.0"
        assert batch.list_artifacts(2) == ["y.txt"]
        assert batch.artifact(2, "y.txt") == b"6.0"
        with tempfile.TemporaryDirectory() as folder:
            [path] = batch.download(0, "y.txt", folder)
            assert Path(path).read_bytes() == b"2.0"
        batch.cancel()
        assert batch.execution_id not in service.list_batch_executions()
    assert fails(batch.results, "404")


def a_running_batch_tells_what_is_done_and_is_cancelled(client):
    code = "if x < 0:\n    raise ValueError(x)\nif x > 2:\n    import time\n    time.sleep(300)\ny = x"
    service = client.deploy_service(
        PREFIX + "Running", version="1", code_str=code, inputs={"x": float}, outputs={"y": float}
    )
    batch = service.batch(pd.DataFrame({"x": [1.0, -1.0, 3.0]}), parallel_count=2)
    assert batch.parallel_count == 2 and batch.records == [{"x": 1.0}, {"x": -1.0}, {"x": 3.0}]
    assert batch.execution_id is None and batch.results() is None
    try:
        batch.cancel()
    except ValueError as error:
        assert "Batch not started" in str(error)
    else:
        raise AssertionError("what is not started cannot be cancelled")
    batch.start()
    execution_id = batch.execution_id
    assert batch.start().execution_id == execution_id  # not a second time
    deadline = time.time() + 30
    while batch.results().completed_item_count < 2 and time.time() < deadline:
        time.sleep(0.05)
    results = batch.results()
    assert results.state != "Complete"
    assert (results.completed_item_count, results.total_item_count) == (2, 3)
    assert results.api == "/api/" + PREFIX + "Running/1" and results.execution_id == execution_id
    assert results.execution(0).output("y") == 1.0 and results.execution(0).error == ""
    assert results.execution(1).error == "ValueError: -1.0"
    assert "completed_item_count : 2" in str(results)
    assert batch.results(show_partial_results=False)._execution_results == []  # all or nothing
    batch.cancel()
    assert fails(batch.results, "404")
    assert fails(batch.cancel, "404")
    assert service.list_batch_executions() == []
    assert fails(lambda: service.get_batch(execution_id).results(), "404")


def a_batch_downloads_all_files_of_a_record(client):
    service = client.get_service(PREFIX + "Batch", version="1")
    batch = service.batch([{"x": 4.0}]).start()
    assert finished(batch).execution(0).output("y") == 8.0
    with tempfile.TemporaryDirectory() as folder:
        [path] = batch.download(0, None, folder)
        assert Path(path).name == "y.txt" and Path(path).read_bytes() == b"8.0"
    assert fails(lambda: batch.artifact(0, "none.txt"), "404")
    assert fails(lambda: batch.list_artifacts(7), "404")


def a_realtime_service_is_deployed_redeployed_and_consumed(client):
    name = PREFIX + "Realtime"
    add, multiply = ((MODELS / file).read_bytes() for file in ("add", "multiply"))
    frame = pd.DataFrame({"a": [2.0, 3.0], "b": [5.0, 7.0]})

    def predicted(result):
        assert result.error == "", result.error
        return [round(each, 6) for each in result.output("outputData")["Prediction"]]

    definition = client.realtime_service(name).version("1.0").serialized_model(add)
    service = definition.description("Old.").alias("rate").deploy()
    assert predicted(service.rate(frame)) == [7.0, 10.0]
    told = service.capabilities()
    assert told["runtime"] == "Realtime" and told["operation_id"] == "rate" and told["description"] == "Old."
    assert told["inputs"] == [{"name": "inputData", "type": "data.frame"}]
    assert [each["name"] for each in told["outputs"]] == ["outputData"]
    assert "/api/" + name + "/1.0" in json.loads(service.swagger())["paths"]
    [listed] = client.list_services(name, version="1.0")
    assert listed["runtimeType"] == "Realtime"

    service = client.realtime_service(name).version("1.0").serialized_model(multiply).redeploy()
    assert predicted(service.rate(frame)) == [10.0, 21.0]
    assert service.capabilities()["description"] == "Old."
    service = client.redeploy_realtime(name, version="1.0", serialized_model=add, description="New.", alias="again")
    assert predicted(service.again(inputData=frame)) == [7.0, 10.0]
    assert service.capabilities()["description"] == "New."
    other = client.deploy_realtime(name, version="2.0", serialized_model=multiply)
    assert predicted(other.consume(frame)) == [10.0, 21.0]
    unversioned = client.realtime_service(name).serialized_model(add).deploy()
    assert len(unversioned.capabilities()["version"]) == 36

    batch = service.batch([{"inputData": {"a": [1.0], "b": [2.0]}}, {"inputData": {"a": [3.0], "b": [4.0]}}]).start()
    results = finished(batch)
    assert [predicted(results.execution(index)) for index in (0, 1)] == [[3.0], [7.0]]
    batch.cancel()

    again = client.realtime_service(name).version("1.0").serialized_model(add)
    assert fails(again.deploy, "409")
    unknown = client.realtime_service(name).version("3.0").serialized_model(b"blob of something else")
    assert fails(unknown.deploy, "400", "mlhost.realtime.serialize")
    assert client.delete_service(name, version="1.0") is True
    assert fails(lambda: service.again(frame), "404")


def the_lines_of_the_document_about_consuming_run_as_they_stand(client):
    for version in ("v1.0", "v2.0"):
        client.deploy_service(
            "myService",
            version=version,
            code_str="answer = 0.5 + wt + hp / 1000",
            inputs={"hp": float, "wt": float},
            outputs={"answer": float},
            alias="manualTransmission",
            description="What the manual knows.",
        )
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            # fmt: off
            # "Find and list web services"
            ## -- Return metadata for all services hosted on this server
            everything = client.list_services()

            ## -- Return metadata for all versions of service "myService"
            named = client.list_services('myService')

            ## -- Return metadata for a specific version "v1.0" of service "myService"
            one = client.list_services('myService', version='v1.0')

            # "Retrieve and examine service objects"
            # -- List all versions of the service 'myService'--
            client.list_services('myService')

            # -- Retrieve the service object for myService v2.0
            svc = client.get_service('myService', version='v2.0')

            # -- Learn more about that service.
            print(help(svc))

            # -- View the service object's capabilities/schema
            svc.capabilities()

            # "Consuming in Python"
            # Let's call the function `manualTransmission` in this service
            res = svc.manualTransmission(120, 2.8)

            # Pluck out the named output `answer`.
            print(res.output('answer'))

            # Get `swagger.json` that defines the service.
            cap = svc.capabilities()
            swagger_URL = cap['swagger']
            print(swagger_URL)

            # Print the contents of the swagger file.
            print(svc.swagger())
            # fmt: on
    finally:
        for version in ("v1.0", "v2.0"):
            client.delete_service("myService", version=version)
    assert [each["version"] for each in named] == ["v1.0", "v2.0"] and [each["version"] for each in one] == ["v1.0"]
    assert len(everything) > 2 and all(each in everything for each in named)
    told, _, rest = printed.getvalue().partition("\nNone\n")
    assert "manualTransmission(" in told and "What the manual knows." in told, told
    answer, address, document = rest.split("\n", 2)
    assert abs(float(answer) - 3.42) < 1e-9
    assert address == URL + "/api/myService/v2.0/swagger.json"
    assert json.loads(document)["paths"]["/api/myService/v2.0"]["post"]["operationId"] == "manualTransmission"


def nothing_of_deploying_is_left_behind(client):
    assert sessions_and_snapshots() == BEFORE


# --- end of the steps ----------------------------------------------------------------------------------------------


def main():
    client = login(("admin", PASSWORD))
    faults = {}
    for name, step in list(globals().items()):
        if inspect.isfunction(step) and inspect.getfullargspec(step).args == ["client"]:
            try:
                step(client)
                faults[name] = ""
            except Exception:
                faults[name] = traceback.format_exc()
    print(json.dumps(faults))


if __name__ == "__main__":
    main()
