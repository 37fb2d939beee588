"""The console's pages about services: found, shown, tried, compared, deleted, by whom it is allowed to."""

import asyncio
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from time import perf_counter
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from sklearn.linear_model import LinearRegression
from yarl import URL

from mlhost import realtime
from mlhost.audit import lines
from mlhost.auth.principal import Principal, Role
from mlhost.host import Host
from mlhost.http.console import comparing, trying
from mlhost.http.console.examples import examples
from mlhost.http.console.recipes import recipes
from mlhost.names import new_id
from mlhost.params.types import TYPES
from tests.parts import Api, names_and_types
from tests.web import HOSTILE, Browser, Page

NONE = "\N{EN DASH}"  # in a table, where there is nothing
ALL = {kind: f"a{at}" for at, kind in enumerate(TYPES)}  # an input of each type
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # 1 x 1, PNG


@pytest.fixture
async def name(carol: Api) -> AsyncIterator[str]:
    """Of a service that a test may publish as carol."""
    name = f"console-{new_id()}"
    yield name
    for service in await carol("GET", f"/services/{name}"):
        await carol("DELETE", f"/services/{name}/{service['version']}")


async def publish(
    api: Api, name: str, version: str, code: str, takes: Any = None, gives: Any = None, **more: Any
) -> str:
    """Publish, and give the address of the version's page."""
    definitions: dict[str, Any] = {
        "inputParameterDefinitions": names_and_types(**(takes or {})),
        "outputParameterDefinitions": names_and_types(**(gives or {})),
    }
    await api.publish(name, version, code, **definitions, **more)
    return f"/console/services/{name}/{version}"


async def attempt(browser: Browser, address: str, expect: int = 200, *, script: bool = True, **typed: str) -> Page:
    """Send the form of a version's page, with something else typed into some of its fields."""
    page = await browser.get(address)
    says = {"Sec-Fetch-Site": "same-origin"} | ({"HX-Request": "true"} if script else {})
    fields = page.fields | {f"in.{name}": text for name, text in typed.items()}
    return await browser.post(f"{address}/try", expect, headers=says, **fields)


async def test_services_are_found_by_any_word_of_what_is_told_of_them(carol: Api, browser: Browser, name: str) -> None:
    await publish(carol, name, "1.0", "1", description="Tells irises apart")
    await publish(carol, name, "2.0", "1")
    for words, found in (
        ("", {"1.0", "2.0"}),
        ("APART irises", {"1.0"}),
        (f"{name} carol 2.0", {"2.0"}),
        ("no", set()),
    ):
        wanted = f"{name} {words}" if words != "no" else "no-such-thing"
        page = await browser.get("/console/services?q=" + wanted.replace(" ", "+"))
        assert {f"/console/services/{name}/{version}" for version in found} == {
            link for link in page.links if name in link
        }
    part = await browser.get(f"/console/services?q={name}", headers={"HX-Request": "true"})
    assert "<html" not in part.html
    assert len(part.named("tr")) == 3
    back = {"HX-Request": "true", "HX-History-Restore-Request": "true"}
    assert "<html" in (await browser.get(f"/console/services?q={name}", headers=back)).html


async def test_names_may_hold_whatever_they_may_hold(carol: Api, browser: Browser, name: str) -> None:
    odd, version = f"{name} é+@~.", "1 +ä"
    await carol.publish(quote(odd), quote(version), "y = 1", outputParameterDefinitions=names_and_types(y="numeric"))
    found = await browser.get("/console/services?q=" + quote(odd))
    [address] = [link for link in found.links if link.startswith("/console/services/")]
    page = await browser.get(URL(address, encoded=True))
    assert page.title == f"{odd} {version} · mlhost"
    says = {"Sec-Fetch-Site": "same-origin"}
    [tried] = [action for action in page.actions if action.endswith("/try")]
    answer = await browser.request("POST", URL(tried, encoded=True), 200, headers=says, data=page.fields)
    assert "Succeeded" in answer.text
    [gone] = [link for link in page.links if link.endswith("/delete")]
    asked = await browser.get(URL(gone, encoded=True))
    await browser.request("POST", URL(gone, encoded=True), 303, headers=says, data={"word": asked.fields["word"]})
    assert await carol("GET", f"/services/{quote(odd)}") == []


