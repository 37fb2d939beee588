"""A browser without scripts: it keeps cookies, reads pages, fills in forms, and says where its requests come from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import Any

import aiohttp
from yarl import URL

from tests.parts import PASSWORD

HOSTILE = "<script>alert('x')</script>"  # to be shown as it is, and never run
EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """An answer: its words, the values of its form fields, where it links to, and which elements it is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.html = ""
        self.title = ""
        self.fields: dict[str, Any] = {}  # texts
        self.links: set[str] = set()
        self.actions: set[str] = set()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self._open: list[str] = []
        self._words: list[str] = []
        self._area = ""

    @classmethod
    def of(cls, html: str) -> Page:
        page = cls()
        page.html = html
        page.feed(html)
        page.close()
        assert not page._open, f"never closed: {page._open}"
        return page

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._words).split())

    @property
    def location(self) -> str:
        return self.headers["Location"]

    def named(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """The attributes of all elements of that kind that have these."""
        return [has for kind, has in self.tags if kind == tag and attributes.items() <= has.items()]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        self.tags.append((tag, has))
        if tag not in EMPTY:
            self._open.append(tag)
        if tag == "input" and "name" in has:
            self.fields[has["name"]] = has.get("value", "")
        elif tag == "textarea":
            self._area = has.get("name", "")
            self.fields[self._area] = ""
        elif tag == "a" and "href" in has:
            self.links.add(has["href"])
        elif tag == "form":
            self.actions.add(has.get("action", ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> inside {self._open}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "title":
            self.title += data
        elif self._open and self._open[-1] == "textarea":
            self.fields[self._area] += data if self.fields[self._area] else data.removeprefix("\n")  # as browsers do
        self._words.append(data)


class Browser:
    """One that keeps to itself: `http` has its cookies."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = URL(url)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, **options: Any) -> AsyncIterator[Browser]:
        async with aiohttp.ClientSession(url, cookie_jar=aiohttp.CookieJar(unsafe=True), **options) as http:
            yield cls(http, url)

    async def sign_in(self, name: str) -> None:
        page = await self.get("/console/sign-in")
        await self.submit(page, username=name, password=PASSWORD)

    async def get(self, path: str | URL, expect: int = 200, headers: Mapping[str, str] | None = None) -> Page:
        return await self.request("GET", path, expect, headers=headers or {})

    async def post(self, path: str, expect: int = 200, headers: Mapping[str, str] | None = None, **fields: str) -> Page:
        says = {"Sec-Fetch-Site": "same-origin", "Origin": str(self.url.origin())} if headers is None else headers
        return await self.request("POST", path, expect, headers=says, data=fields)

    async def submit(self, page: Page, **fields: str) -> str:
        """Send the sign-in form of a page; where it leads."""
        return (await self.post("/console/sign-in", 303, **(page.fields | fields))).location

    async def request(
        self, method: str, path: str | URL, expect: int, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Page:
        says = {"Accept": "text/html,*/*"} | dict(headers or {})
        async with self.http.request(method, path, headers=says, allow_redirects=False, **options) as answer:
            html = await answer.text()
            assert answer.status == expect, f"{method} {path}: {answer.status} {html[:2000]}"
            page = Page.of(html)
            page.status, page.headers = answer.status, answer.headers
            return page

    def cookies(self, path: str) -> SimpleCookie:
        """What it sends to a path."""
        kept = SimpleCookie()
        sent = self.http.cookie_jar.filter_cookies(self.url.with_path(path))
        for cookie in self.http.cookie_jar:
            if cookie.key in sent and sent[cookie.key].value == cookie.value:
                kept[cookie.key] = cookie  # with what is said of it
        return kept

    def drop(self, name: str) -> None:
        self.http.cookie_jar.clear(lambda cookie: cookie.key == name)

    def keep(self, **cookies: str) -> None:
        for name, value in cookies.items():
            self.http.cookie_jar.update_cookies(SimpleCookie(f"{name}={value}; Path=/console"), self.url)
