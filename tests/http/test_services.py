"""Services over HTTP: publish, examine, consume, change, withdraw."""

import asyncio
import base64
import itertools
import platform
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.parts import Api, names_and_types

counter = itertools.count()
ECHO = {
    "inputParameterDefinitions": names_and_types(x="numeric"),
    "outputParameterDefinitions": names_and_types(y="numeric"),
}


@pytest.fixture
def name() -> str:
    """A service name no other test uses."""
    return f"Service{next(counter)}"


@pytest.fixture
async def snapshot(admin: Api, session: str) -> AsyncIterator[str]:
    """A snapshot with a function, a value it uses and a file."""
    await admin.execute(
        session, "factor = 3\ndef times(x):\n    return x * factor\nopen('table.txt', 'w').write('from the snapshot')"
    )
    taken = (await admin("POST", f"{session}/snapshot", 201, {}))["snapshotId"]
    yield taken
    await admin("DELETE", f"/snapshots/{taken}")


# --- publishing


async def test_a_published_version_is_listed_described_and_answers(admin: Api, name: str) -> None:
    address = await admin.publish(name, "1.0", "y = x + 1", description="adds one", operationId="add_one", **ECHO)
    assert address == f"/api/{name}/1.0"
    [found] = await admin("GET", f"/services/{name}/1.0")
    assert found.pop("creationTime").count("-") == 2
    assert found.pop("pythonVersion") == platform.python_version()
    assert found == {
        "name": name,
        "version": "1.0",
        "versionPublishedBy": "admin",
        "snapshotId": None,
        "runtimeType": "Python",
        "initCode": None,
        "code": "y = x + 1",
        "description": "adds one",
        "operationId": "add_one",
        "inputParameterDefinitions": [{"name": "x", "type": "numeric"}],
        "outputParameterDefinitions": [{"name": "y", "type": "numeric"}],
        "outputFileNames": [],
        "myPermissionOnService": "read/write",
    }
    assert await admin("POST", address, json={"x": 41}) == {
        "success": True,
        "errorMessage": "",
        "consoleOutput": "",
        "changedFiles": [],
        "outputFiles": {},
        "outputParameters": {"y": 42},
    }


async def test_without_a_version_the_server_makes_one(admin: Api, name: str) -> None:
    address = await admin("POST", f"/services/{name}", 201, {"runtimeType": "Python", "code": "y = 1"})
    [found] = await admin("GET", f"/services/{name}")
    assert address == f"/api/{name}/{found['version']}"
    assert len(found["version"]) == 36


async def test_a_taken_version_is_a_conflict_also_for_two_at_once(admin: Api, name: str) -> None:
    body = {"runtimeType": "Python", "code": "y = 1"}

    async def publish() -> int:
        async with admin.http.post(
            f"/services/{name}/1", json=body, headers={"Authorization": f"Bearer {admin.token}"}
        ) as response:
            return response.status

    assert sorted(await asyncio.gather(publish(), publish(), publish())) == [201, 409, 409]
    await admin.publish(name, "1", "y = 2", 409)