async def test_a_name_alone_leads_to_the_version_published_last(carol: Api, browser: Browser, name: str) -> None:
    await publish(carol, name, "2", "1")
    await publish(carol, name, "1", "1")
    assert (await browser.get(f"/console/services/{name}", 303)).location == f"/console/services/{name}/1"
    assert "There is no service" in (await browser.get("/console/services/no-such", 404)).text
    assert "no-such" in (await browser.get(f"/console/services/{name}/no-such", 404)).text


async def test_a_form_has_a_fitting_field_for_every_type_and_its_examples_are_taken(
    carol: Api, browser: Browser, name: str
) -> None:
    gives = {f"b{at}": kind for at, kind in enumerate(TYPES)}
    code = "\n".join(f"b{at} = a{at}" for at in range(len(TYPES)))
    address = await publish(carol, name, "1", code, {name: kind for kind, name in ALL.items()}, gives)
    page = await browser.get(address)
    assert page.named("input", name=f"in.{ALL['integer']}", type="number", step="1")
    assert page.named("input", name=f"in.{ALL['numeric']}", type="number", step="any")
    assert page.named("input", name=f"in.{ALL['character']}", type="text")
    assert page.named("select", name=f"in.{ALL['logical']}")
    for kind, drop in (("vector", "vector"), ("matrix", "matrix"), ("data.frame", "frame")):
        assert page.named("textarea", name=f"in.{ALL[kind]}", **{"data-drop": drop})
    for has in (*page.named("input", type="number"), *page.named("textarea"), *page.named("select")):
        assert page.named("label", **{"for": has["id"]})
    typed: dict[str, Any] = {ALL["logical"]: "false"}
    answer = await attempt(browser, address, **typed)
    assert "Succeeded in" in answer.text
    assert "false" in answer.text
    assert "[1, 2, 3]" in answer.text
    assert len(answer.named("table")) == 2


async def test_an_attempt_without_scripts_shows_the_page_again_with_what_was_typed(
    carol: Api, browser: Browser, name: str
) -> None:
    address = await publish(carol, name, "1", "y = 2 * x", {"x": "numeric"}, {"y": "numeric"})
    page = await attempt(browser, address, script=False, x="21")
    assert "42" in page.text
    assert page.fields["in.x"] == "21"
    assert page.title.startswith(name)


async def test_an_attempt_is_a_call_and_no_change(carol: Api, browser: Browser, host: Host, name: str) -> None:
    address = await publish(carol, name, "1", "1")
    before = host.metrics.now().requests
    await attempt(browser, address)
    assert host.metrics.now().requests == before + 1
    told = [line for line in lines(host.folder.path) if name in line]
    assert len(told) == 1  # that it was published


async def test_what_goes_wrong_is_told_in_words(carol: Api, browser: Browser, name: str) -> None:
    takes = {"x": "numeric", "v": "vector"}
    address = await publish(carol, name, "1", "print('before'); y = 1 / x", takes, {"y": "numeric"})
    failed = await attempt(browser, address, x="0")
    assert "ZeroDivisionError" in failed.text
    assert "before" in failed.text
    assert failed.named("span", **{"class": "badge bad"})
    assert "'x' must be of type numeric" in (await attempt(browser, address, 400, x="many")).text
    assert "'v' is not JSON" in (await attempt(browser, address, 400, v="[1, 2")).text
    whole = await attempt(browser, address, 400, script=False, v="[1, 2")
    assert "'v' is not JSON" in whole.text
    assert "<html" in whole.html


async def test_pictures_are_shown_other_files_are_offered_and_nothing_else_is_taken_for_a_picture(
    carol: Api, browser: Browser, name: str
) -> None:
    code = (
        f"import base64\nopen('a.png', 'wb').write(base64.b64decode({PIXEL!r}))\n"
        f"open('b.png', 'w').write({HOSTILE!r})\nopen('c.csv', 'w').write('1,2')"
    )
    address = await publish(carol, name, "1", code, outputFileNames=["a.png", "b.png", "c.csv", "d.txt"])
    page = await attempt(browser, address)
    [picture] = page.named("img")
    assert picture["src"] == f"data:image/png;base64,{PIXEL}"
    assert {link["download"] for link in page.named("a")} == {"a.png", "b.png", "c.csv"}
    assert all(link.startswith("data:application/octet-stream;base64,") for link in page.links)
    assert "d.txt file It was not made by this call." in page.text


