"""Where user code runs: what may be asked for, and what the profiles do by themselves."""

import os
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import dill
import pytest

from mlhost.executors.interpreter import IS_SUPPORTED
from mlhost.host import Host, ensure_admin, open_host
from mlhost.http.server import serve
from mlhost.store.folder import DataFolder
from tests.parts import PASSWORD, Api, cheap_passwords, config_for_tests, names_and_types, signed_in

pytestmark = pytest.mark.untraced
WHERE = "import os, threading\nwhere = [os.getpid(), threading.current_thread().name.startswith('mlhost workspace')]"
EVERYWHERE = ["process", "inline", *(["interpreter"] if IS_SUPPORTED else [])]


@asynccontextmanager
async def server(path: Path, **runtime: Any) -> AsyncIterator[tuple[Host, Api]]:
    with DataFolder.open(path) as folder:
        async with open_host(config_for_tests(runtime=runtime), folder, cheap_passwords()) as host:
            await ensure_admin(host, PASSWORD)
            async with serve(host) as url, signed_in(url, "admin") as api:
                yield host, api


@pytest.fixture(scope="module")
async def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """A server whose administrator allows every placement."""
    async with server(tmp_path_factory.mktemp("all"), allowed_placements=("process", "inline", "interpreter")) as parts:
        yield parts[1]


@pytest.fixture(scope="module")
async def embedded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with server(tmp_path_factory.mktemp("embedded"), profile="embedded") as parts:
        yield parts[1]


async def value(api: Api, session: str, code: str, name: str) -> Any:
    answer = await api.execute(session, code, name)
    assert answer["success"], answer["errorMessage"]
    return answer["outputParameters"][0]["value"]


# --- asking for a placement


@pytest.mark.parametrize("placement", EVERYWHERE)
async def test_a_session_lives_where_it_was_asked_to(open_to_all: Api, placement: str) -> None:
    session = await open_to_all.session(placement=placement)
    pid = await value(open_to_all, session, "import os\npid = os.getpid()", "pid")
    assert (pid == os.getpid()) == (placement != "process")
    await open_to_all("DELETE", session)


@pytest.mark.parametrize("placement", EVERYWHERE)
async def test_a_service_lives_where_it_was_asked_to_also_after_a_patch(open_to_all: Api, placement: str) -> None:
    session = await open_to_all.session()
    await open_to_all.execute(session, "factor = 2\ndef double(x): return factor * x")
    snapshot = (await open_to_all("POST", f"{session}/snapshot", 201, {}))["snapshotId"]
    await open_to_all("DELETE", session)
    code = "import os\ny = double(x)\npid = os.getpid()"
    declared = {
        "inputParameterDefinitions": names_and_types(x="numeric"),
        "outputParameterDefinitions": names_and_types(y="numeric", pid="integer"),
    }
    await open_to_all.publish("Placed", placement, code, placement=placement, snapshotId=snapshot, **declared)
    await open_to_all("PATCH", f"/services/Placed/{placement}", json={"description": "still there"})
    answer = await open_to_all("POST", f"/api/Placed/{placement}", json={"x": 4})
    assert answer["outputParameters"]["y"] == 8
    assert (answer["outputParameters"]["pid"] == os.getpid()) == (placement != "process")
    assert (await open_to_all("GET", f"/services/Placed/{placement}"))[0]["placement"] == placement


@pytest.mark.parametrize("path", ["/sessions", "/services/Anything/1.0"])
async def test_a_placement_that_is_not_allowed_is_refused_and_says_who_can_allow_it(admin: Api, path: str) -> None:
    fault = await admin("POST", path, 403, {"runtimeType": "Python", "code": "x = 1", "placement": "inline"})
    assert "runtime.allowed_placements" in fault["message"]
    fault = await admin("POST", path, 400, {"runtimeType": "Python", "code": "x = 1", "placement": "nowhere"})
    assert "'nowhere' is none of process, interpreter, inline" in fault["message"]


@pytest.mark.skipif(IS_SUPPORTED, reason="this CPython has subinterpreters that can be used")
async def test_an_older_python_says_which_one_the_interpreter_placement_needs(open_to_all: Api) -> None:
    fault = await open_to_all("POST", "/sessions", 400, {"runtimeType": "Python", "placement": "interpreter"})
    assert f"needs a server on CPython 3.14 or later; this one runs {platform.python_version()}" in fault["message"]


async def test_a_service_whose_placement_is_not_allowed_any_more_says_so_when_it_is_called(tmp_path: Path) -> None:
    async with server(tmp_path, allowed_placements=("inline",)) as (_, api):
        await api.publish("Inside", "1", "x = 1", placement="inline")
        await api("POST", "/api/Inside/1", json={})
    async with server(tmp_path) as (_, api):
        fault = await api("POST", "/api/Inside/1", 503, json={})
        assert "'inline', which this server does not allow any more" in fault["message"]


# --- the embedded profile


