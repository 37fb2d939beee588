"""`mlhost backup` and `mlhost restore`: consistent while a server works, verified, and never half."""

import io
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from mlhost.backups.archive import DATABASE, END, KEY, read, written
from mlhost.backups.restoring import restored, verified
from mlhost.backups.taking import taken
from mlhost.client import Client, connect
from mlhost.errors import Conflict, Invalid, MlhostError, Unavailable
from mlhost.places import local_server
from mlhost.store import Store
from mlhost.store.folder import DataFolder
from mlhost.testing import Server
from tests.cli.conftest import Mlhost

PASSWORD = "a password for admin"


@contextmanager
def serving(data: Path) -> Iterator[Client]:
    """`mlhost serve` on a data folder, and a client that is signed in."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlhost", "serve", "--port", "0", "--data", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"MLHOST_ADMIN_PASSWORD": PASSWORD, "MLHOST_RUNTIME_PROFILE": "embedded"},
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("Ready"):
                break
        found = local_server(data)
        assert found is not None
        with connect(found[0], user="admin", password=PASSWORD) as ml:
            yield ml
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A data folder with something in it, as a stopped server leaves it."""
    folder = tmp_path / "data"
    with DataFolder.open(folder) as held:
        store = await Store.open(held.database)
        async with store.write() as db:
            await db.execute("create table things (content blob)")
            await db.execute("insert into things values (randomblob(300000))")
        await store.close()
    (folder / "audit.jsonl").write_text('{"time": "now"}\n')
    return folder


@pytest.fixture
def file(data: Path, tmp_path: Path, mlhost: Mlhost) -> Path:
    """A backup of it."""
    mlhost("backup", tmp_path / "server.backup", "--data", data)
    return tmp_path / "server.backup"


