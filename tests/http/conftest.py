"""Signed-in browsers, for the tests of the console's pages."""

from collections.abc import AsyncIterator

import pytest

from tests.parts import Api
from tests.web import Browser


@pytest.fixture
async def browser(url: str, carol: Api) -> AsyncIterator[Browser]:
    """Carol's, who is a Contributor; she has no sessions and no snapshots, whatever ran before."""
    await carol.clear()
    async with Browser.open(url) as browser:
        await browser.sign_in("carol")
        yield browser
    await carol.clear()


@pytest.fixture
async def ritas(url: str) -> AsyncIterator[Browser]:
    """Rita's, who is a Reader."""
    async with Browser.open(url) as browser:
        await browser.sign_in("rita")
        yield browser