async def test_nothing_that_users_wrote_becomes_markup(carol: Api, browser: Browser, name: str) -> None:
    session = await carol.session()
    code = f"class Odd:\n    def __repr__(self):\n        return {HOSTILE!r}\nodd = Odd()"
    await carol.execute(session, code)
    snapshot = (await carol("POST", f"{session}/snapshot", 201, {"name": None}))["snapshotId"]
    await carol("DELETE", session)
    told = {"description": HOSTILE, "snapshotId": snapshot}
    code = f"print({HOSTILE!r})\ny = {HOSTILE!r}\nz = {{y: [y]}}"
    gives = {"y": "character", "z": "data.frame"}
    address = await publish(carol, name, "1", code, gives=gives, **told)
    await publish(carol, name, "2", f"raise ValueError({HOSTILE!r})", {"x": "character"})
    other = address.removesuffix("1") + "2"
    pages = [
        await browser.get(path)
        for path in (address, f"{other}/diff?with=1", f"{address}/delete", "/console/services", "/console")
    ]
    pages += [
        await browser.get(f"/console/services?q={HOSTILE}"),
        await attempt(browser, address),
        await attempt(browser, other, x=HOSTILE),
        await attempt(browser, other, script=False, x=HOSTILE),
    ]
    for page in pages:
        assert not re.search(r"<script(?! src=)", page.html)
        assert not page.named("script", src="")
    assert sum(HOSTILE in page.html for page in pages) == 0
    assert sum(HOSTILE in page.text for page in pages) >= 7
    assert "Odd" in pages[0].text


async def test_code_and_what_it_starts_with_are_shown_to_its_publisher_and_owners_alone(
    carol: Api, browser: Browser, ritas: Browser, host: Host, url: str, name: str
) -> None:
    session = await carol.session()
    await carol.execute(session, "secret_weights = [1, 2, 3]\nopen('notes.txt', 'w').write('x' * 1500)")
    snapshot = (await carol("POST", f"{session}/snapshot", 201, {"name": None}))["snapshotId"]
    await carol("DELETE", session)
    address = await publish(carol, name, "1", "secret_code = 1", initCode="secret_start = 1", snapshotId=snapshot)
    await publish(carol, name, "2", "secret_code = 2")
    for words in ("secret_code = 1", "secret_start = 1", "secret_weights", "list", "notes.txt", "1.5 kB"):
        assert words in (await browser.get(address)).text
    for path in (address, f"{address}/diff?with=2"):
        page = await ritas.get(path)
        assert "secret" not in page.text
        assert "Owners, see the code" in page.text or "Owners see the code" in page.text
    rita = Principal("rita", Role.READER)
    assert await host.contents.manifest(rita, await host.services.get(rita, name, "1")) is None
    async with Browser.open(url) as owner:
        await owner.sign_in("admin")
        assert "secret_weights" in (await owner.get(address)).text
    await carol("DELETE", f"/snapshots/{snapshot}")
    assert "secret_weights" in (await browser.get(address)).text  # the version has all of it
    await carol("PATCH", address.removeprefix("/console"), json={"description": "the same, described"})
    assert "secret_weights" in (await browser.get(address)).text


async def test_two_versions_are_compared_by_their_parameters_and_their_lines(
    carol: Api, browser: Browser, name: str
) -> None:
    takes = {"x": "numeric", "n": "integer", "old": "vector"}
    await publish(carol, name, "1", "a = 1\nb = 2", takes, description="First")
    address = await publish(carol, name, "2", "a = 1\nb = 3", {"x": "numeric", "n": "numeric", "new": "vector"})
    page = await browser.get(f"{address}/diff?with=1")
    for words in (
        "n input integer numeric changed",
        "x input numeric numeric same",
        f"old input vector {NONE} removed",
    ):
        assert words in page.text
    assert f"new input {NONE} vector added" in page.text
    assert f"Description First {NONE}" in page.text
    for kind, line in (("removed", "-b = 2"), ("added", "+b = 3")):
        assert f'<span class="{kind}">{line}</span>' in page.html
    assert (await browser.get(f"{address}/diff")).title == page.title  # the one before is what one wants to see
    assert "The code is the same" in (await browser.get(f"{address}/diff?with=2")).text
    await browser.get(f"{address}/diff?with=3", 404)


