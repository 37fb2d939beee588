"""The console's pages about sessions: opened, worked in, watched, frozen, published from, closed."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from mlhost.errors import Gone, Invalid
from mlhost.http.console.publishing import parameters
from mlhost.names import new_id
from tests.parts import PASSWORD, Api, host_of_its_own, until
from tests.web import HOSTILE, Browser, Page

SCRIPT = {"HX-Request": "true", "Sec-Fetch-Site": "same-origin"}


async def opened(browser: Browser, **fields: str) -> str:
    """The address of the page of a new session."""
    page = await browser.get("/console/sessions")
    return (await browser.post("/console/sessions", 303, word=page.fields["word"], **fields)).location


async def send(
    browser: Browser, address: str, verb: str, expect: int = 200, script: bool = True, **fields: str
) -> Page:
    """What a form of a session's page is answered."""
    word = (await browser.get("/console/sessions")).fields["word"]
    return await browser.post(f"{address}/{verb}", expect, headers=SCRIPT if script else None, word=word, **fields)


async def test_a_session_is_opened_listed_and_closed(browser: Browser) -> None:
    address = await opened(browser, name="mine " + HOSTILE)
    page = await browser.get("/console/sessions")
    assert address in page.links
    assert HOSTILE in page.text
    assert HOSTILE not in page.html
    assert "At rest" in page.text
    assert (await send(browser, address, "close", 303, script=False)).location == "/console/sessions"
    assert "You have no session open." in (await browser.get("/console/sessions")).text
    assert "There is no session" in (await browser.get(address, 404)).text


async def test_a_block_is_run_and_what_it_made_is_seen(browser: Browser) -> None:
    address = await opened(browser)
    code = f"x = 6 * 7\r\ntext = {HOSTILE!r}\r\nprint(text)\r\nopen('a b.txt', 'w').write('123')"
    answer = await send(browser, address, "run", code=code)
    assert "Succeeded in" in answer.text
    assert "a b.txt" in answer.text
    assert answer.headers["HX-Trigger"] == "workspace"
    page = await browser.get(address)
    for told in ("x", "int", "42", "a b.txt", "3 bytes", HOSTILE):
        assert told in page.text, told
    assert HOSTILE not in page.html
    assert page.fields["code"] == code.replace("\r\n", "\n")  # of the form to publish it
    part = await browser.get(f"{address}/inside", headers={"HX-Request": "true"})
    assert "<html" not in part.html
    assert "42" in part.text


async def test_code_that_fails_is_told_with_its_traceback_on_the_console(browser: Browser) -> None:
    address = await opened(browser)
    answer = await send(browser, address, "run", code="def f():\n    return 1 / 0\nf()")
    assert "Failed" in answer.text
    assert "ZeroDivisionError: division by zero" in answer.text
    told = (await browser.get(f"{address}/console")).text
    assert "Traceback" in told
    assert "line 2, in f" in told


async def test_without_scripts_the_page_comes_back_with_outcome_and_code(browser: Browser) -> None:
    address = await opened(browser)
    page = await send(browser, address, "run", script=False, code="y = 5\nprint('here')")
    assert page.title.endswith("mlhost")
    assert page.html.count("y = 5\nprint") >= 2  # to be changed and run again, and to be published
    assert "Succeeded" in page.text
    assert "here" in page.text


async def test_the_console_follows_while_code_runs_and_can_interrupt_it(browser: Browser) -> None:
    address = await opened(browser)
    code = "import time\nprint('begun', flush=True)\nwhile True: time.sleep(0.01)"
    running = asyncio.create_task(send(browser, address, "run", code=code))
    async with asyncio.timeout(10):
        while "begun" not in (seen := await browser.get(f"{address}/console")).text:
            await asyncio.sleep(0.02)
    assert "Running" in seen.text
    assert "Running" in (await browser.get("/console/sessions")).text
    again = seen.named("div")[0]["hx-get"]
    assert not (await browser.get(again, 204)).html  # nothing new
    assert "Code runs" in (await browser.get(address)).text
    assert "interrupted" in (await send(browser, address, "cancel")).text
    assert "KeyboardInterrupt" in (await running).text
    assert "At rest" in (await browser.get(again)).text
    assert "Nothing is running" in (await send(browser, address, "cancel")).text
    assert (await send(browser, address, "cancel", 303, script=False)).location == address


async def test_objects_and_files_are_deleted_and_told_where_they_were(browser: Browser) -> None:
    address = await opened(browser)
    await send(browser, address, "run", code="x = 1\ny = 2\nopen('a#?.txt', 'w').write('1')")
    answer = await send(browser, address, "objects/x/delete")
    assert answer.text == "x is gone."
    assert answer.headers["HX-Trigger"] == "workspace"
    assert "There is no object" in (await send(browser, address, "objects/x/delete", 404)).text
    assert (await send(browser, address, "objects/y/delete", 303, script=False)).location == address
    page = await browser.get(address)
    [link] = [link for link in page.links if "/files/" in link]
    async with browser.http.get(link) as content:
        assert await content.read() == b"1"
        assert content.headers["Content-Disposition"].startswith("attachment")
    await send(browser, link, "delete")
    assert "No objects and no files yet." in (await browser.get(address)).text