def contents(folder: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        things = database.execute("select content from things").fetchall()
    return {"things": things} | {name: (folder / name).read_bytes() for name in (KEY, "audit.jsonl")}


# --- of a server that works ------------------------------------------------------------------------------------------


def test_what_is_published_meanwhile_is_whole_in_the_backup_or_not_there(
    mlhost: Mlhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLHOST_PASSWORD", PASSWORD)
    with serving(tmp_path / "old") as ml:

        def doubled(x: float) -> float:
            return 2 * x

        ml.publish(doubled, "doubled", "first")
        stop = threading.Event()

        def publish() -> None:
            while not stop.is_set():
                ml.publish(doubled, "doubled")

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            mlhost("backup", tmp_path / "one", "--data", tmp_path / "old")
            told = mlhost("backup", tmp_path / "two", "--url", ml.url).output
        finally:
            stop.set()
            thread.join()
        assert "verified" in told
        assert PASSWORD not in told
        assert (
            "in use by another server"
            in mlhost("restore", tmp_path / "two", "--data", tmp_path / "old", "--force", expect=1).stderr
        )
        last = len(ml.services("doubled"))
    assert not list((tmp_path / "old" / "work").glob("backup-*"))
    mlhost("restore", tmp_path / "two", "--data", tmp_path / "new")
    assert "PROBLEM" not in mlhost("doctor", "--data", tmp_path / "new").output
    with serving(tmp_path / "new") as ml:
        versions = ml.services("doubled")
        assert 2 <= len(versions) <= last
        assert [version(x=21) for version in versions] == [42] * len(versions)
    assert "GET /backup" in mlhost("audit", "--data", tmp_path / "old").output


def test_a_backup_is_for_owners_who_sign_in(mlhost: Mlhost, signed_in: Client, tmp_path: Path) -> None:
    token = signed_in.create_token("all there is", "all", days=1)
    with connect(signed_in.url, token=token) as ml, (tmp_path / "x").open("wb") as out, pytest.raises(MlhostError):
        ml.backup(out)
    mlhost("backup", tmp_path / "y", "--url", signed_in.url, "--as", "nobody", expect=4)
    assert not (tmp_path / "y").exists()


async def test_a_client_that_awaits_gets_the_same(mlhost_server: Server, tmp_path: Path) -> None:
    async with mlhost_server.connect_async() as ml:
        with (tmp_path / "x").open("wb") as out:
            await ml.backup(out)
    assert verified(tmp_path / "x").schema > 0


# --- of a folder at rest ---------------------------------------------------------------------------------------------


def test_a_stopped_server_is_backed_up_from_its_folder_and_restored(mlhost: Mlhost, data: Path, file: Path) -> None:
    before = contents(data)
    assert file.stat().st_mode & 0o777 == 0o600
    assert "is whole" in mlhost("restore", file, "--check").output
    target = data.parent / "elsewhere" / "data"
    target.mkdir(parents=True, mode=0o700)
    assert f"mlhost serve --data {target}" in mlhost("restore", file, "--data", target).output
    assert contents(target) == before
    assert target.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in target.iterdir()} == {0o600}
    assert "--force" in mlhost("backup", file, "--data", data, expect=1).stderr
    assert "no data folder" in mlhost("backup", data / "x", "--data", data / "nothing", expect=1).stderr


def test_any_tar_unpacks_a_backup(file: Path, tmp_path: Path) -> None:
    with tarfile.open(file) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert {"manifest.json", "manifest.json.sha256", DATABASE, KEY, "audit.jsonl"} <= {
        path.name for path in (tmp_path / "unpacked").iterdir()
    }


def test_a_folder_that_is_not_empty_is_replaced_only_by_force_and_kept_aside(
    mlhost: Mlhost, data: Path, file: Path
) -> None:
    before = contents(data)
    (data / "audit.jsonl").write_text("later")
    assert "is not empty" in mlhost("restore", file, "--data", data, expect=1).stderr
    assert (data / "audit.jsonl").read_text() == "later"
    mlhost("restore", file, "--data", data, "--force")
    assert contents(data) == before
    (aside,) = data.parent.glob("data.before-*")
    assert (aside / "audit.jsonl").read_text() == "later"


def test_a_folder_that_a_server_holds_is_left_alone(data: Path, file: Path) -> None:
    with DataFolder.open(data), pytest.raises(Conflict, match="in use by another server"):
        restored(file, data, force=True)


# --- files that are not as they were written -------------------------------------------------------------------------


def test_a_backup_that_is_cut_off_anywhere_is_refused(mlhost: Mlhost, file: Path, tmp_path: Path) -> None:
    whole, chance = file.read_bytes(), random.Random(7)
    for length in [0, 1, 511, 512, len(whole) - 1, len(whole) - 1024, *chance.sample(range(len(whole)), 20)]:
        file.write_bytes(whole[:length])
        with pytest.raises(Invalid):
            restored(file, tmp_path / "new", force=False)
    assert "cut off" in mlhost("restore", file, "--data", tmp_path / "new", expect=1).stderr
    file.write_bytes(whole + b"\0")
    with pytest.raises(Invalid, match="added to"):
        verified(file)
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".new*"))


def test_a_backup_with_any_bit_changed_is_refused(file: Path, tmp_path: Path) -> None:
    whole, chance = file.read_bytes(), random.Random(7)
    for place in [*range(0, 2048, 7), *chance.sample(range(len(whole)), 60)]:
        changed = bytearray(whole)
        changed[place] ^= 1 << chance.randrange(8)
        file.write_bytes(changed)
        with pytest.raises(Invalid):
            verified(file)
    assert not (tmp_path / "new").exists()


def hostile(file: Path, tmp_path: Path, rename: dict[str, str], **changes: Any) -> None:
    """Write a backup anew, sound in itself, with another manifest and its members under other names."""
    parts = tmp_path / "parts" / "inside"
    parts.mkdir(parents=True)

    @contextmanager
    def put(name: str) -> Iterator[Any]:
        with (parts / rename.get(name, name)).open("wb") as out:
            yield out

    with file.open("rb") as archive:
        manifest = read(archive, put)
    members = {rename.get(name, name): member for name, member in manifest.members.items()}
    file.write_bytes(b"".join(written(replace(manifest, members=members, **changes), parts)))


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        ({"audit.jsonl": "../escaped"}, "no file of a data folder"),
        ({"audit.jsonl": "work"}, "no file of a data folder"),
        ({KEY: "admin-password"}, "lacks server.key"),
    ],
)
def test_members_that_leave_the_folder_or_do_not_belong_there_are_refused(
    file: Path, tmp_path: Path, rename: dict[str, str], words: str
) -> None:
    hostile(file, tmp_path, rename)
    with pytest.raises(Invalid, match=words):
        restored(file, tmp_path / "new", force=False)
    assert not (tmp_path / "new").exists()