async def test_versions_are_listed_oldest_first_and_an_unknown_name_has_none(admin: Api, name: str) -> None:
    for version in ("V2", "V1", "v1.0.0-alpha"):
        await admin.publish(name, version, "y = 1")
    assert [each["version"] for each in await admin("GET", f"/services/{name}")] == ["V2", "V1", "v1.0.0-alpha"]
    assert await admin("GET", "/services/NoSuchName") == []
    await admin("GET", f"/services/{name}/V9", 404)
    mine = [each for each in await admin("GET", "/services") if each["name"] == name]
    assert all(
        isinstance(each[key], list)
        for each in mine
        for key in ("inputParameterDefinitions", "outputParameterDefinitions", "outputFileNames")
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"code": None}, "code"),
        ({"code": "y = ("}, "line 1, column 5"),
        ({"code": "y = 1", "initCode": "1 / 0"}, "ZeroDivisionError"),
        ({"code": "y = 1", "initCode": "import os; os._exit(5)"}, "exit status 5"),
        ({"code": "y = 1", "initCode": "import no_such_module"}, "No module named 'no_such_module'"),
        ({"code": "y = 1", "snapshotId": "nothing"}, "snapshotId"),
        ({"code": "y = 1", "operationId": "not valid"}, "operationId"),
        ({"code": "y = 1", "inputParameterDefinitions": names_and_types(**{"a b": "numeric"})}, "a b"),
        ({"code": "y = 1", "inputParameterDefinitions": [{"name": "x", "type": "numeric"}] * 2}, "x"),
        ({"code": "y = 1", "inputParameterDefinitions": [{"name": "x"}]}, "type"),
        ({"code": "y = 1", "inputParameterDefinitions": "x"}, "inputParameterDefinitions"),
        ({"code": "y = 1", "outputFileNames": ["../x"]}, "outputFileNames"),
        ({"code": 1}, "code"),
        ({"code": "y = 1", "runtimeType": "R"}, "runtimeType"),
    ],
)
async def test_what_could_never_work_is_refused_with_the_reason_and_not_stored(
    admin: Api, name: str, fields: dict[str, object], words: str
) -> None:
    answer = await admin("POST", f"/services/{name}/1", 400, {"runtimeType": "Python"} | fields)
    assert words in answer["message"]
    assert await admin("GET", f"/services/{name}") == []
    await admin("POST", f"/api/{name}/1", 404, {})


@pytest.mark.parametrize("bad", ["%2e%2e", "a%2fb", "%20", "a%00b", "x" * 200])
async def test_a_service_needs_a_sound_name(admin: Api, bad: str) -> None:
    from yarl import URL

    body = {"runtimeType": "Python", "code": "y = 1"}
    await admin("POST", URL(f"/services/{bad}/1", encoded=True), 400, body)  # type: ignore[arg-type]


async def test_another_users_snapshot_cannot_be_published(carol: Api, name: str, snapshot: str) -> None:
    answer = await carol.publish(name, "1", "y = times(1)", 400, snapshotId=snapshot)
    assert "snapshotId" in answer["message"]


async def test_the_snapshot_is_baked_in(admin: Api, name: str, session: str) -> None:
    await admin.execute(session, "factor = 3\ndef times(x): return x * factor")
    taken = (await admin("POST", f"{session}/snapshot", 201, {}))["snapshotId"]
    await admin.publish(name, "1", "y = times(x)", snapshotId=taken, **ECHO)
    await admin("DELETE", f"/snapshots/{taken}")
    [found] = await admin("GET", f"/services/{name}/1")
    assert found["snapshotId"] == taken
    assert (await admin("POST", f"/api/{name}/1", json={"x": 2}))["outputParameters"] == {"y": 6}
    # Two calls at once need a second worker, which thaws the snapshot again.
    slow = "import time; time.sleep(0.2); y = times(x)"
    await admin("PATCH", f"/services/{name}/1", json={"code": slow})
    answers = await asyncio.gather(*(admin("POST", f"/api/{name}/1", json={"x": n}) for n in range(4)))
    assert [each["outputParameters"]["y"] for each in answers] == [0, 3, 6, 9]


# --- calling


async def test_calls_never_see_each_others_variables_or_files(admin: Api, name: str, snapshot: str) -> None:
    code = (
        "import os\nfound = [n for n in ('leftover', 'x2') if n in globals()] + sorted(os.listdir())\n"
        "leftover = 1; factor = 1; open('left.txt', 'w').close(); os.mkdir('left')\n"
        "y = found"
    )
    outputs = names_and_types(y="vector")
    await admin.publish(name, "1", code, snapshotId=snapshot, outputParameterDefinitions=outputs)
    for _ in range(3):
        answer = await admin("POST", f"/api/{name}/1", json={"x2": 1})
        assert answer["outputParameters"]["y"] == ["table.txt"]
        assert answer["changedFiles"] == ["left", "left.txt"]


async def test_functions_of_the_snapshot_see_the_inputs_as_globals(admin: Api, name: str, session: str) -> None:
    await admin.execute(session, "def total(): return x + bonus\nbonus = 5")
    taken = (await admin("POST", f"{session}/snapshot", 201, {}))["snapshotId"]
    await admin.publish(name, "1", "y = total()", snapshotId=taken, **ECHO)
    for x in (1, 2):
        assert (await admin("POST", f"/api/{name}/1", json={"x": x}))["outputParameters"]["y"] == x + 5


