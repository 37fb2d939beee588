"""Sessions over HTTP: the contract's every route, and what bad input gets."""

import asyncio
import pickle
import platform

import dill
import pytest
from aiohttp import FormData

from tests.parts import Api


def form(name: str, content: bytes, field: str = "file") -> FormData:
    data = FormData(quote_fields=False)
    data.add_field(field, content, filename=name, content_type="application/octet-stream")
    return data


# --- opening and closing


async def test_a_session_is_listed_with_its_name_until_it_is_closed(admin: Api) -> None:
    path = await admin.session(name="Session 1")
    listed = [each for each in await admin("GET", "/sessions") if path.endswith(each["id"])]
    assert listed == [
        {
            "id": path.split("/")[2],
            "name": "Session 1",
            "owner": "admin",
            "runtimeType": "Python",
            "placement": "process",
            "pythonVersion": platform.python_version(),
        }
    ]
    assert isinstance(await admin("DELETE", path), str)
    assert not any(path.endswith(each["id"]) for each in await admin("GET", "/sessions"))
    await admin("POST", f"{path}/execute", 404, {"code": "1"})


async def test_a_session_without_a_name_is_given_one_of_fifteen_letters(admin: Api, session: str) -> None:
    [found] = [each for each in await admin("GET", "/sessions") if session.endswith(each["id"])]
    assert len(found["name"]) == 15
    assert found["name"].isalpha()


@pytest.mark.parametrize("body", [{}, {"runtimeType": "R"}, {"runtimeType": None}])
async def test_a_session_that_is_not_python_is_refused_with_words(admin: Api, body: dict[str, str]) -> None:
    answer = await admin("POST", "/sessions", 400, body)
    assert "runtimeType" in answer["message"]
    assert answer["fields"] == "runtimeType"


async def test_another_users_session_does_not_exist(carol: Api, session: str) -> None:
    await carol.execute(session, "1", expect=404)
    for method, path in [("GET", "/workspace"), ("GET", "/files"), ("GET", "/console-output"), ("DELETE", "")]:
        await carol(method, session + path, 404)
    assert not any(session.endswith(each["id"]) for each in await carol("GET", "/sessions"))


async def test_a_session_closed_by_force_is_gone_at_once(admin: Api) -> None:
    path = await admin.session()
    running = asyncio.ensure_future(admin.execute(path, "import time; time.sleep(60)", expect=410))
    await asyncio.sleep(0.2)
    await admin("DELETE", f"{path}/force")
    assert "by force" in (await running)["message"]


# --- executing


async def test_inputs_and_outputs_are_plain_json(admin: Api, session: str) -> None:
    value = {"a": [1, 2.5, None, True], "ü": "text", "big": 2**70}
    done = await admin.execute(session, "y = x; z = [x['big'] + 1]", "y", "z", x=value)
    assert done == {
        "success": True,
        "errorMessage": "",
        "outputParameters": [{"name": "y", "value": value}, {"name": "z", "value": [2**70 + 1]}],
        "consoleOutput": "",
        "changedFiles": [],
    }


async def test_arrays_and_frames_come_back_as_lists_and_columns(admin: Api, session: str) -> None:
    code = "import numpy, pandas\na = numpy.eye(2)\nf = pandas.DataFrame({'x': [1, None], 'y': ['a', 'b']})"
    done = await admin.execute(session, code, "a", "f")
    values = {each["name"]: each["value"] for each in done["outputParameters"]}
    assert values == {"a": [[1, 0], [0, 1]], "f": {"x": [1, None], "y": ["a", "b"]}}


async def test_code_that_raises_is_an_answer_with_its_traceback_and_the_session_goes_on(
    admin: Api, session: str
) -> None:
    await admin.execute(session, "def divide(x):\n    return 1 / x\n")
    done = await admin.execute(session, "before = 1\ndivide(0)")
    assert not done["success"]
    assert done["errorMessage"] == "ZeroDivisionError: division by zero"
    assert 'File "<block 2>", line 2' in done["consoleOutput"]
    assert "return 1 / x" in done["consoleOutput"]
    assert "mlhost" not in done["consoleOutput"]
    assert (await admin.execute(session, "", "before"))["outputParameters"][0]["value"] == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = (", "SyntaxError: '(' was never closed (line 1)"),
        ("exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise ValueError('\\ud800')", "ValueError"),
        ("x\0", "source code string cannot contain null bytes"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "E: <exception str() failed>"),
        ("def f(): f()\nf()", "RecursionError"),
    ],
)
async def test_every_way_to_fail_is_told_in_one_line(admin: Api, session: str, code: str, message: str) -> None:
    done = await admin.execute(session, code)
    assert message in done["errorMessage"]
    assert (await admin.execute(session, "1"))["success"]


