"""The console's pages about snapshots: what is in them, how two differ, downloaded and deleted."""

import io
import zipfile

from tests.parts import Api
from tests.web import HOSTILE, Browser


async def taken(carol: Api, name: str, session: str, code: str) -> str:
    """The address of the page of a snapshot that is taken after the code has run."""
    await carol.execute(session, code)
    return f"/console/snapshots/{(await carol('POST', f'{session}/snapshot', 201, {'name': name}))['snapshotId']}"


async def test_a_snapshot_is_listed_with_what_it_holds(browser: Browser, carol: Api) -> None:
    assert "no snapshot yet" in (await browser.get("/console/snapshots")).text
    code = f"x = 42\nlock = __import__('threading').Lock()\nopen('a.txt', 'w').write('1')\ntext = {HOSTILE!r}"
    address = await taken(carol, HOSTILE, await carol.session(), code)
    page = await browser.get("/console/snapshots")
    assert address in page.links
    assert HOSTILE not in page.html
    page = await browser.get(address)
    for told in ("x", "int", "42", "a.txt", "1 byte", "Left out: lock", HOSTILE):
        assert told in page.text, told
    assert HOSTILE not in page.html


async def test_two_snapshots_are_told_apart(browser: Browser, carol: Api) -> None:
    session = await carol.session()
    old = await taken(carol, "old", session, "gone = 1\nkept = 2\nchanged = 3\nopen('f.txt', 'w').write('1')")
    code = "del gone\nchanged = 4\nadded = [1]\nopen('f.txt', 'w').write('12')"
    new = await taken(carol, "new", session, code)
    page = await browser.get(f"{new}/diff")  # the one before is what it is compared with
    assert page.title.startswith("old and new")
    for told in (
        "gone removed int · 1",
        "kept same int",
        "changed changed int · 3 int · 4",
        "added added",
        "f.txt changed",
    ):
        assert told in page.text, told
    back = await browser.get(f"{old}/diff?with={new.rpartition('/')[2]}")
    assert "gone added" in back.text
    assert "f.txt same" in (await browser.get(f"{old}/diff")).text  # the first has none before it
    assert "There is no snapshot" in (await browser.get(f"{old}/diff?with=none", 404)).text


async def test_a_snapshot_is_downloaded_as_its_zip(browser: Browser, carol: Api) -> None:
    address = await taken(carol, 'a "b" é', await carol.session(), "open('a.txt', 'w').write('1')")
    async with browser.http.get(f"{address}/content") as answer:
        assert answer.content_disposition
        assert answer.content_disposition.filename == 'a "b" é.zip'
        assert "files/a.txt" in zipfile.ZipFile(io.BytesIO(await answer.read())).namelist()


async def test_before_a_snapshot_is_deleted_what_stays_is_told(browser: Browser, carol: Api) -> None:
    address = await taken(carol, "kept", await carol.session(), "x = 1")
    await carol.publish("console-of-snapshot", "1", "y = x", snapshotId=address.rpartition("/")[2])
    page = await browser.get(f"{address}/delete")
    assert "/console/services/console-of-snapshot/1" in page.links
    assert "It was published from it and keeps a copy" in page.text
    answer = await browser.post(f"{address}/delete", 303, word=page.fields["word"])
    assert answer.location == "/console/snapshots"
    await browser.get(address, 404)
    await carol("DELETE", "/services/console-of-snapshot/1")


async def test_nobody_sees_anothers_snapshot_not_even_an_owner(browser: Browser, carol: Api, url: str) -> None:
    address = await taken(carol, "mine", await carol.session(), "x = 1")
    async with Browser.open(url) as owner:
        await owner.sign_in("admin")
        assert address not in (await owner.get("/console/snapshots")).links
        for path in ("", "/diff", "/delete", "/content"):
            await owner.get(f"{address}{path}", 404)