def test_texts_made_to_be_slow_to_compare_are_compared_in_no_time() -> None:
    halves = [[line for at in range(4000) for line in (f"x{at}", f"p{(at + shift) % 100}")] for shift in (0, 37)]
    old, new = ("\n".join(["same", *half, "the end"]) for half in halves)
    started = perf_counter()
    lines = comparing.code(old, new, "1", "2")
    assert perf_counter() - started < 2
    assert [line.text for line in lines[:2]] == ["@@ -3,7999 +3,7999 @@", "-p0"]
    assert comparing.code(old, old, "1", "2") == []
    added = comparing.code(old, f"{old}\nmore", "1", "2")
    assert [(line.kind, line.text) for line in added[1:]] == [("added", "+more")]


async def test_deleting_names_what_goes_and_is_for_those_who_may(
    carol: Api, browser: Browser, ritas: Browser, name: str
) -> None:
    address = await publish(carol, name, "1", "1", description="Tells irises apart")
    await publish(carol, name, "2", "1")
    path = f"/api/{name}/1/batch"
    batch = (await carol("POST", path, 202, [{}]))["batchExecutionId"]
    while (await carol("GET", f"{path}/{batch}"))["state"] != "Complete":
        await asyncio.sleep(0.01)
    assert f"{address}/delete" not in (await ritas.get(address)).links
    await ritas.get(f"{address}/delete", 403)
    await ritas.post(f"{address}/delete", 403, word=(await ritas.get(address)).fields["word"])
    assert f"{address}/delete" in (await browser.get(address)).links
    page = await browser.get(f"{address}/delete")
    for words in (f"/api/{name}/1", "Tells irises apart", "1 worker", "1 batch", f"1 other version of {name}"):
        assert words in page.text
    await browser.post(f"{address}/delete", 403, word="guessed")
    assert (await browser.post(f"{address}/delete", 303, word=page.fields["word"])).location == "/console/services"
    await browser.get(address, 404)
    assert [each["version"] for each in await carol("GET", f"/services/{name}")] == ["2"]


async def test_workers_and_latencies_of_a_version_are_told_as_they_are(
    carol: Api, browser: Browser, host: Host, name: str
) -> None:
    address = await publish(carol, name, "1", "1")
    for _ in range(3):
        await carol("POST", f"/api/{name}/1", 200, {})
    part = await browser.get(f"{address}/pool", headers={"HX-Request": "true"})
    assert "3; on average" in part.text
    host.metrics.end_step()
    for path in (f"{address}/latency.json", "/console/latency.json", "/console/calls.json"):
        async with browser.http.get(path) as answer:
            told = await answer.json()
        assert {len(line["values"]) for line in told["series"]} == {len(told["times"])}
        assert any(line["values"][-1] for line in told["series"])
    async with browser.http.get(f"/console/services/{name}/2/latency.json") as answer:
        assert answer.status == 404


async def test_a_model_is_shown_with_its_columns_and_tried_with_its_example(
    carol: Api, browser: Browser, name: str
) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"length": [1.0, 2.0], "width<": [3.0, 5.0]})
    model = realtime.serialize(LinearRegression().fit(frame, [1.0, 2.0]), columns=frame)
    sent = aiohttp.FormData(default_to_multipart=True)
    sent.add_field("model", model, filename="model")
    await carol("POST", f"/realtime-services/{name}/1", 201, data=sent)
    address = f"/console/services/{name}/1"
    page = await browser.get(address)
    assert "length, width<" in page.text
    assert json.loads(page.fields["in.inputData"]) == {"length": [1.0], "width<": [3.0]}
    answer = await attempt(browser, address)
    assert "Succeeded" in answer.text
    assert "Prediction" in answer.text


async def test_a_model_whose_header_was_made_by_hand_is_shown_without_it(
    carol: Api, browser: Browser, name: str
) -> None:
    model = realtime.serialize(LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0]))
    file = io.BytesIO(model)
    header = asdict(realtime.read_header(file)) | {"packages": ["none"]}
    text = json.dumps(header).encode()
    sent = aiohttp.FormData(default_to_multipart=True)
    forged = realtime.MAGIC + realtime.LENGTHS.pack(realtime.VERSION, len(text)) + text + file.read()
    sent.add_field("model", forged, filename="model")
    await carol("POST", f"/realtime-services/{name}/1", 201, data=sent)
    page = await browser.get(f"/console/services/{name}/1")
    assert "Realtime: a model" in page.text
    assert "Made with" not in page.text


