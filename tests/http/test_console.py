"""The console's door: who is let in with which cookie, what else a browser must show, and what all its answers say."""

import asyncio
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from mlhost.audit import lines
from mlhost.host import Host
from mlhost.http.server import serve
from tests.parts import PASSWORD, Api, host_of_its_own
from tests.web import Browser, Page

PAGES = ["/console", "/console/services"]


@pytest.fixture
async def browser(url: str) -> AsyncIterator[Browser]:
    async with Browser.open(url) as browser:
        yield browser


@pytest.fixture
async def carols(browser: Browser) -> Browser:
    await browser.sign_in("carol")
    return browser


async def test_a_page_asks_a_stranger_to_sign_in_and_then_shows_what_was_wanted(browser: Browser) -> None:
    page = await browser.get("/console/services?q=iris", 401)
    assert page.title == "Sign in · mlhost"
    assert page.fields["next"] == "/console/services?q=iris"
    assert await browser.submit(page, username="carol", password=PASSWORD) == "/console/services?q=iris"
    assert "carol" in (await browser.get("/console")).text


async def test_a_wrong_password_is_told_and_the_name_is_kept(browser: Browser) -> None:
    page = await browser.get("/console/sign-in?next=/console/services")
    again = await browser.post("/console/sign-in", 401, **(page.fields | {"username": "carol<", "password": "wrong"}))
    assert "invalid credentials" in again.text
    assert again.fields["username"] == "carol<"
    assert again.fields["next"] == "/console/services"
    assert not browser.cookies("/console").keys() & {"mlhost_console", "mlhost_console_renewal"}


@pytest.mark.parametrize("cookie", [b"\xff", b'"\\012"'])
async def test_a_form_cookie_that_is_none_of_ours_is_replaced(url: str, cookie: bytes) -> None:
    where = URL(url)
    assert where.host and where.port
    for method, status in ((b"GET", b"200"), (b"POST", b"403")):
        reader, writer = await asyncio.open_connection(where.host, where.port)
        writer.write(
            method + b" /console/sign-in HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Cookie: mlhost_form=" + cookie + b"\r\nContent-Length: 0\r\n\r\n"
        )
        answer = await reader.read()
        writer.close()
        assert answer.split(b" ", 2)[1] == status


async def test_a_script_on_a_page_without_an_address_is_led_to_the_console(browser: Browser) -> None:
    page = await browser.get("/console", 401, headers={"HX-Request": "true", "HX-Current-URL": "http://["})
    assert page.headers["HX-Redirect"] == "/console/sign-in?next=%2Fconsole"


async def test_the_cookies_are_for_the_console_and_no_script(carols: Browser) -> None:
    for name in ("mlhost_console", "mlhost_console_renewal"):
        cookie = carols.cookies("/console")[name]
        assert cookie["httponly"]
        assert (cookie["path"], cookie["samesite"]) == ("/console", "Strict")
        assert not cookie["secure"]  # this server speaks no TLS
    assert not carols.cookies("/services")


async def test_behind_a_proxy_that_speaks_tls_the_cookies_are_for_tls_alone(browser: Browser) -> None:
    page = await browser.get("/console/sign-in")
    fields = page.fields | {"username": "carol", "password": PASSWORD}
    says = {"Sec-Fetch-Site": "same-origin", "X-Forwarded-Proto": "https"}
    await browser.post("/console/sign-in", 303, headers=says, **fields)
    kept = {cookie.key: cookie["secure"] for cookie in browser.http.cookie_jar}
    assert kept["mlhost_console"] and kept["mlhost_console_renewal"]


async def test_the_api_takes_no_cookie(carols: Browser, url: str) -> None:
    sent = {name: cookie.value for name, cookie in carols.cookies("/console").items()}
    async with aiohttp.ClientSession(url, cookies=sent) as http:
        for method, path in (("GET", "/services"), ("GET", "/status"), ("POST", "/api/any/1"), ("GET", "/consoles")):
            async with http.request(method, path) as answer:
                assert answer.status in (401, 404), path
        async with http.get("/console") as answer:
            assert answer.status == 200