def test_an_absolute_name_and_a_link_are_refused(file: Path, tmp_path: Path) -> None:
    for name, kind in (("/etc/passwd", tarfile.REGTYPE), ("manifest.json", tarfile.SYMTYPE)):
        head = tarfile.TarInfo(name)
        head.type, head.linkname = kind, "/etc/passwd"
        file.write_bytes(head.tobuf(tarfile.GNU_FORMAT) + END)
        with pytest.raises(Invalid, match="should be"):
            restored(file, tmp_path / "new", force=False)


def test_a_database_of_a_newer_mlhost_or_none_at_all_is_refused(data: Path, file: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(data / DATABASE)) as database:
        database.execute("pragma user_version = 999")
    with DataFolder.open(data) as folder, taken(folder) as made:
        file.write_bytes(b"".join(made.pieces()))
    with pytest.raises(Invalid, match="knows versions up to"):
        restored(file, tmp_path / "new", force=False)
    file.write_text("something else")
    with pytest.raises(Invalid, match=r"cut off|no backup"):
        restored(file, tmp_path / "new", force=False)


def test_a_backup_of_another_format_is_refused(file: Path, tmp_path: Path) -> None:
    hostile(file, tmp_path, {}, format=2)
    with pytest.raises(Invalid, match="use a newer one"):
        verified(file)


@pytest.mark.parametrize(
    "text", ['{"format": 1, "schema": Infinity, "members": {}, "mlhost": "", "created": ""}', "[]"]
)
def test_a_manifest_that_is_none_is_refused(text: str) -> None:
    content = text.encode()
    members = {
        "manifest.json": content,
        "manifest.json.sha256": f"{sha256(content).hexdigest()}  manifest.json\n".encode(),
    }
    made = b"".join(_member(name, each) for name, each in members.items())
    with pytest.raises(Invalid, match="manifest cannot be read"):
        read(io.BytesIO(made + END), pytest.fail)


def _member(name: str, content: bytes) -> bytes:
    head = tarfile.TarInfo(name)
    head.size = len(content)
    return head.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


# --- what comes between ----------------------------------------------------------------------------------------------

RESTORE = """
import sys
from pathlib import Path
from mlhost.backups.restoring import restored
print("begins", flush=True)
restored(Path(sys.argv[1]), Path(sys.argv[2]), force=True)
print("is done", flush=True)
"""


def test_a_kill_leaves_the_old_folder_or_the_new_one(data: Path, file: Path) -> None:
    new = contents(data)
    (data / "audit.jsonl").write_text("old")
    old, outcomes = contents(data), set()
    for thousandths in (0, 2, 4, 8, 12, 16, 24, 40, 80):
        process = subprocess.Popen(
            [sys.executable, "-c", RESTORE, str(file), str(data)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(thousandths / 1000)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = contents(data)
        assert found in (old, new)
        outcomes.add(found == new)
        if found == new:
            (data / "audit.jsonl").write_text("old")
    restored(file, data, force=True)
    assert contents(data) == new
    assert not list(data.parent.glob(".data.restoring"))
    assert outcomes


@pytest.mark.untraced  # the tracer's own file would be too large as well
def test_a_full_disk_is_said_and_leaves_what_was_there(data: Path, file: Path, tmp_path: Path) -> None:
    (data / "audit.jsonl").write_text("old")
    before = contents(data)
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    for command in (("restore", file, "--data", data, "--force"), ("backup", tmp_path / "x", "--data", data)):
        process = subprocess.run(
            [sys.executable, "-m", "mlhost", *map(str, command)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        )
        assert process.returncode == 5, process.stderr
        assert "File too large" in process.stderr or "full" in process.stderr or "fails" in process.stderr
        assert process.stderr.count("\n") == 1
    assert contents(data) == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [file.name]
    assert not list(data.parent.glob(".*"))


def test_too_little_room_is_said_before_anything_is_copied(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with DataFolder.open(data) as folder, pytest.raises(Unavailable, match="has 1 MiB left"), taken(folder):
        pass


def test_there_is_nothing_to_back_up_where_no_server_has_run(mlhost: Mlhost, tmp_path: Path) -> None:
    DataFolder.open(tmp_path / "fresh").close()
    said = mlhost("backup", tmp_path / "x", "--data", tmp_path / "fresh", expect=1).stderr
    assert "nothing to back up" in said