async def test_what_is_too_long_to_be_read_is_cut(carol: Api, browser: Browser, name: str) -> None:
    address = await publish(carol, name, "1", "x = 1 #" + "y" * 700_000, description="z" * 200_000)
    for path, most in (("/console/services", 100_000), (address, 600_000), (f"{address}/delete", 100_000)):
        html = (await browser.get(path)).html
        assert "z" * 500 in html
        assert len(html) < most


async def test_a_versions_own_document_is_there_for_the_browser(carol: Api, browser: Browser, name: str) -> None:
    address = await publish(carol, name, "1", "y = x", {"x": "numeric"}, {"y": "numeric"})
    async with browser.http.get(f"{address}/swagger.json") as answer:
        assert await answer.json() == await carol("GET", f"/api/{name}/1/swagger.json")


async def test_every_recipe_does_what_it_says(carol: Api, host: Host, url: str, name: str) -> None:
    takes = {name: kind for kind, name in ALL.items()}
    text = 'it\'s "$HOME" `id` \\ ${1} %s {} é'
    code = f"y = a0 + len(a4) if a2 == {text!r} else -1"
    await publish(carol, name, "1 é", code, takes, {"y": "numeric"})
    who = await host.tokens.check(carol.token)
    service = await host.services.get(who, name, "1 é")
    values = examples(service.definition.inputs) | {ALL["character"]: text}
    programs = {
        "curl": ["bash", "-c"],
        "Python (mlhost)": [sys.executable, "-c"],
        "Python (requests)": [sys.executable, "-c"],
    }
    if shutil.which("node"):
        programs["JavaScript"] = ["node", "--input-type=module", "-e"]
    told = {recipe.title: recipe.text for recipe in recipes(service, url, values)}
    environment = os.environ | {"MLHOST_TOKEN": carol.token}
    for title, program in programs.items():
        done = await asyncio.to_thread(
            subprocess.run, [*program, told[title]], env=environment, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, f"{title}: {done.stderr}\n{told[title]}"
        assert "4" in done.stdout, f"{title}: {done.stdout}"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("integer", " 7 ", 7),
        ("numeric", "1e3", 1000.0),
        ("numeric", "NaN", "NaN"),
        ("numeric", "", None),
        ("numeric", "1}", "1}"),
        ("character", "", ""),
        ("character", '"}', '"}'),
        ("logical", "true", True),
        ("logical", "", None),
        ("vector", "[1]", [1]),
        ("whatever", '{"a": 1}', {"a": 1}),
    ],
)
def test_what_is_typed_becomes_json_of_its_type(kind: str, text: str, value: Any) -> None:
    assert json.loads(trying.body((("x", kind),), {"in.x": text})) == {"x": value}


@pytest.mark.parametrize("text", ["1} , {", "[1], 2", '1, "y": 2', "nothing"])
def test_an_input_cannot_lead_out_of_its_place(text: str) -> None:
    with pytest.raises(Exception, match="'x' is not JSON"):
        trying.body((("x", "vector"),), {"in.x": text})


async def test_an_answer_too_large_to_be_shown_is_told_by_its_size() -> None:
    answer = await trying.read(b" " * (trying.MAX_ANSWER_BYTES + 1), (), 0.1)
    assert answer.hidden_bytes == trying.MAX_ANSWER_BYTES + 1
    assert not answer.error


async def test_tables_and_texts_are_cut_where_nobody_reads_on() -> None:
    told = {"success": True, "errorMessage": "", "consoleOutput": "x" * 30_000, "outputFiles": {}}
    told["outputParameters"] = {"t": {"a": list(range(1000)), "b": [None] * 1000}, "s": "y" * 30_000}
    answer = await trying.read(json.dumps(told).encode(), (("t", "data.frame"), ("s", "character")), 0.1)
    table, text = answer.outputs
    assert table.table is not None
    assert (len(table.table.rows), table.table.total, table.table.rows[1]) == (100, 1000, ["1", ""])
    assert len(text.text) == len(answer.console) == 20_001