async def test_a_program_may_use_its_token_and_is_refused_as_by_the_api(carol: Api, norman: Api) -> None:
    assert b"carol" in await carol("GET", "/console")
    assert "does not allow" in (await norman("GET", "/console", 403))["message"]
    async with carol.http.get("/console") as answer:
        assert answer.status == 401
        assert answer.content_type == "application/json"


async def test_whoever_has_no_role_is_told_so_and_may_sign_out(browser: Browser) -> None:
    await browser.sign_in("norman")
    page = await browser.get("/console", 403)
    assert "does not allow this" in page.text
    assert not page.links & {"/console/services"}
    await browser.post("/console/sign-out", 303, word=page.fields["word"])
    await browser.get("/console", 401)


async def test_signing_out_ends_the_login_for_whoever_else_has_its_tokens(carols: Browser, anonymous: Api) -> None:
    stolen = {name: cookie.value for name, cookie in carols.cookies("/console").items()}
    page = await carols.get("/console")
    assert (await carols.post("/console/sign-out", 303, word=page.fields["word"])).location == "/console/sign-in"
    assert not carols.cookies("/console").keys() & {"mlhost_console", "mlhost_console_renewal"}
    anonymous.token = stolen["mlhost_console"]
    await anonymous("GET", "/services", 401)
    anonymous.token = ""
    await anonymous("POST", "/login/refreshToken", 401, {"refreshToken": stolen["mlhost_console_renewal"]})
    await carols.get("/console", 401)


@pytest.mark.parametrize(
    ("headers", "knows_the_word"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({}, True),  # of no browser that says where a request comes from
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://127.0.0.1:1"}, True),
        ({"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-origin"}, True),
    ],
)
async def test_a_change_that_no_page_of_the_login_asked_for_is_refused(
    carols: Browser, headers: dict[str, str], knows_the_word: bool
) -> None:
    word = (await carols.get("/console")).fields["word"] if knows_the_word else "0" * 64
    await carols.post("/console/sign-out", 403, headers=headers, word=word)
    await carols.get("/console")


async def test_the_word_of_another_login_does_not_do(carols: Browser, url: str) -> None:
    async with Browser.open(url) as another:
        await another.sign_in("carol")
        word = (await another.get("/console")).fields["word"]
    await carols.post("/console/sign-out", 403, word=word)


@pytest.mark.parametrize(
    "elsewhere", ["//evil.example", "https://evil.example/", "/\\evil.example", "\\\\evil", "a", ""]
)
async def test_signing_in_leads_to_no_other_server(browser: Browser, elsewhere: str) -> None:
    assert "a path on this server" in (await browser.get(URL("/console/sign-in").with_query(next=elsewhere), 400)).text
    page = await browser.get("/console/sign-in")
    fields = page.fields | {"next": elsewhere, "username": "carol", "password": PASSWORD}
    assert "a path on this server" in (await browser.post("/console/sign-in", 400, **fields)).text


async def test_another_site_cannot_sign_a_browser_in(browser: Browser) -> None:
    await browser.get("/console/sign-in")
    fields: dict[str, Any] = {"form": "guessed", "next": "/console", "username": "carol", "password": PASSWORD}
    await browser.post("/console/sign-in", 403, **fields)
    page = await browser.get("/console/sign-in")
    fields |= page.fields
    await browser.post("/console/sign-in", 403, headers={"Sec-Fetch-Site": "cross-site"}, **fields)


async def test_too_many_wrong_passwords_are_slowed_down_as_at_the_api(tmp_path: Path) -> None:
    async with host_of_its_own(tmp_path) as host, serve(host) as url, Browser.open(url) as browser:
        page = await browser.get("/console/sign-in")
        fields = page.fields | {"username": "admin", "password": "wrong"}
        for _ in range(5):
            await browser.post("/console/sign-in", 401, **fields)
        refused = await browser.post("/console/sign-in", 429, **fields)
        assert "try again in" in refused.text
        assert int(refused.headers["Retry-After"]) >= 1
        told = [line for line in lines(host.folder.path) if "POST /console/sign-in" in line]
        assert len(told) == 6
        assert '"claimed": "admin"' in told[0] or '"claimed":"admin"' in told[0]