async def test_an_output_that_was_never_assigned_fails_and_is_named(admin: Api, session: str) -> None:
    done = await admin.execute(session, "x = 1", "x", "missing")
    assert not done["success"]
    assert "'missing' was never assigned" in done["errorMessage"]


async def test_files_the_code_makes_or_changes_are_told(admin: Api, session: str) -> None:
    done = await admin.execute(session, "open('a.txt', 'w').write('a'); open('b.txt', 'w').write('b')")
    assert done["changedFiles"] == ["a.txt", "b.txt"]
    assert (await admin.execute(session, "open('b.txt', 'a').write('more')"))["changedFiles"] == ["b.txt"]


async def test_snake_case_and_any_case_of_property_names_are_understood(admin: Api, session: str) -> None:
    body = {"CODE": "y = x", "input_parameters": [{"Name": "x", "VALUE": 3}], "outputparameters": ["y"], "more": 1}
    done = await admin("POST", f"{session}/execute", json=body)
    assert done["outputParameters"] == [{"name": "y", "value": 3}]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "code"),
        ({"code": 1}, "code"),
        ({"code": "1", "inputParameters": [{"value": 1}]}, "name"),
        ({"code": "1", "inputParameters": {}}, "inputParameters"),
        ({"code": "1", "inputParameters": [{"name": "not a name", "value": 1}]}, "inputParameters"),
        ({"code": "1", "outputParameters": [1]}, "outputParameters"),
        ([], "object"),
    ],
)
async def test_a_malformed_request_is_refused_naming_the_field(
    admin: Api, session: str, body: object, names: str
) -> None:
    answer = await admin("POST", f"{session}/execute", 400, body)
    assert names in answer["message"]


async def test_a_body_that_is_not_json_is_refused(admin: Api, session: str) -> None:
    for body in (b"", b"{not json", b"\xff\xfe", b"[" * 100_000):
        await admin("POST", f"{session}/execute", 400, data=body)


async def test_the_console_and_lists_answer_while_code_runs_and_cancel_ends_it(admin: Api, session: str) -> None:
    await admin.execute(session, "kept = 1")
    running = asyncio.ensure_future(admin.execute(session, "print('begun')\nimport time\ntime.sleep(60)"))
    async with asyncio.timeout(10):
        while (await admin("GET", f"{session}/console-output"))["consoleOutput"] != "begun\n":
            await asyncio.sleep(0.02)
        assert await admin("GET", f"{session}/workspace") == ["kept"]
        assert await admin("GET", f"{session}/files") == []
        assert any(session.endswith(each["id"]) for each in await admin("GET", "/sessions"))
        assert isinstance(await admin("POST", f"{session}/cancel"), str)
        done = await running
    assert not done["success"]
    assert "KeyboardInterrupt" in done["errorMessage"]
    assert (await admin.execute(session, "", "kept"))["success"]


async def test_blocks_sent_at_once_run_one_after_the_other_each_with_its_own_console(admin: Api, session: str) -> None:
    blocks = [f"import time\nprint({n})\ntime.sleep(0.05)\nprint({n})" for n in range(8)]
    done = await asyncio.gather(*(admin.execute(session, block) for block in blocks))
    assert [each["consoleOutput"] for each in done] == [f"{n}\n{n}\n" for n in range(8)]


async def test_too_many_blocks_at_once_are_told_to_come_back(admin: Api, session: str) -> None:
    async def execute() -> int:
        headers = {"Authorization": f"Bearer {admin.token}"}
        code = {"code": "import time; time.sleep(0.05)"}
        async with admin.http.post(f"{session}/execute", json=code, headers=headers) as response:
            return response.status

    answers = await asyncio.gather(*(execute() for _ in range(40)))
    assert set(answers) == {200, 503}


async def test_history_holds_every_block_oldest_first(admin: Api, session: str) -> None:
    for code in ("a = 1", "1 / 0", "b = 2"):
        await admin.execute(session, code)
    assert await admin("GET", f"{session}/history") == ["a = 1", "1 / 0", "b = 2"]


async def test_a_session_whose_code_ended_its_process_is_gone_with_the_reason(admin: Api) -> None:
    path = await admin.session()
    answer = await admin.execute(path, "import os\nos._exit(3)", expect=410)
    assert "exit status 3" in answer["message"]
    assert "while running: import os …" in answer["message"]
    for method, rest in [("GET", "/workspace"), ("GET", "/console-output"), ("POST", "/cancel")]:
        assert "exit status 3" in (await admin(method, path + rest, 410))["message"]
    await admin("DELETE", path)
    await admin("GET", f"{path}/workspace", 404)


# --- objects


