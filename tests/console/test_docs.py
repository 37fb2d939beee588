"""The documents of the API as people read and try them, in a real browser and without another server."""

from collections.abc import AsyncIterator

import pytest

from mlhost.names import new_id
from tests.console.conftest import PICTURES, Open
from tests.parts import Api, names_and_types

expect = pytest.importorskip("playwright.async_api", reason="scripts/browser installs playwright").expect


@pytest.fixture
async def name(carol: Api) -> AsyncIterator[str]:
    """Of a service of carol's that doubles."""
    name = f"docs-{new_id()[:8]}"
    takes, gives = names_and_types(x="numeric"), names_and_types(y="numeric")
    await carol.publish(name, "1.0", "y = 2 * x", inputParameterDefinitions=takes, outputParameterDefinitions=gives)
    yield name
    await carol("DELETE", f"/services/{name}/1.0")


async def test_anyone_reads_the_api_and_tries_it_with_a_token(open_tab: Open, carol: Api) -> None:
    page = await open_tab()
    await page.goto("/docs?url=https://evil.example/openapi.json")  # is not heeded
    await expect(page.get_by_role("heading", name="MRSServer")).to_be_visible()
    await page.get_by_role("button", name="Authorize").first.click()
    await page.locator(".auth-container input").first.fill(carol.token)
    await page.locator(".auth-container button[type=submit]").first.click()
    await page.get_by_role("button", name="Close", exact=True).click()
    operation = page.locator(".opblock", has=page.get_by_text("/status", exact=True)).first
    await operation.locator(".opblock-summary-control").click()
    await operation.get_by_role("button", name="Try it out").click()
    await operation.get_by_role("button", name="Execute").click()
    await expect(operation.locator(".live-responses-table")).to_contain_text("200")
    await page.screenshot(path=PICTURES / "docs.png")


async def test_a_service_has_a_page_of_its_own(open_tab: Open, name: str) -> None:
    page = await open_tab("carol")
    await page.goto(f"/console/services/{name}/1.0")
    await page.get_by_role("link", name="API docs").first.click()
    await expect(page.get_by_role("heading", name=f"{name} 1.0")).to_be_visible()
    await expect(page.get_by_text(f"/api/{name}/1.0", exact=True).first).to_be_visible()
