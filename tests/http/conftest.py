"""Signed-in browsers, for the tests of the console's pages."""

from collections.abc import AsyncIterator

import pytest

from tests.web import Browser


@pytest.fixture
async def browser(url: str) -> AsyncIterator[Browser]:
    """Carol's, who is a Contributor."""
    async with Browser.open(url) as browser:
        await browser.sign_in("carol")
        yield browser


@pytest.fixture
async def ritas(url: str) -> AsyncIterator[Browser]:
    """Rita's, who is a Reader."""
    async with Browser.open(url) as browser:
        await browser.sign_in("rita")
        yield browser