async def test_requests_at_once_renew_an_ended_access_token_and_all_are_answered(carols: Browser) -> None:
    before = carols.cookies("/console")["mlhost_console_renewal"].value
    carols.drop("mlhost_console")  # as the browser does when its time is over
    word = (await carols.get("/console")).fields["word"]
    carols.drop("mlhost_console")
    carols.keep(mlhost_console_renewal=before)  # requests that were on their way
    pages = await asyncio.gather(*(carols.get("/console") for _ in range(8)))
    assert {page.fields["word"] for page in pages} == {word}  # forms that are open stay good
    assert carols.cookies("/console")["mlhost_console_renewal"].value != before
    await carols.get("/console")


async def test_a_renewed_login_can_be_signed_out(carols: Browser) -> None:
    word = (await carols.get("/console")).fields["word"]
    carols.drop("mlhost_console")
    await carols.post("/console/sign-out", 303, word=word)
    assert not carols.cookies("/console").keys() & {"mlhost_console", "mlhost_console_renewal"}
    await carols.get("/console", 401)


async def test_a_script_is_led_to_the_sign_in_and_back_to_the_page_it_works_for(browser: Browser) -> None:
    for shown, leads_to in (("http://x/console/services?q=a", "/console/services?q=a"), ("http://x//evil", "/console")):
        answer = await browser.get("/console", 401, headers={"HX-Request": "true", "HX-Current-URL": shown})
        led = URL(answer.headers["HX-Redirect"])
        assert (led.path, led.query["next"]) == ("/console/sign-in", leads_to)
        assert not answer.text


async def test_a_link_from_another_site_is_followed_once_more_with_the_cookies(browser: Browser) -> None:
    page = await browser.get("/console/services?q=a", 401, headers={"Sec-Fetch-Site": "cross-site"})
    assert page.headers["Refresh"] == "0; url=/console/services?q=a"
    page = await browser.get("/console/services?q=a", 401, headers={"Sec-Fetch-Site": "same-origin"})
    assert "Refresh" not in page.headers


@pytest.mark.parametrize("path", [*PAGES, "/console/sign-in", "/console/no/such", "/console/"])
async def test_every_answer_says_what_a_browser_may_do_with_it(browser: Browser, path: str) -> None:
    for is_signed_in in (False, True):
        if is_signed_in:
            await browser.sign_in("carol")
        async with browser.http.get(path, headers={"Accept": "text/html"}, allow_redirects=False) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self'" in policy
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store"
            text = await answer.text()
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)", text)
            assert not re.search(r"""(?:src|href|action)=["']?(?:[a-z]+:)?//""", text)


async def test_what_is_not_there_is_told_in_a_page(carols: Browser) -> None:
    assert "no such address" in (await carols.get("/console/no/such", 404)).text
    assert "does not know that method" in (await carols.request("DELETE", "/console", 405)).text


async def test_a_fault_of_ours_is_told_in_a_page_by_its_number_alone(
    carols: Browser, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("the inside story")

    monkeypatch.setattr(type(host.services), "list", broken)
    page = await carols.get("/console/services", 500)
    assert "inside story" not in page.text
    assert re.search(r"[0-9a-f]{32}", page.text)


async def test_pages_that_go_well_are_not_told_in_the_log_each_few_seconds(
    carols: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mlhost.access")
    await carols.get("/console")
    await carols.get("/console/no/such", 404)
    told = [each.getMessage() for each in caplog.records if each.name == "mlhost.access"]
    assert told == ["GET - 404"]


async def test_browsers_find_the_console_at_the_root_and_programs_nothing(browser: Browser, anonymous: Api) -> None:
    assert (await browser.get("/", 303)).location == "/console"
    assert (await browser.get("/console/", 303)).location == "/console"
    await anonymous("GET", "/", 404)


def test_a_page_is_read_as_browsers_do() -> None:
    page = Page.of("<title>a</title><form><input name=x value='1'></form><a href='/b'>c</a>")
    assert isinstance(page, HTMLParser)
    assert (page.title, page.fields, page.links) == ("a", {"x": "1"}, {"/b"})