async def test_embedded_keeps_everything_in_the_servers_process(embedded: Api) -> None:
    session = await embedded.session()
    assert await value(embedded, session, WHERE, "where") == [os.getpid(), not IS_SUPPORTED]
    await embedded.publish(
        "Inside", "1", "import os\npid = os.getpid()", outputParameterDefinitions=names_and_types(pid="integer")
    )
    assert (await embedded("POST", "/api/Inside/1", json={}))["outputParameters"] == {"pid": os.getpid()}
    await embedded("GET", "/readyz")
    await embedded("DELETE", session)


async def test_embedded_starts_no_process_until_one_is_asked_for(tmp_path: Path) -> None:
    async with server(tmp_path, profile="embedded") as (_, api):
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        before = set(children.read_text().split())
        session = await api.session(placement="process")
        assert await value(api, session, "import os\npid = os.getpid()", "pid") != os.getpid()
        assert len(set(children.read_text().split()) - before) == 1


# --- moving

moves = pytest.mark.skipif(not IS_SUPPORTED, reason="sessions start in subinterpreters from CPython 3.14 on")


async def is_inline(api: Api, session: str) -> bool:
    return bool((await value(api, session, WHERE, "where"))[1])


@moves
async def test_a_session_moves_with_all_it_has_before_a_block_that_needs_numpy(embedded: Api) -> None:
    session = await embedded.session()
    before = """
import json, os, pathlib
from math import floor as down
_private, shared = 'kept', [1]
twice = [shared, shared]
def area(r): return _private, down(r * factor)
factor = 3
os.mkdir('folder'); pathlib.Path('folder/file').write_text('inside')
"""
    assert (await embedded.execute(session, before))["success"]
    assert not await is_inline(embedded, session)
    after = """
import numpy
total = int(numpy.arange(4).sum())
seen = [area(2), json.dumps(twice), twice[0] is twice[1] is shared, pathlib.Path('folder/file').read_text(), total]
"""
    seen = await value(embedded, session, after, "seen")
    assert seen == [["kept", 6], "[[1], [1]]", True, "inside", 6]
    assert await is_inline(embedded, session)
    assert await embedded("GET", f"{session}/files") == []
    await embedded("DELETE", session)


@moves
async def test_a_session_moves_for_a_module_whose_package_would_load(embedded: Api) -> None:
    session = await embedded.session()
    assert (await embedded.execute(session, "import cryptography"))["success"]
    assert not await is_inline(embedded, session)
    assert (await embedded.execute(session, "from cryptography.fernet import Fernet"))["success"]
    assert await is_inline(embedded, session)
    await embedded("DELETE", session)


@moves
async def test_a_session_with_modules_of_its_own_is_told_what_it_takes(embedded: Api) -> None:
    session = await embedded.session()
    form = aiohttp.FormData()
    form.add_field("file", b"import numpy", filename="ours.py")
    await embedded("POST", f"{session}/files", 201, data=form)
    answer = await embedded.execute(session, "ran = True\nimport ours")
    assert "needs numpy, which cannot be imported in a subinterpreter, and ours of" in answer["errorMessage"]
    assert await value(embedded, session, "left = 'ran' in globals()", "left") is False
    assert not await is_inline(embedded, session)
    await embedded("DELETE", session)


@moves
async def test_what_cannot_come_along_keeps_the_session_where_it_is(embedded: Api) -> None:
    session = await embedded.session()
    await embedded.execute(session, "numbers = (n for n in [1, 2])\nnext(numbers)")
    answer = await embedded.execute(session, "ran = True\nimport numpy")
    assert not answer["success"]
    assert "cannot come along: 'numbers': it is a generator" in answer["errorMessage"]
    assert await value(embedded, session, "left = [next(numbers), 'ran' in globals()]", "left") == [2, False]
    await embedded.execute(session, "del numbers")
    assert (await embedded.execute(session, "import numpy"))["success"]
    await embedded("DELETE", session)


@moves
async def test_a_session_moves_when_what_is_loaded_needs_it(embedded: Api) -> None:
    import numpy as np

    session = await embedded.session()
    await embedded.execute(session, "kept = 5")
    pickled = dill.dumps(np.arange(3))
    await embedded("POST", f"{session}/workspace/numbers", data=pickled)
    assert await value(embedded, session, "x = [int(numbers.sum()), kept]", "x") == [3, 5]
    snapshot = (await embedded("POST", f"{session}/snapshot", 201, {}))["snapshotId"]
    other, third = await embedded.session(), await embedded.session(snapshotId=snapshot)
    await embedded("POST", f"{other}/loadsnapshot/{snapshot}")
    for each in (other, third):
        assert await value(embedded, each, "x = int(numbers.sum())", "x") == 3
    for each in (session, other, third):
        await embedded("DELETE", each)


@moves
async def test_a_session_that_named_its_placement_stays_there(open_to_all: Api) -> None:
    session = await open_to_all.session(placement="interpreter")
    answer = await open_to_all.execute(session, "import numpy")
    assert "numpy cannot be imported in a subinterpreter" in answer["errorMessage"]
    await open_to_all("DELETE", session)
