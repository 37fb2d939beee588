"""The console's pages about batches: started from what people have, watched, their results and files, cancelled."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mlhost.errors import Invalid
from mlhost.http.console import batches
from mlhost.http.console.records import array
from mlhost.names import new_id
from tests.parts import Api, names_and_types
from tests.web import HOSTILE, Browser, Page

SCRIPT = {"HX-Request": "true", "Sec-Fetch-Site": "same-origin"}
INPUTS = (("n", "integer"), ("x", "numeric"), ("s", "character"), ("b", "logical"), ("v", "vector"))


@pytest.fixture
async def name(carol: Api) -> AsyncIterator[str]:
    """Of a service that divides six by x, says s and makes a file of both."""
    name = f"console-{new_id()}"
    await carol.publish(
        name,
        "1 é",
        "y = 6 / x\nt = s\nopen('made é.txt', 'w').write(s)",
        inputParameterDefinitions=names_and_types(x="numeric", s="character"),
        outputParameterDefinitions=names_and_types(y="numeric", t="character"),
        outputFileNames=["made é.txt"],
    )
    yield name
    await carol("DELETE", f"/services/{name}/1 é")


async def start(browser: Browser, name: str, records: str, expect: int = 303, **more: str) -> Page:
    address = f"/console/services/{name}/1%20%C3%A9"
    word = (await browser.get(address)).fields["word"]
    return await browser.post(f"{address}/batch", expect, word=word, records=records, **more)


async def finished(browser: Browser, address: str) -> Page:
    async with asyncio.timeout(20):
        while "Complete" not in (page := await browser.get(address)).text:
            await asyncio.sleep(0.02)
    return page


async def test_a_table_is_scored_and_every_record_is_told(browser: Browser, name: str) -> None:
    address = (await start(browser, name, f"x,s\r\n2,a\r\n0,b\r\n3,{HOSTILE}\r\n")).location
    page = await finished(browser, address)
    for told in (
        "3 of 3 records",
        '{"y":3.0,"t":"a"}',
        "ZeroDivisionError",
        "Succeeded",
        "Failed",
        HOSTILE,
        "by carol",
    ):
        assert told in page.text, told
    assert HOSTILE not in page.html
    [link] = [link for link in page.links if "/0/files/" in link]
    async with browser.http.get(link) as content:
        assert await content.text() == "a"
    async with browser.http.get(f"{address}/results.json") as answer:
        assert answer.headers["Content-Disposition"] == "attachment"
        assert (await answer.json())["completedItemCount"] == 3
    assert address in (await browser.get("/console/batches")).links


async def test_a_page_asks_again_until_its_batch_has_ended(carol: Api, browser: Browser, name: str) -> None:
    slow = f"{name}-slow"
    await carol.publish(
        slow, "1 é", "import time\ntime.sleep(x)", inputParameterDefinitions=names_and_types(x="numeric")
    )
    address = (await start(browser, slow, "x\n0\n30", parallel="1")).location
    page = await browser.get(address)
    assert page.named("div", **{"hx-trigger": "every 1s"})
    assert page.named("progress", max="2")
    assert (await browser.get("/console/batches")).named("div", id="batches", **{"hx-trigger": "every 2s"})
    part = await browser.get(address, headers={"HX-Request": "true"})
    assert "<html" not in part.html
    assert (await browser.post(f"{address}/delete", 303, word=page.fields["word"])).location == "/console/batches"
    await browser.get(address, 404)
    await carol("DELETE", f"/services/{slow}/1 é")


async def test_an_ended_batch_is_not_asked_for_again_and_its_results_are_shown_page_by_page(
    browser: Browser, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PAGE", 2)
    monkeypatch.setattr(batches, "MAX_BYTES", 400)
    records = "\n".join(json.dumps({"x": at, "s": "z" * (500 if at == 3 else 1)}) for at in range(1, 6))
    address = (await start(browser, name, records)).location
    page = await finished(browser, address)
    assert not page.named("div", **{"hx-trigger": "every 1s"})
    assert {link for link in page.links if "from=" in link} == {f"{address}?from=2"}
    page = await browser.get(f"{address}?from=2")
    assert "too large to be shown" in page.text
    assert {link for link in page.links if "from=" in link} == {f"{address}?from=0", f"{address}?from=4"}
    assert "none from here on" in (await browser.get(f"{address}?from=9")).text
    assert "whole number" in (await browser.get(f"{address}?from=x", 400)).text


async def test_what_is_no_batch_is_told_where_it_was_typed(browser: Browser, name: str) -> None:
    page = await browser.get(f"/console/services/{name}/1%20%C3%A9")
    for records, told in (
        ("", "there are none"),
        ("x,s\n1", "Line 2 has 1 cells; the header has 2"),
        ("[1]", "Record 0"),
    ):
        answer = await browser.post(
            f"/console/services/{name}/1%20%C3%A9/batch", 400, SCRIPT, word=page.fields["word"], records=records
        )
        assert told in answer.text
        assert "<html" not in answer.html
    assert "parallel: must be a whole" in (await start(browser, name, "{}", 400, parallel="1.5")).text


async def test_readers_score_and_see_their_own_batches_and_owners_all(
    browser: Browser, ritas: Browser, name: str, url: str
) -> None:
    mine, hers = (await start(browser, name, "x,s\n1,a")).location, (await start(ritas, name, "x,s\n1,b")).location
    await finished(browser, mine)
    await finished(ritas, hers)
    assert {mine, hers} & (await ritas.get("/console/batches")).links == {hers}
    await ritas.get(mine, 404)
    async with Browser.open(url) as owner:
        await owner.sign_in("admin")
        assert {mine, hers} <= (await owner.get("/console/batches")).links
        await owner.get(hers)


@pytest.mark.parametrize(
    ("text", "records"),
    [
        ("n,x,s,b,v\n1,.5,a,TRUE,[1]\n", [{"n": 1, "x": ".5", "s": "a", "b": True, "v": [1]}]),
        ('n,s\n,"a ""b"",\nc"\n\n', [{"n": None, "s": 'a "b",\nc'}]),
        ("n\n007\n٣", [{"n": "007"}, {"n": "٣"}]),  # the service says what is wrong with these
        ("\N{ZERO WIDTH NO-BREAK SPACE}n,other\n1,2", [{"n": 1, "other": "2"}]),
        ('{"n": 1}\n\n{"n": 2}', [{"n": 1}, {"n": 2}]),
        (' [{"n": 1}] ', [{"n": 1}]),
        ("n", []),
    ],
)
def test_records_are_read_as_people_have_them(text: str, records: list[Any]) -> None:
    assert json.loads(array(text, INPUTS)) == records


@pytest.mark.parametrize(
    ("text", "told"), [("v\nx", "Line 2: input 'v' is not JSON"), ('n,s\n1,"a', "Line 2 is not CSV"), (" ", "none")]
)
def test_a_line_that_cannot_be_read_is_named(text: str, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        array(text, INPUTS)


def test_the_rows_of_a_table_are_frames_where_a_frame_is_all_that_is_taken() -> None:
    told = json.loads(array("a,b c\n1,\nx,true", (("inputData", "data.frame"),)))
    assert told == [{"inputData": {"a": [1], "b c": [None]}}, {"inputData": {"a": ["x"], "b c": [True]}}]
    named = json.loads(array('inputData\n"{""a"": [1]}"', (("inputData", "data.frame"),)))
    assert named == [{"inputData": {"a": [1]}}]