async def test_a_file_is_put_into_the_folder_with_and_without_scripts(browser: Browser) -> None:
    address = await opened(browser)
    word = (await browser.get(address)).fields["word"]
    for name, says, expect in (("a.csv", SCRIPT, 200), ("b.csv", {"Sec-Fetch-Site": "same-origin"}, 303)):
        form = aiohttp.FormData({"word": word})
        form.add_field("file", b"a,b\r\n1,2\r\n", filename=name)
        await browser.request("POST", f"{address}/files", expect, headers=says, data=form)
        async with browser.http.get(f"{address}/files/{name}") as content:
            assert await content.read() == b"a,b\r\n1,2\r\n"
    assert "choose a file" in (await send(browser, address, "files", 400)).text
    form = aiohttp.FormData({"word": word}, quote_fields=False)
    form.add_field("file", b"1", filename="../up", content_type="text/plain")
    assert "file" in (await browser.request("POST", f"{address}/files", 400, headers=SCRIPT, data=form)).text


async def test_a_snapshot_is_taken_and_another_session_begins_with_it(browser: Browser, carol: Api) -> None:
    address = await opened(browser)
    await send(browser, address, "run", code="x = 41\nlock = __import__('threading').Lock()")
    refused = await send(browser, address, "snapshot", 400, name="all", strict="on")
    assert "would not hold everything" in refused.text
    taken = (await send(browser, address, "snapshot", name="kept")).headers["HX-Redirect"]
    snapshot = taken.rpartition("/")[2]
    other = await opened(browser, snapshot=snapshot)
    assert "41" in (await browser.get(other)).text
    assert (await send(browser, address, "snapshot", 303, script=False)).location.startswith("/console/snapshots/")
    for each in await carol("GET", "/snapshots"):
        await carol("DELETE", f"/snapshots/{each['id']}")


async def test_a_block_and_the_workspace_become_a_service(browser: Browser, carol: Api) -> None:
    address, name = await opened(browser), f"console-{new_id()}"
    await send(browser, address, "run", code="factor = 3")
    fields = {"name": name, "version": "1", "code": "y = factor * x", "inputs": "x: numeric", "outputs": "y:float,"}
    refused = await send(browser, address, "publish", 400, **fields | {"inputs": "x"}, with_workspace="on")
    assert "'x' names no type" in refused.text
    refused = await send(browser, address, "publish", 400, **fields | {"code": "y = ("}, with_workspace="on")
    assert "does not compile" in refused.text
    assert await carol("GET", "/snapshots") == []  # what was taken for it is gone
    shown = (await send(browser, address, "publish", **fields, with_workspace="on")).headers["HX-Redirect"]
    assert shown == f"/console/services/{name}/1"
    assert (await carol("POST", f"/api/{name}/1", json={"x": 2}))["outputParameters"] == {"y": 6}
    assert "factor" in (await browser.get(shown)).text
    alone = fields | {"version": "", "code": "y = x"}
    other = (await send(browser, address, "publish", 303, script=False, **alone)).location
    assert not (await browser.get(other)).named("h2", id="workspace")
    assert len(await carol("GET", "/snapshots")) == 1
    for service in await carol("GET", f"/services/{name}"):
        await carol("DELETE", f"/services/{name}/{service['version']}")
    for each in await carol("GET", "/snapshots"):
        await carol("DELETE", f"/snapshots/{each['id']}")


async def test_readers_see_what_they_have_and_end_it_and_no_more(ritas: Browser, browser: Browser) -> None:
    address = await opened(browser)
    page = await ritas.get("/console/sessions")
    assert "You have no session open." in page.text
    assert "/console/sessions" not in page.actions
    await ritas.get(address, 403)
    await send(ritas, address, "run", 403, code="1")
    assert "There is no session" in (await send(ritas, address, "close", 404)).text


async def test_a_page_that_is_open_does_not_keep_its_session_from_being_idle(tmp_path: Path) -> None:
    async with host_of_its_own(tmp_path, sessions={"idle_seconds": 0.4}) as host:
        who = await host.users.sign_in("admin", PASSWORD)
        session = await host.sessions.open(who)

        def has_ended() -> bool:
            try:
                host.sessions.peek(who, session.id)
            except Gone as gone:
                return "without use" in gone.message
            return False

        await until(has_ended)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", ()),
        ("x: numeric", (("x", "numeric"),)),
        (" x:int ,\n\n y : data.frame,", (("x", "int"), ("y", "data.frame"))),
    ],
)
def test_parameters_are_read_as_people_write_them(text: str, meant: tuple[tuple[str, str], ...]) -> None:
    assert parameters(text, "inputs") == meant


@pytest.mark.parametrize("text", ["x", "x:", "x: int, y"])
def test_a_parameter_without_a_type_is_named(text: str) -> None:
    with pytest.raises(Invalid, match="names no type"):
        parameters(text, "inputs")
