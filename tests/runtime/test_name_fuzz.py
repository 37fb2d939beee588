"""Names made to escape: whatever a file or object is called, nothing outside its folder is read, made or removed."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from mlhost import names
from mlhost.errors import MlhostError
from mlhost.http.exchange import attached
from mlhost.runtime.freeze import dump_object, load_object
from mlhost.runtime.workspace import Workspace, delete_file, delete_object, list_files, read_file, write_file
from tests.parts import hostile_names

pytestmark = pytest.mark.untraced

BAIT = b"what nobody may read"
MANY = settings(
    max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two folders deep, with bait in each folder above and beside it, and links in it that lead there."""
    folder = tmp_path / "outer" / "work" / "inside"
    folder.mkdir(parents=True)
    (folder.parent / "inside-not").mkdir()
    for parent in (tmp_path, folder.parent.parent, folder.parent, folder.parent / "inside-not"):
        (parent / "bait").write_bytes(BAIT)
    (folder / "link").symlink_to(folder.parent / "bait")
    (folder / "links").symlink_to(folder.parent)
    return Workspace({"__builtins__": __builtins__}, folder)


def outside(workspace: Workspace) -> dict[str, bytes | None]:
    """All there is above and beside the folder, and its content."""
    top = workspace.folder.parents[2]
    found: dict[str, bytes | None] = {}
    for path, folders, files in os.walk(top):
        if Path(path) == workspace.folder:
            folders.clear()
            continue
        found |= {str(Path(path, name)): Path(path, name).read_bytes() for name in files}
        found |= {str(Path(path, name)): None for name in folders}
    return found


@pytest.mark.timeout(300)
def test_ten_thousand_file_names_never_leave_the_folder(workspace: Workspace) -> None:
    before = outside(workspace)
    links = {"link", "links"}

    @MANY
    @given(hostile_names(workspace.folder))
    def attempt(name: str) -> None:
        with suppress(MlhostError):
            assert read_file(workspace, name) != BAIT
        with suppress(MlhostError):
            write_file(workspace, name, b"mine")
            assert name in links or set(os.listdir(workspace.folder)) == links | {name}
            assert read_file(workspace, name) == b"mine"
        with suppress(MlhostError):
            delete_file(workspace, name)
        for link in links:  # a name may replace them, never follow them
            path = workspace.folder / link
            if not path.is_symlink():
                path.unlink(missing_ok=True)
                path.symlink_to(workspace.folder.parent / "bait" if link == "link" else workspace.folder.parent)
        assert set(os.listdir(workspace.folder)) == links
        assert outside(workspace) == before

    attempt()
    assert list_files(workspace) == []


@pytest.mark.timeout(300)
def test_ten_thousand_object_names_touch_no_file_and_nothing_of_pythons_own(workspace: Workspace) -> None:
    before, inside = outside(workspace), set(os.listdir(workspace.folder))
    workspace.objects["number"] = 1
    pickled = dump_object(workspace, "number")
    del workspace.objects["number"]
    own = dict(workspace.objects)

    @MANY
    @given(hostile_names(workspace.folder))
    def attempt(name: str) -> None:
        with suppress(MlhostError):
            names.object_name(name)
            load_object(workspace, name, pickled)
            assert name.isidentifier()
            assert not name.startswith("_")
            assert workspace.objects == own | {name: 1}
            headers = attached(f"{name}.dill")
            assert headers["Content-Disposition"].isascii()
            assert not set(headers["Content-Disposition"]) & set('\r\n"/\\')
            delete_object(workspace, name)
        assert workspace.objects == own

    attempt()
    assert (outside(workspace), set(os.listdir(workspace.folder))) == (before, inside)


def test_a_check_that_lets_one_name_pass_is_noticed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "file_name", lambda name: name)
    before = outside(workspace)
    assert read_file(workspace, "../bait") == BAIT
    write_file(workspace, "../new", b"mine")
    assert outside(workspace) != before