async def test_init_code_runs_once_unless_it_reads_an_input(admin: Api, name: str) -> None:
    once = "import itertools\nrun = next(counter) if 'counter' in globals() else 0\nstarted = object()"
    await admin.publish(name, "once", "y = id(started)", initCode=once, **ECHO)
    answers = [await admin("POST", f"/api/{name}/once", json={"x": 1}) for _ in range(3)]
    assert len({each["outputParameters"]["y"] for each in answers}) == 1
    await admin.publish(name, "each", "y = doubled", initCode="doubled = 2 * x", **ECHO)
    for x in (1, 2):
        assert (await admin("POST", f"/api/{name}/each", json={"x": x}))["outputParameters"]["y"] == 2 * x


async def test_a_function_in_init_code_may_set_globals(admin: Api, name: str, snapshot: str) -> None:
    init = "def init():\n    global loaded\n    loaded = factor * 10\n\ninit()"
    await admin.publish(name, "1", "y = loaded + x", initCode=init, snapshotId=snapshot, **ECHO)
    assert (await admin("POST", f"/api/{name}/1", json={"x": 1}))["outputParameters"] == {"y": 31}


async def test_output_files_come_back_in_base64_and_null_when_missing(admin: Api, name: str, snapshot: str) -> None:
    code = "if x > 0:\n    open('answer.csv', 'w').write('a,b')\n    open('table.txt', 'w').write('changed')\ny = x"
    files = ["answer.csv", "table.txt"]
    await admin.publish(name, "1", code, snapshotId=snapshot, outputFileNames=files, **ECHO)
    made = await admin("POST", f"/api/{name}/1", json={"x": 1})
    assert base64.b64decode(made["outputFiles"]["answer.csv"]) == b"a,b"
    assert base64.b64decode(made["outputFiles"]["table.txt"]) == b"changed"
    again = await admin("POST", f"/api/{name}/1", json={"x": 0})
    assert again["outputFiles"]["answer.csv"] is None
    assert base64.b64decode(again["outputFiles"]["table.txt"]) == b"from the snapshot"


async def test_what_a_call_prints_is_its_console_output_and_nobody_elses(admin: Api, name: str) -> None:
    code = "import os\nprint('hello', x)\nos.system('echo shell')\ny = x"
    await admin.publish(name, "1", code, initCode="print('init')", **ECHO)
    for x in (1, 2):
        answer = await admin("POST", f"/api/{name}/1", json={"x": x})
        assert answer["consoleOutput"] == f"hello {float(x)}\nshell\n"
        assert answer["success"]


async def test_code_that_raises_is_an_answer_with_success_false(admin: Api, name: str) -> None:
    await admin.publish(name, "1", "def f(x):\n    return 1 / x\n\ny = f(x)", **ECHO)
    answer = await admin("POST", f"/api/{name}/1", json={"x": 0})
    assert answer["success"] is False
    assert answer["errorMessage"] == "ZeroDivisionError: float division by zero"
    assert "return 1 / x" in answer["consoleOutput"]
    assert answer["outputParameters"] == {}
    assert (await admin("POST", f"/api/{name}/1", json={"x": 1}))["success"]


async def test_an_output_never_assigned_is_null_and_no_success(admin: Api, name: str) -> None:
    await admin.publish(name, "1", "pass", **ECHO)
    answer = await admin("POST", f"/api/{name}/1", json={"x": 0})
    assert answer["success"] is False
    assert "'y'" in answer["errorMessage"]
    assert answer["outputParameters"] == {"y": None}


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"{}", "'x'"), (b'{"x": "abc"}', "x"), (b"[1]", "object"), (b"{not json", "JSON"), (b'"x"', "object")],
)
async def test_a_body_that_does_not_fit_the_inputs_is_refused_naming_the_field(
    admin: Api, name: str, body: bytes, words: str
) -> None:
    await admin.publish(name, "1", "y = x", **ECHO)
    answer = await admin("POST", f"/api/{name}/1", 400, data=body)
    assert words in answer["message"]


