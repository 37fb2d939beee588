"""A workspace: the objects code works on, and the folder it works in.

The functions below are the verbs on its objects and files; freezing and pickles are in `freeze`, running is in
`program`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

from mlhost import names
from mlhost.errors import Conflict, NotFound, Unavailable
from mlhost.runtime import limits

if TYPE_CHECKING:
    from mlhost.runtime.parcels import Parcel
    from mlhost.runtime.program import Program


class Workspace:
    """The namespace code runs in (`objects`) and its working directory (`folder`, an existing path).

    `title` tells it from other workspaces of the same interpreter, if there may be any; `is_alone` says whether the
    process, its memory and its limits, is the workspace's own.
    """

    def __init__(self, objects: dict[str, Any], folder: Path, title: str = "", *, is_alone: bool = True) -> None:
        self.objects = objects
        self.folder = folder
        self.title = title
        self.is_alone = is_alone
        self.runs = 0  # code blocks executed so far; numbers them in tracebacks
        self.program: Program | None = None  # what `score` runs, once prepared
        self.parcels: dict[int, Parcel] = {}  # what is on its way in or out; see `parcels`


def ping(workspace: Workspace) -> str:
    """Show that the worker lives: the answer is "pong"."""
    del workspace
    return "pong"


def list_objects(workspace: Workspace) -> list[str]:
    """Names of the user's objects, sorted: no modules, nothing that starts with an underscore."""
    return sorted(name for name, value in workspace.objects.items() if is_users(name, value))


def is_users(name: object, value: object) -> bool:
    """Whether an entry of the namespace is the user's own object rather than machinery or an import."""
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        return False
    return not issubclass(type(value), ModuleType)  # not isinstance: an object may lie about its class, or raise


def delete_object(workspace: Workspace, name: str) -> None:
    """Remove one object; NotFound if the workspace has none of that name."""
    find_object(workspace, name)
    del workspace.objects[name]


def find_object(workspace: Workspace, name: str) -> Any:
    """The object of that name, or NotFound."""
    if name not in workspace.objects or not is_users(name, workspace.objects[name]):
        raise NotFound(f"There is no object {name!r} in this workspace.")
    return workspace.objects[name]


def list_files(workspace: Workspace) -> list[str]:
    """Names of the regular files directly in the working directory, sorted."""
    return sorted(look(workspace.folder))


def look(folder: Path) -> dict[str, tuple[int, int]]:
    """The regular files directly in `folder`: name -> (modified in ns, size in bytes); links are not followed."""
    found: dict[str, tuple[int, int]] = {}
    if not folder.is_dir():  # user code may have removed it
        return found
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                found[entry.name] = (status.st_mtime_ns, status.st_size)
    return found


def read_file(workspace: Workspace, name: str) -> bytes:
    """The content of one file of the working directory; NotFound if it is not a regular file there."""
    with open_file(workspace, name) as file:
        return file.read()


def open_file(workspace: Workspace, name: str) -> BinaryIO:
    """One file of the working directory, to be read; NotFound if it is not a regular file there."""
    return os.fdopen(_open(workspace, name, os.O_RDONLY), "rb")


def write_file(workspace: Workspace, name: str, content: bytes) -> None:
    """Create or replace one file; whatever else has that name (a link, say) is replaced, a folder is a Conflict."""
    with replacing(workspace, name) as file:
        file.write(content)


@contextmanager
def replacing(workspace: Workspace, name: str) -> Iterator[BinaryIO]:
    """A new file that takes the name when the block has ended well; see `write_file`."""
    path = workspace.folder / names.file_name(name)
    if path.is_dir() and not path.is_symlink():
        raise Conflict(f"{name!r} is a folder.")
    part = workspace.folder / f".{os.getpid()}.part"
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except BaseException as fault:
        part.unlink(missing_ok=True)
        if isinstance(fault, OSError):
            raise Unavailable(f"{name!r} cannot be written: {fault.strerror}{limits.note(fault)}.") from fault
        raise


def delete_file(workspace: Workspace, name: str) -> None:
    """Remove one file; NotFound if it is not a regular file there."""
    os.close(_open(workspace, name, os.O_RDONLY))
    (workspace.folder / name).unlink()


def _open(workspace: Workspace, name: str, flags: int) -> int:
    """Open a regular file of the folder, following no link; what is not one is NotFound."""
    path = workspace.folder / names.file_name(name)
    try:
        # O_NONBLOCK: opening a pipe somebody made there must not wait for its other end.
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise NotFound(f"There is no file {name!r} in the working directory.") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotFound(f"There is no file {name!r} in the working directory.")
    return descriptor