async def test_objects_travel_as_dill_pickles_both_ways(admin: Api, session: str) -> None:
    await admin("POST", f"{session}/workspace/k", data=dill.dumps({"a": [1, 2]}))
    done = await admin.execute(session, "k['a'].append(3); f = lambda: k", "k")
    assert done["outputParameters"][0]["value"] == {"a": [1, 2, 3]}
    assert dill.loads(await admin("GET", f"{session}/workspace/k")) == {"a": [1, 2, 3]}
    assert dill.loads(await admin("GET", f"{session}/workspace/f"))() == {"a": [1, 2, 3]}
    assert await admin("GET", f"{session}/workspace") == ["f", "k"]
    await admin("DELETE", f"{session}/workspace/k")
    assert await admin("GET", f"{session}/workspace") == ["f"]
    await admin("DELETE", f"{session}/workspace/k", 404)
    await admin("GET", f"{session}/workspace/k", 404)


async def test_modules_and_private_names_are_not_listed(admin: Api, session: str) -> None:
    await admin.execute(session, "import json as j\n_private = 1\npublic = 2")
    assert await admin("GET", f"{session}/workspace") == ["public"]
    await admin("GET", f"{session}/workspace/j", 404)


async def test_an_object_that_cannot_be_pickled_says_so(admin: Api, session: str) -> None:
    await admin.execute(session, "g = (x for x in [])")
    answer = await admin("GET", f"{session}/workspace/g", 400)
    assert "'g' cannot be pickled" in answer["message"]


@pytest.mark.parametrize("name", ["a-b", "1a", "_x", "__class__", "class", "a%20b", "a%00b"])
async def test_an_object_needs_the_name_of_a_variable(admin: Api, session: str, name: str) -> None:
    answer = await admin("POST", f"{session}/workspace/{name}", 400, data=pickle.dumps(1))
    assert answer["fields"] == "objectName"


async def test_bytes_that_are_no_pickle_are_refused(admin: Api, session: str) -> None:
    for content in (b"", b"hello", pickle.dumps([1] * 1000)[:50]):
        answer = await admin("POST", f"{session}/workspace/x", 400, data=content)
        assert "not a pickle" in answer["message"]


async def test_a_pickle_that_ends_its_worker_is_told_and_harms_nobody_else(admin: Api, session: str) -> None:
    path = await admin.session()
    answer = await admin("POST", f"{path}/workspace/x", 410, data=b"cos\n_exit\n(I7\ntR.")
    assert "exit status 7" in answer["message"]
    assert (await admin.execute(session, "1"))["success"]


# --- files


async def test_files_are_uploaded_listed_downloaded_and_deleted(admin: Api, session: str) -> None:
    assert await admin("POST", f"{session}/files", 201, data=form("d ä.csv", b"a,b\n1,2\n")) == b""
    assert admin.headers["Content-Type"].startswith("text/plain")
    assert await admin("GET", f"{session}/files") == ["d ä.csv"]
    assert await admin("GET", f"{session}/files/d ä.csv") == b"a,b\n1,2\n"
    await admin("POST", f"{session}/files", 201, data=form("d ä.csv", b"new"))
    assert await admin("GET", f"{session}/files/d ä.csv") == b"new"
    await admin("DELETE", f"{session}/files/d ä.csv")
    await admin("DELETE", f"{session}/files/d ä.csv", 404)
    await admin("GET", f"{session}/files/d ä.csv", 404)


@pytest.mark.parametrize("name", ["../up", "a/b", "..", ".", "a\\b"])
async def test_an_upload_cannot_name_a_path(admin: Api, session: str, name: str) -> None:
    await admin("POST", f"{session}/files", 400, data=form(name, b"x"))


@pytest.mark.parametrize("name", ["..%2fserver.key", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "a%00b", "%2e%2e"])
async def test_a_download_cannot_leave_the_folder(admin: Api, session: str, name: str) -> None:
    from yarl import URL

    await admin("GET", URL(f"{session}/files/{name}", encoded=True), 400)  # type: ignore[arg-type]


async def test_an_upload_without_its_part_or_not_multipart_is_refused(admin: Api, session: str) -> None:
    await admin("POST", f"{session}/files", 400, data=form("x", b"x", field="other"))
    await admin("POST", f"{session}/files", 400, data=b"plain")
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    await admin("POST", f"{session}/files", 400, data=b"garbage", headers=broken)
    await admin("POST", f"{session}/files", 400, data=b"x", headers={"Content-Type": "multipart/form-data"})


async def test_an_object_is_told_as_typed_json(admin: Api, session: str) -> None:
    await admin.execute(session, "import numpy as np\na = np.arange(2.0)\nb = True\nc = {'k': (1, None)}\nd = object()")
    for name, told in (
        ("a", {"type": "vector", "value": [0.0, 1.0]}),
        ("b", {"type": "logical", "value": True}),
        ("c", {"type": "", "value": {"k": [1, None]}}),
    ):
        assert await admin("GET", f"{session}/workspace/{name}/value") == told
    refused = await admin("GET", f"{session}/workspace/d/value", 400)
    assert refused["message"] == "'d' has no form in JSON: an object of type object cannot be written as JSON."
    await admin("GET", f"{session}/workspace/np/value", 404)