async def test_code_that_ends_its_worker_is_told_and_the_service_goes_on(admin: Api, name: str) -> None:
    await admin.publish(name, "1", "import os\nif x < 0: os._exit(3)\ny = x", **ECHO)
    answer = await admin("POST", f"/api/{name}/1", 503, {"x": -1})
    assert "exit status 3" in answer["message"]
    assert (await admin("POST", f"/api/{name}/1", json={"x": 1}))["success"]


async def test_many_callers_at_once_each_get_their_own_answer(admin: Api, name: str) -> None:
    await admin.publish(name, "1", "y = x * 2", **ECHO)
    answers = await asyncio.gather(*(admin("POST", f"/api/{name}/1", json={"x": n}) for n in range(300)))
    assert [each["outputParameters"]["y"] for each in answers] == [2 * n for n in range(300)]


# --- changing and withdrawing


async def test_a_patch_keeps_what_it_does_not_give(admin: Api, name: str, snapshot: str) -> None:
    await admin.publish(name, "1", "y = times(x)", snapshotId=snapshot, description="old", **ECHO)
    before = (await admin("GET", f"/services/{name}/1"))[0]
    await admin("PATCH", f"/services/{name}/1", json={"description": "new", "runtimeType": "Python"})
    [after] = await admin("GET", f"/services/{name}/1")
    assert after == before | {"description": "new"}
    await admin("PATCH", f"/services/{name}/1", json={"code": "y = -times(x)"})
    assert (await admin("POST", f"/api/{name}/1", json={"x": 2}))["outputParameters"] == {"y": -6}


async def test_a_patch_that_would_break_the_service_is_refused_and_changes_nothing(admin: Api, name: str) -> None:
    await admin.publish(name, "1", "y = x", **ECHO)
    await admin("PATCH", f"/services/{name}/1", 400, {"code": "y = ("})
    await admin("PATCH", f"/services/{name}/1", 400, {"runtimeType": "R"})
    await admin("PATCH", f"/services/{name}/9", 404, {"code": "y = 1"})
    assert (await admin("POST", f"/api/{name}/1", json={"x": 2}))["outputParameters"] == {"y": 2}


async def test_two_patches_at_once_both_take_effect(admin: Api, name: str) -> None:
    await admin.publish(name, "1", "y = x", **ECHO)
    await asyncio.gather(
        admin("PATCH", f"/services/{name}/1", json={"description": "new"}),
        admin("PATCH", f"/services/{name}/1", json={"code": "y = -x"}),
    )
    [found] = await admin("GET", f"/services/{name}/1")
    assert (found["description"], found["code"]) == ("new", "y = -x")


async def test_the_empty_snapshot_of_a_description_only_redeploy_is_ignored(
    admin: Api, name: str, snapshot: str
) -> None:
    await admin.publish(name, "1", "y = times(x)", snapshotId=snapshot, **ECHO)
    empty = await admin.session()
    nothing = (await admin("POST", f"{empty}/snapshot", 201, {"name": None}))["snapshotId"]
    await admin("PATCH", f"/services/{name}/1", json={"snapshotId": nothing, "description": "new"})
    [found] = await admin("GET", f"/services/{name}/1")
    assert (found["snapshotId"], found["description"]) == (snapshot, "new")
    assert (await admin("POST", f"/api/{name}/1", json={"x": 2}))["outputParameters"] == {"y": 6}
    await admin("DELETE", empty)
    await admin("DELETE", f"/snapshots/{nothing}")


@pytest.mark.parametrize(
    ("fields", "property_at_fault"),
    [
        (
            {"inputParameterDefinitions": [{"name": "x", "type": "numeric"}, {"name": "y"}]},
            "inputParameterDefinitions[1].type",
        ),
        ({"outputFileNames": ["a.txt", "../a"]}, "outputFileNames"),
    ],
)
async def test_what_is_wrong_inside_a_property_is_told_with_its_place(
    admin: Api, name: str, fields: dict[str, Any], property_at_fault: str
) -> None:
    told = await admin.publish(name, "1", "y = 1", 400, **fields)
    assert told["fields"] == property_at_fault
    assert told["message"].startswith(f"{property_at_fault}: ")


