"""Names made to escape, through the door: as path segments, plain and encoded, and as the names of uploaded files."""

import asyncio
import os
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import Phase, given, settings
from yarl import URL

from mlhost.host import Host
from tests.parts import Api, hostile_names

BAIT = b"what nobody may read"
NAMES = 150


def collected(folder: Path) -> list[str]:
    """So many different hostile names that can travel over HTTP."""
    found: set[str] = set()

    @settings(max_examples=NAMES * 4, database=None, phases=[Phase.generate], deadline=None)
    @given(hostile_names(folder))
    def collect(name: str) -> None:
        if name.isprintable():
            found.add(name)

    collect()
    return sorted(found)[:: max(1, len(found) // NAMES)]


def everything(folder: Path, but: Path) -> set[str]:
    """All files; a worker that is being kept ready may get its folder meanwhile."""
    found = set()
    for path, folders, files in os.walk(folder):
        if Path(path) == but:
            folders.clear()
            continue
        found |= {str(Path(path, name)) for name in files if not name.startswith("mlhost.sqlite")}
    return found


@pytest.mark.timeout(120)
async def test_names_from_outside_never_leave_the_sessions_folder(admin: Api, host: Host, session: str) -> None:
    done = await admin.execute(session, "import os; here = os.getcwd()", "here")
    here = Path(done["outputParameters"][0]["value"])
    bait = here.parent / "bait"
    bait.write_bytes(BAIT)
    before = everything(host.folder.path, here)
    headers = {"Authorization": f"Bearer {admin.token}"}
    base = admin.http._base_url
    assert base is not None

    async def ask(method: str, path: str, **options: object) -> None:
        url = URL(f"{str(base).rstrip('/')}{path}", encoded=True)
        async with admin.http.request(method, url, headers=headers, **options) as answer:  # type: ignore[arg-type]
            assert answer.status < 500, (method, path, answer.status)
            assert BAIT not in await answer.read()

    names = await asyncio.to_thread(collected, here)
    assert len(names) >= NAMES
    for name in names:
        once = quote(name, safe="", errors="surrogatepass")
        for segment in {once, quote(once, safe=""), quote(name, safe="/;:.~@")}:
            await ask("GET", f"{session}/files/{segment}")
            await ask("DELETE", f"{session}/files/{segment}")
            await ask("DELETE", f"{session}/workspace/{segment}")
        form = aiohttp.FormData()
        form.add_field("file", b"mine", filename=name)
        await ask("POST", f"{session}/files", data=form)
        assert everything(host.folder.path, here) == before
    assert bait.read_bytes() == BAIT
    bait.unlink()
