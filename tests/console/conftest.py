"""A real browser at a real server: without Chromium or its driver (`scripts/browser` installs both) tests are skipped.

Every test fails that leaves an error in the browser's console, or has it ask another server. Pages that are looked at
are checked by axe-core and kept as pictures in `build/console`.
"""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts import PASSWORD, ROOT

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
PICTURES = ROOT / "build" / "console"
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark", "reduced_motion": "reduce"}
EXPECTED = "Failed to load resource"  # what the browser says of each refusal, which tests ask for

Open = Callable[..., Awaitable["Page"]]
Look = Callable[["Page", str], Awaitable[None]]


@pytest.fixture(scope="session")
async def chromium() -> "AsyncIterator[Browser]":
    driver = pytest.importorskip("playwright.async_api", reason="scripts/browser installs playwright")
    if CHROMIUM is None:
        pytest.skip("scripts/browser installs Chromium")
    async with driver.async_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        await browser.close()


@pytest.fixture
async def open_tab(chromium: "Browser", url: str) -> AsyncIterator[Open]:
    """A function that opens a tab of a browser of its own, signed in if a user is named; addresses are the server's."""
    async with AsyncExitStack() as stack:

        async def opened(user: str = "", **options: Any) -> "Page":
            page = await stack.enter_async_context(_tab(chromium, url, options))
            if user:
                await page.goto("/console/sign-in")
                await sign_in(page, user)
            return page

        yield opened


@asynccontextmanager
async def _tab(chromium: "Browser", url: str, options: dict[str, Any]) -> "AsyncIterator[Page]":
    context = await chromium.new_context(base_url=url, **options)
    page, faults = await context.new_page(), []
    page.set_default_timeout(15_000)
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: faults.append(asked.url) if not asked.url.startswith((url, "data:")) else None)
    yield page
    await context.close()
    assert [fault for fault in faults if EXPECTED not in fault] == []


async def sign_in(page: "Page", user: str) -> None:
    await page.get_by_label("Name").fill(user)
    await page.get_by_label("Password").fill(PASSWORD)
    async with page.expect_navigation(url=lambda path: "/sign-in" not in path):
        await page.keyboard.press("Enter")


@pytest.fixture
def look() -> Look:
    """A function that keeps a picture of a page, and fails if the page shuts people out or is wider than its window."""
    source = files(pytest.importorskip("axe_playwright_python", reason="scripts/browser installs it")) / "axe.min.js"
    axe = source.read_text("utf-8")

    async def looked(page: "Page", name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
        await page.evaluate(axe)
        found = await page.evaluate("axe.run()")
        assert [
            (fault["id"], fault["impact"], [node["html"] for node in fault["nodes"]]) for fault in found["violations"]
        ] == [], name
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is too wide"

    return looked