async def test_a_call_whose_body_arrives_slowly_meets_what_is_published_by_then(admin: Api, name: str) -> None:
    await admin.publish(name, "1.0", "y = 1", outputParameterDefinitions=names_and_types(y="numeric"))
    begun, changed = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        begun.set()
        await changed.wait()
        yield b"}"

    for change, status in (("PATCH", 200), ("DELETE", 404)):
        begun.clear()
        changed.clear()
        call = asyncio.create_task(admin("POST", f"/api/{name}/1.0", status, data=slowly()))
        await begun.wait()
        await admin(change, f"/services/{name}/1.0", json={"code": "y = 2"})
        changed.set()
        answer = await call
        assert status == 404 or answer["outputParameters"] == {"y": 2}


async def test_callers_meet_the_old_version_or_the_new_one_while_it_is_patched(admin: Api, name: str) -> None:
    await admin.publish(name, "1", "y = 1", outputParameterDefinitions=names_and_types(y="integer"))
    seen = set()

    async def call() -> None:
        for _ in range(40):
            seen.add((await admin("POST", f"/api/{name}/1", json={}))["outputParameters"]["y"])

    async def patch() -> None:
        for n in range(2, 6):
            await admin("PATCH", f"/services/{name}/1", json={"code": f"y = {n}"})

    await asyncio.gather(call(), call(), call(), patch())
    assert seen <= {1, 2, 3, 4, 5}


async def test_a_deleted_version_is_gone_and_can_be_published_again(admin: Api, name: str) -> None:
    await admin.publish(name, "1", "y = x", **ECHO)
    assert await admin("DELETE", f"/services/{name}/1") == b""
    await admin("DELETE", f"/services/{name}/1", 404)
    await admin("POST", f"/api/{name}/1", 404, {"x": 1})
    await admin.publish(name, "1", "y = -x", **ECHO)
    assert (await admin("POST", f"/api/{name}/1", json={"x": 1}))["outputParameters"] == {"y": -1}


# --- who may


async def test_contributors_change_their_own_services_and_nobody_elses(admin: Api, carol: Api, name: str) -> None:
    await carol.publish(name, "hers", "y = 1")
    await admin.publish(name, "his", "y = 1")
    await carol("PATCH", f"/services/{name}/hers", json={"description": "mine"})
    await carol("PATCH", f"/services/{name}/his", 403, {"description": "mine"})
    await carol("DELETE", f"/services/{name}/his", 403)
    await admin("PATCH", f"/services/{name}/hers", json={"description": "an Owner may"})
    await carol("DELETE", f"/services/{name}/hers")


async def test_code_is_shown_to_its_publisher_and_owners_only(admin: Api, carol: Api, rita: Api, name: str) -> None:
    await carol.publish(name, "1", "y = 'secret'", initCode="pass")
    for api, code, permission in (
        (carol, "y = 'secret'", "read/write"),
        (admin, "y = 'secret'", "read/write"),
        (rita, None, "read only"),
    ):
        [found] = await api("GET", f"/services/{name}/1")
        assert (found["code"], found["myPermissionOnService"]) == (code, permission)


async def test_readers_list_and_consume_but_do_not_publish(admin: Api, rita: Api, name: str) -> None:
    await admin.publish(name, "1", "y = x", **ECHO)
    assert (await rita("POST", f"/api/{name}/1", json={"x": 1}))["success"]
    assert "Reader" in (await rita.publish(name, "2", "y = 1", 403))["message"]
    await rita("DELETE", f"/services/{name}/1", 403)


async def test_a_user_without_a_role_may_do_nothing(admin: Api, norman: Api, name: str) -> None:
    await admin.publish(name, "1", "y = x", **ECHO)
    await norman("GET", "/services", 403)
    await norman("POST", f"/api/{name}/1", 403, {"x": 1})
    await norman("POST", "/sessions", 403, {"runtimeType": "Python"})


# --- the service's own document


async def test_the_swagger_document_describes_the_service(admin: Api, name: str) -> None:
    await admin.publish(name, "1", "y = x", description="says x", **ECHO)
    document = await admin("GET", f"/api/{name}/1/swagger.json")
    assert document["info"] == {"description": "says x", "title": name, "version": "1"}
    assert document["paths"][f"/api/{name}/1"]["post"]["operationId"] == "ConsumeWebService"
    assert document["definitions"]["InputParameters"]["properties"] == {
        "x": {"type": "number", "description": "numeric"}
    }
    await admin("GET", f"/api/{name}/9/swagger.json", 404)
