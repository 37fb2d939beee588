"""The pages about sessions, snapshots, batches and people, as they are used, and a story from sign-in to deletion."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from mlhost.host import Host
from mlhost.names import new_id
from tests.console.conftest import PHONE, Look, Open
from tests.parts import Api, names_and_types

if TYPE_CHECKING:
    from playwright.async_api import Page

expect = pytest.importorskip("playwright.async_api", reason="scripts/browser installs playwright").expect

pytestmark = pytest.mark.untraced

HOSTILE = "<img src=x onerror=alert(1)>"
CELL = "#code-to-run"
DARK = {"color_scheme": "dark"}


@pytest.fixture(autouse=True)
async def tidy(carol: Api) -> AsyncIterator[None]:
    """What carol leaves behind."""
    yield
    await carol.clear()
    for token in await carol("GET", "/tokens"):
        await carol("DELETE", f"/tokens/{token['id']}")


@pytest.fixture
async def name(carol: Api) -> AsyncIterator[str]:
    """A name that carol may publish under."""
    name = f"story-{new_id()[:8]}"
    yield name
    for service in await carol("GET", f"/services/{name}"):
        await carol("DELETE", f"/services/{name}/{service['version']}")


async def open_session(page: "Page", name: str = "Irises") -> None:
    await page.goto("/console/sessions")
    await page.get_by_label("Name").fill(name)
    await page.get_by_role("button", name="Open", exact=True).click()
    await page.wait_for_url("**/console/sessions/*")


async def run(page: "Page", code: str, says: str = "Succeeded") -> None:
    await page.locator(CELL).fill(code)
    await page.locator(CELL).press("Control+Enter")
    await expect(page.locator("#outcome")).to_contain_text(says)


async def test_from_a_cell_to_a_service_a_batch_and_its_end(open_tab: Open, look: Look, name: str) -> None:
    page = await open_tab("carol")
    await open_session(page)
    await run(
        page, "from sklearn.linear_model import LinearRegression\nmodel = LinearRegression().fit([[1], [2]], [2, 4])"
    )
    await expect(page.get_by_role("row", name="model LinearRegression")).to_contain_text("LinearRegression()")
    form = page.locator("form[action$='/publish']")
    await form.get_by_label("Name").fill(name)
    await form.get_by_label("Version").fill("1.0")
    await form.get_by_label("Code of each call").fill(
        "import time\ntime.sleep(0.05)\ny = round(float(model.predict([[x]])[0]), 6)"
    )
    await form.get_by_label("Inputs").fill("x")
    await form.get_by_label("Outputs").fill("y: numeric")
    await form.get_by_role("button", name="Publish").click()
    await expect(form.locator("#refused")).to_contain_text("names no type")
    await look(page, "session")
    await form.get_by_label("Inputs").fill("x: numeric")
    await form.get_by_role("button", name="Publish").click()
    await page.wait_for_url(f"**/console/services/{name}/1.0")

    await page.locator("[name='in.x']").fill("21")
    await page.get_by_role("button", name="Call", exact=True).click()
    await expect(page.locator("#answer")).to_contain_text("42")

    await page.get_by_text("Start a batch").click()
    await page.get_by_label("Records").fill("x\n" + "\n".join(map(str, range(60))))
    await page.get_by_role("spinbutton", name="At once").fill("2")
    await look(page, "service-batch-form")
    await page.get_by_role("button", name="Start", exact=True).click()
    await page.wait_for_url(f"**/console/batches/{name}/1.0/*")
    await expect(page.locator("#main")).to_contain_text("InProgress")
    await look(page, "batch-running")
    await expect(page.locator("#main")).to_contain_text("60 of 60 records", timeout=30_000)
    await expect(page.locator("#main")).to_contain_text("Complete")
    await expect(page.get_by_role("row", name="10", exact=False).nth(0)).to_contain_text("Succeeded")
    await look(page, "batch")
    await page.goto("/console/batches")
    await look(page, "batches")
    await page.get_by_role("link", name=f"of {name} 1.0").click()
    await page.get_by_role("button", name="Delete with its results").click()
    await expect(page.locator("#main")).not_to_contain_text(name)

    await page.goto(f"/console/services/{name}/1.0/delete")
    await page.get_by_role("button", name=f"Delete {name} 1.0").click()
    await page.wait_for_url("**/console/services")
    await expect(page.locator("#main")).not_to_contain_text(name)


async def test_the_console_is_seen_while_code_runs_and_stops_it(open_tab: Open, look: Look) -> None:
    page = await open_tab("carol", **DARK)
    await open_session(page, HOSTILE)
    await page.locator(CELL).fill(f"import time\nprint({HOSTILE!r}, flush=True)\nwhile True: time.sleep(0.01)")
    await page.locator(CELL).press("Control+Enter")
    await expect(page.locator("[data-tail]")).to_contain_text(HOSTILE)
    await expect(page.get_by_text("Running", exact=True)).to_be_visible()
    await look(page, "session-running-dark")
    await page.get_by_role("button", name="Interrupt").click()
    await expect(page.locator("#outcome")).to_contain_text("KeyboardInterrupt")
    await expect(page.locator("[data-tail]")).to_contain_text("Traceback")
    await expect(page.locator("#interrupted")).to_contain_text("interrupted")
    await expect(page.get_by_text("At rest")).to_be_visible()
    await look(page, "session-failed-dark")


async def test_objects_and_files_come_and_go_without_losing_what_is_typed(open_tab: Open) -> None:
    page = await open_tab("carol")
    await open_session(page)
    await run(page, "x = [1, 2]\nopen('a b.txt', 'w').write('1')")
    await page.locator(CELL).fill("half a thought")
    await page.get_by_role("button", name="Delete x").click()
    await expect(page.locator("#said")).to_contain_text("x is gone.")
    await expect(page.get_by_role("button", name="Delete x")).to_have_count(0)
    async with page.expect_download() as download:
        await page.get_by_role("link", name="a b.txt").click()
    assert (await download.value).suggested_filename == "a b.txt"
    await page.get_by_label("Put a file").set_input_files({"name": "up.csv", "mimeType": "text/csv", "buffer": b"a\n1"})
    await page.get_by_role("button", name="Upload").click()
    await expect(page.get_by_role("link", name="up.csv")).to_be_visible()
    assert await page.locator(CELL).input_value() == "half a thought"


async def test_snapshots_are_taken_compared_and_deleted(open_tab: Open, look: Look) -> None:
    page = await open_tab("carol")
    await open_session(page)
    for label, code in (("first", "gone = 1\nkept = [1, 2]"), ("second", "del gone\nkept = [1, 3]\nadded = {'a': 1}")):
        await page.reload()
        await run(page, code)
        form = page.locator("form[action$='/snapshot']")
        await form.get_by_label("Name").fill(label)
        await form.get_by_role("button").click()
        await page.wait_for_url("**/console/snapshots/*")
        await expect(page.get_by_role("heading", name=label)).to_be_visible()
        await look(page, "snapshot")
        await page.go_back()
    await page.goto("/console/snapshots")
    await look(page, "snapshots")
    await page.get_by_role("link", name="with the one before").click()
    await expect(page.get_by_role("row", name="gone removed")).to_be_visible()
    await look(page, "snapshot-diff")
    await page.get_by_role("link", name="second").click()
    await page.get_by_role("link", name="Delete…").click()
    await look(page, "snapshot-delete")
    await page.get_by_role("button", name="Delete second").click()
    await page.wait_for_url("**/console/snapshots")
    await page.get_by_role("link", name="first", exact=True).click()
    await page.get_by_role("link", name="Open a session with it").click()
    await page.get_by_role("button", name="Open", exact=True).click()
    await expect(page.get_by_role("row", name="gone")).to_be_visible()


async def test_a_token_is_made_and_revoked(open_tab: Open, look: Look) -> None:
    page = await open_tab("carol")
    await page.goto("/console/tokens")
    await page.get_by_label("Name", exact=True).fill("ci")
    await page.get_by_role("combobox", name="Service NAME").fill("iris/1.0")
    await page.get_by_role("button", name="Make it").click()
    assert (await page.locator("#secret").inner_text()).startswith("mlh_")
    await look(page, "tokens")
    await page.get_by_role("button", name="Revoke ci").click()
    await expect(page.locator("#main")).to_contain_text("You have none.")


async def test_owners_look_after_users_and_read_what_happened(open_tab: Open, look: Look, host: Host) -> None:
    page, user = await open_tab("admin"), f"una-{new_id()[:8]}"
    await page.goto("/console/users")
    await page.get_by_label("Name").fill(user)
    await page.get_by_label("Password").fill("correct horse battery")
    await page.get_by_label("Role").select_option("Contributor")
    await page.get_by_role("button", name="Add").click()
    await expect(page.get_by_role("heading", name=user)).to_contain_text("Contributor")
    await page.get_by_label("Own role").select_option("None")
    await page.get_by_role("button", name="Change role").click()
    await expect(page.locator("#main")).to_contain_text("which shuts out whatever groups may do")
    await look(page, "user")
    await page.goto("/console/users")
    await look(page, "users")
    await page.goto("/console/audit")
    await look(page, "audit")
    await page.get_by_label("Route").fill("POST /console/users/{user}")
    await expect(page.locator("#entries")).to_contain_text(user)
    await expect(page.locator("#entries")).not_to_contain_text("/login")
    assert "route=POST" in page.url
    assert user in {each.name for each in await host.users.list()}


async def test_all_of_it_fits_a_phone_in_the_dark(open_tab: Open, look: Look, carol: Api, name: str) -> None:
    await carol.publish(name, "1.0", "y = x", inputParameterDefinitions=names_and_types(x="numeric"))
    batch = (await carol("POST", f"/api/{name}/1.0/batch", 202, [{"x": 1}]))["batchExecutionId"]
    page = await open_tab("carol", **PHONE)
    await open_session(page)
    await run(page, "x = list(range(1000))\nprint('a long line ' * 40)\nopen('f.txt', 'w').write('1')")
    session = page.url
    await page.locator("form[action$='/snapshot'] button").click()
    await page.wait_for_url("**/console/snapshots/*")
    await look(page, "snapshot-phone")
    await page.goto(f"{page.url}/diff")
    await look(page, "snapshot-diff-phone")
    for path, picture in (
        (session, "session-phone"),
        ("/console/sessions", "sessions-phone"),
        ("/console/snapshots", "snapshots-phone"),
        ("/console/batches", "batches-phone"),
        (f"/console/batches/{name}/1.0/{batch}", "batch-phone"),
        ("/console/tokens", "tokens-phone"),
    ):
        await page.goto(path)
        await look(page, picture)


async def test_what_owners_have_fits_a_phone_too(open_tab: Open, look: Look) -> None:
    owner = await open_tab("admin", **PHONE)
    for path, picture in (
        ("/console/users", "users-phone"),
        ("/console/users/carol", "user-phone"),
        ("/console/audit", "audit-phone"),
    ):
        await owner.goto(path)
        await look(owner, picture)
