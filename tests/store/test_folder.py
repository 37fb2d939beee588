from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import mlhost
from mlhost.errors import Conflict, Unavailable
from mlhost.store.folder import DataFolder
from tests.parts import open_descriptors

HOLD = """
import sys, time
from pathlib import Path
from mlhost.store.folder import DataFolder
folder = DataFolder.open(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def another_server(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder."""
    environment = os.environ | {"PYTHONPATH": str(Path(mlhost.__file__).parents[1])}
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout
        assert server.stdout.readline() == "held\n"
        yield server
        server.kill()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_in_the_folder_belongs_to_its_user_alone(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path / "a" / "b") as folder:
        assert folder.path == tmp_path / "a" / "b"
        assert mode(folder.path) == 0o700
        assert mode(folder.work) == 0o700
        assert [mode(path) for path in sorted(folder.path.iterdir()) if path.is_file()] == [0o600] * 3
        assert sorted(path.name for path in folder.path.iterdir()) == [
            "lock",
            "mlhost.sqlite",
            "server.key",
            "work",
        ]


def test_a_second_server_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path), pytest.raises(Conflict) as refusal:
        DataFolder.open(tmp_path)
    assert f"{tmp_path} is in use by another server, process {os.getpid()}; stop" in refusal.value.message


def test_a_second_server_in_another_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    with another_server(tmp_path) as server:
        with pytest.raises(Conflict, match=f"process {server.pid};"):
            DataFolder.open(tmp_path)
        server.send_signal(signal.SIGKILL)
        server.wait()
        DataFolder.open(tmp_path).close()


def test_a_refused_server_leaves_the_first_ones_files_alone(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path) as folder:
        (folder.work / "session").mkdir()
        descriptors = open_descriptors()
        for _ in range(2):
            with pytest.raises(Conflict, match=f"process {os.getpid()};"):
                DataFolder.open(tmp_path)
        assert (folder.work / "session").exists()
        assert open_descriptors() == descriptors


def test_a_child_process_does_not_inherit_the_lock(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        folder.close()
        DataFolder.open(tmp_path).close()
        child.kill()


def test_the_folder_can_be_closed_twice_and_opened_again(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path)
    folder.close()
    with DataFolder.open(tmp_path):
        folder.close()
        with pytest.raises(Conflict):
            DataFolder.open(tmp_path)


def test_keys_differ_by_purpose_and_folder_and_stay_the_same(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path / "a") as folder:
        blobs, tokens = folder.key("blobs"), folder.key("tokens")
    with DataFolder.open(tmp_path / "a") as folder:
        assert (folder.key("blobs"), folder.key("tokens")) == (blobs, tokens)
    with DataFolder.open(tmp_path / "b") as other:
        assert len({blobs, tokens, other.key("blobs"), (tmp_path / "a" / "server.key").read_bytes()}) == 4
    assert len(blobs) == 32


def test_a_missing_key_beside_a_database_is_not_replaced(tmp_path: Path) -> None:
    DataFolder.open(tmp_path).close()
    (tmp_path / "server.key").unlink()
    with pytest.raises(Unavailable, match=r"server\.key is missing.*backup"):
        DataFolder.open(tmp_path)
    assert not (tmp_path / "server.key").exists()
    (tmp_path / "mlhost.sqlite").unlink()
    DataFolder.open(tmp_path).close()


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_the_wrong_size_is_refused(tmp_path: Path, size: int) -> None:
    DataFolder.open(tmp_path).close()
    (tmp_path / "server.key").write_bytes(b"x" * size)
    with pytest.raises(Unavailable, match=f"server.key holds {size} bytes, not 32"):
        DataFolder.open(tmp_path)


@pytest.mark.parametrize("bits", [0o604, 0o640, 0o602])
def test_a_key_open_to_others_is_refused_until_it_is_closed_to_them(tmp_path: Path, bits: int) -> None:
    DataFolder.open(tmp_path).close()
    (tmp_path / "server.key").chmod(bits)
    with pytest.raises(Unavailable, match=r"run: chmod 600 .*server\.key"):
        DataFolder.open(tmp_path)
    (tmp_path / "server.key").chmod(0o600)
    DataFolder.open(tmp_path).close()


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "server.key").mkdir(mode=0o700)
    with pytest.raises(Unavailable, match=r"server\.key: Is a directory"):
        DataFolder.open(tmp_path)


def test_a_start_killed_while_it_made_the_key_does_not_stop_the_next(tmp_path: Path) -> None:
    (tmp_path / "server.new").write_bytes(b"half")
    with DataFolder.open(tmp_path):
        assert len((tmp_path / "server.key").read_bytes()) == 32
        assert not (tmp_path / "server.new").exists()


def test_a_path_that_cannot_be_a_folder_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="file: File exists; the data folder must"):
        DataFolder.open(tmp_path / "file")


def test_work_left_by_an_earlier_server_is_swept(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (outside / "kept").touch()
    with DataFolder.open(tmp_path / "data") as folder:
        (folder.work / "session" / "locked").mkdir(parents=True)
        (folder.work / "session" / "locked" / "file").touch()
        (folder.work / "session" / "locked").chmod(0)
        (folder.work / "link").symlink_to(outside)
    with DataFolder.open(tmp_path / "data") as folder:
        assert list(folder.work.iterdir()) == []
    assert list(outside.iterdir()) == [outside / "kept"]
    assert mode(outside) == 0o750


def test_an_ephemeral_folder_is_private_and_gone_after_use() -> None:
    with DataFolder.ephemeral() as folder:
        assert mode(folder.path) == 0o700
        with pytest.raises(Conflict):
            DataFolder.open(folder.path)
        (folder.work / "session").mkdir()
    assert not folder.path.exists()


def test_ephemeral_folders_stand_beside_each_other() -> None:
    with DataFolder.ephemeral() as one, DataFolder.ephemeral() as other:
        assert one.path != other.path
        assert one.key("blobs") != other.key("blobs")


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with DataFolder.open(Path("data")) as folder:
        assert folder.database == tmp_path / "data" / "mlhost.sqlite"


def test_a_copied_folder_is_a_backup(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path / "a") as folder:
        key = folder.key("blobs")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with DataFolder.open(tmp_path / "b") as copy:
        assert copy.key("blobs") == key
