"""The console as people use it: signing in, the overview, and everything about a service, in a real browser."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mlhost.host import Host
from mlhost.http.console.rendering import SECTIONS
from mlhost.names import new_id
from mlhost.params.types import TYPES
from tests.console.conftest import PHONE, Look, Open, sign_in
from tests.parts import Api, names_and_types

pytestmark = pytest.mark.untraced

HOSTILE = "<img src=x onerror=alert(1)>"
DROP = """(area, text) => {
    const data = new DataTransfer();
    data.items.add(new File([text], "table.csv", { type: "text/csv" }));
    area.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.fixture
async def name(carol: Api) -> AsyncIterator[str]:
    """Of a service of carol's in two versions, which takes one input of each type."""
    name = f"console-{new_id()}"
    takes = names_and_types(**{f"a{at}": kind for at, kind in enumerate(TYPES)})
    gives = names_and_types(y="numeric", said="character", frame="data.frame")
    more: dict[str, Any] = {"inputParameterDefinitions": takes, "outputParameterDefinitions": gives}
    code = f"print({HOSTILE!r})\ny = a0 + a1\nsaid = a2\nframe = a6\n"
    await carol.publish(name, "1.0", code, description=HOSTILE, **more)
    await carol.publish(name, "1.1", code.replace("+", "-"), **more)
    yield name
    for service in await carol("GET", f"/services/{name}"):
        await carol("DELETE", f"/services/{name}/{service['version']}")


async def test_one_signs_in_by_keyboard_alone_and_lands_where_one_wanted(open_tab: Open, look: Look, name: str) -> None:
    page = await open_tab()
    await page.goto(f"/console/services/{name}/1.0")
    await look(page, "sign-in")
    await sign_in(page, "carol")
    assert page.url.endswith(f"/console/services/{name}/1.0")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to content"
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.closest('main') !== null")
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url("**/console/sign-in")
    await page.goto("/console")
    assert await page.title() == "Sign in · mlhost"


async def test_a_service_is_tried_by_its_form(open_tab: Open, look: Look, name: str) -> None:
    page = await open_tab("carol")
    await page.goto(f"/console/services/{name}/1.0")
    answer = page.locator("#answer")
    await page.locator("[name='in.a0']").fill("40")
    await page.locator("[name='in.a1']").fill("2")
    await page.locator("[name='in.a2']").fill(HOSTILE)
    await page.locator("[name='in.a6']").evaluate(DROP, 'x,"y, z"\n1,"a ""b"""\n2.5,\n')
    await page.wait_for_function("() => document.querySelector('textarea[data-drop=frame]').value.includes('2.5')")
    assert json.loads(await page.locator("[name='in.a6']").input_value()) == {"x": [1, 2.5], "y, z": ['a "b"', None]}
    await page.get_by_role("button", name="Call").click()
    await answer.get_by_text("Succeeded").wait_for()
    told = await answer.inner_text()
    assert "42" in told
    assert told.count(HOSTILE) == 2  # as it was sent, and as the code printed it
    assert 'a "b"' in told
    await page.locator("[name='in.a4']").fill("[1, 2")
    await page.get_by_role("button", name="Call").click()
    await answer.get_by_text("'a4' is not JSON").wait_for()
    await page.locator(".chart canvas").wait_for()
    await look(page, "service")


async def test_a_form_works_without_scripts_too(open_tab: Open, name: str) -> None:
    page = await open_tab("carol", java_script_enabled=False)
    await page.goto(f"/console/services/{name}/1.0")
    await page.locator("[name='in.a0']").fill("40")
    await page.get_by_role("button", name="Call").click()
    assert "41.5" in await page.locator("#answer").inner_text()
    await page.goto("/console/services")
    await page.get_by_role("searchbox").fill(name)
    await page.get_by_role("button", name="Search").click()
    assert await page.locator("tbody tr").count() == 2


async def test_services_are_searched_while_one_types(open_tab: Open, look: Look, name: str) -> None:
    page = await open_tab("rita")
    await page.goto("/console/services")
    await page.get_by_role("searchbox").press_sequentially(f"{name} 1.1")
    await page.wait_for_url("**/console/services?q=*")
    await page.locator("tbody tr").nth(1).wait_for(state="detached")
    await look(page, "services")
    await page.get_by_role("link", name=name).click()
    await page.get_by_role("heading", name=f"{name} 1.1").wait_for()
    assert await page.get_by_role("link", name="Delete").count() == 0
    await page.get_by_text("who published it, and Owners see the code").wait_for()


async def test_versions_are_compared_and_one_is_deleted(open_tab: Open, look: Look, carol: Api, name: str) -> None:
    page = await open_tab("carol")
    await page.goto(f"/console/services/{name}/1.1")
    await page.get_by_role("link", name="with this one").click()
    await page.get_by_text("+y = a0 - a1").wait_for()
    await look(page, "difference")
    await page.goto(f"/console/services/{name}/1.1")
    await page.get_by_role("link", name="Delete…").click()
    await look(page, "delete")
    await page.get_by_role("button", name=f"Delete {name} 1.1").click()
    await page.wait_for_url("**/console/services")
    assert [each["version"] for each in await carol("GET", f"/services/{name}")] == ["1.0"]


async def test_the_overview_goes_along_with_what_happens(
    open_tab: Open, look: Look, carol: Api, host: Host, name: str
) -> None:
    page = await open_tab("rita")
    await page.goto("/console")
    calls = page.locator("#figures li", has_text="Calls").locator("strong")
    before = int((await calls.inner_text()).replace(",", ""))
    await carol("POST", f"/api/{name}/1.0", 400, {})
    host.metrics.end_step()
    await page.wait_for_function(
        "before => Number(document.querySelector('#figures li strong').textContent.replace(',', '')) > before",
        arg=before,
    )
    await page.locator(".chart canvas").nth(1).wait_for()
    await look(page, "overview")


async def test_who_is_signed_out_meanwhile_is_led_to_the_sign_in(open_tab: Open, host: Host, name: str) -> None:
    page = await open_tab("carol")
    await page.goto(f"/console/services/{name}/1.0")
    await page.context.clear_cookies()
    await page.get_by_role("button", name="Call").click()
    await page.wait_for_url("**/console/sign-in?next=*")
    await sign_in(page, "carol")
    assert page.url.endswith(f"/console/services/{name}/1.0")


async def test_pages_fit_a_phone_in_the_dark(open_tab: Open, look: Look, name: str) -> None:
    page = await open_tab("admin", **PHONE)
    for title, path in (
        *((title.lower(), path) for title, path in SECTIONS),
        ("service", f"/console/services/{name}/1.0"),
        ("difference", f"/console/services/{name}/1.1/diff"),
        ("delete", f"/console/services/{name}/1.1/delete"),
        ("nothing", "/console/no/such"),
    ):
        await page.goto(path)
        await look(page, f"{title}-phone")
