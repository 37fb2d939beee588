"""A workspace as bytes and back: the only place in mlhost that opens a pickle.

A frozen workspace is a zip: `manifest.json`, `workspace.dill` (all objects in one pickle, so that objects shared
between them stay shared) and the files of the working directory under `files/`. Functions defined in the workspace
refer to its namespace by a persistent id, so after thawing they see the new workspace's variables, as they did in the
old one. Only a worker may call these functions: opening a pickle runs whatever it says.
"""

from __future__ import annotations

import io
import json
import pickle
import platform
import reprlib
import sys
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypedDict

import cloudpickle

from mlhost import names
from mlhost.errors import CodeFailed, Invalid, MlhostError
from mlhost.runtime.interrupt import interruptible
from mlhost.runtime.workspace import (
    Workspace,
    find_object,
    is_users,
    list_files,
    read_file,
    write_file,
)

MANIFEST = "manifest.json"
OBJECTS = "workspace.dill"
FILES = "files/"
NAMESPACE_ID = "mlhost.workspace"
CLASS_MAKERS = ("cloudpickle.cloudpickle._make_skeleton_class", "cloudpickle.cloudpickle._make_skeleton_enum")
REPR_LENGTH = 80  # characters of an object's repr in the manifest


class Manifest(TypedDict):
    """What a frozen workspace holds."""

    python: str  # "3.11.7"
    objects: dict[str, dict[str, str]]  # name -> type, shape, repr
    files: dict[str, int]  # name -> bytes
    skipped: dict[str, str]  # object that could not be pickled -> why


class Frozen(TypedDict):
    """A frozen workspace and its table of contents."""

    archive: bytes
    manifest: Manifest


def freeze(workspace: Workspace) -> Frozen:
    """The workspace as a zip; an object that cannot be pickled is named on the console and left out."""
    objects = {name: value for name, value in workspace.objects.items() if is_users(name, value)}
    pickled, skipped = _dump_all(workspace, objects)
    for name, reason in skipped.items():
        print(f"Warning: {name!r} is not in the snapshot: {reason}", file=sys.stderr)  # noqa: T201
    files = dict(_read_files(workspace))
    manifest = Manifest(
        python=platform.python_version(),
        objects={name: _describe(value) for name, value in objects.items() if name not in skipped},
        files={name: len(content) for name, content in files.items()},
        skipped=skipped,
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:  # stored, not deflated: the blob store compresses
        out.writestr(MANIFEST, json.dumps(manifest))
        out.writestr(OBJECTS, pickled)
        for name, content in files.items():
            out.writestr(FILES + name, content)
    return Frozen(archive=archive.getvalue(), manifest=manifest)


def thaw(workspace: Workspace, archive: bytes) -> None:
    """Merge a frozen workspace into this one; objects and files of the same name are replaced.

    CodeFailed if it was frozen under another minor version of Python (code objects do not survive that) or does not
    load.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as frozen:
        manifest: Manifest = json.loads(frozen.read(MANIFEST))
        _check_python(manifest["python"])
        try:
            with interruptible():
                objects = _Unpickler(workspace, frozen.read(OBJECTS)).load()
        except KeyboardInterrupt:
            raise
        except BaseException as fault:  # opening a pickle runs user code, which may call sys.exit
            raise CodeFailed(f"The snapshot does not load: {type(fault).__name__}: {fault}") from fault
        workspace.objects.update(objects)
        for name in manifest["files"]:
            write_file(workspace, name, frozen.read(FILES + name))


def dump_object(workspace: Workspace, name: str) -> bytes:
    """One object as a dill pickle, as the original's clients read it (contract section 4); NotFound, CodeFailed."""
    import dill

    value = find_object(workspace, name)
    try:
        with interruptible():
            pickled: bytes = dill.dumps(value, recurse=True)
    except Exception as fault:
        raise CodeFailed(f"{name!r} cannot be pickled: {type(fault).__name__}: {fault}") from fault
    return pickled


def load_object(workspace: Workspace, name: str, pickled: bytes) -> None:
    """Set one object from a dill (or plain) pickle; Invalid if the bytes are not a pickle that loads here."""
    import dill

    try:
        with interruptible():
            value = dill.loads(pickled)  # noqa: S301 - only workers come here
    except KeyboardInterrupt:
        raise
    except BaseException as fault:  # opening a pickle runs user code, which may call sys.exit
        raise Invalid(f"The body is not a pickle that loads here: {type(fault).__name__}: {fault}") from fault
    workspace.objects[names.object_name(name)] = value


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, except that the workspace's namespace is written as a name."""

    def __init__(self, workspace: Workspace, out: io.BytesIO) -> None:
        super().__init__(out)
        self._namespace = workspace.objects
        # cloudpickle asks this table which dict shall be the globals of a function made of that namespace.
        self.globals_ref[id(workspace.objects)] = workspace.objects

    def persistent_id(self, value: object) -> str | None:
        return NAMESPACE_ID if value is self._namespace else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, workspace: Workspace, pickled: bytes) -> None:
        super().__init__(io.BytesIO(pickled))
        self._namespace = workspace.objects

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        # cloudpickle would bring a class that exists in this interpreter up to date instead of making another; but it
        # is another workspace's, or one of ours that objects made since depend on.
        return partial(_untracked, found) if f"{module}.{name}" in CLASS_MAKERS else found

    def persistent_load(self, pid: Any) -> Any:
        if pid != NAMESPACE_ID:
            raise pickle.UnpicklingError(f"unknown persistent id {pid!r}")
        return self._namespace


def _untracked(make: Callable[..., Any], *args: Any) -> Any:
    """Call one of CLASS_MAKERS without the id by which cloudpickle recognizes a class: its last argument but one."""
    return make(*args[:-2], None, args[-1])


def _dump_all(workspace: Workspace, objects: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """All objects in one pickle; if that fails, those that cannot be pickled are found one by one and left out."""
    try:
        return _dump(workspace, objects), {}
    except Exception:
        skipped = dict(_unpicklable(workspace, objects))
    kept = {name: value for name, value in objects.items() if name not in skipped}
    return _dump(workspace, kept), skipped


def _unpicklable(workspace: Workspace, objects: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for name, value in objects.items():
        try:
            _dump(workspace, {name: value})
        except Exception as fault:
            yield name, f"{type(fault).__name__}: {fault}"


def _dump(workspace: Workspace, objects: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    with interruptible():
        _Pickler(workspace, out).dump(objects)
    return out.getvalue()


def _read_files(workspace: Workspace) -> Iterable[tuple[str, bytes]]:
    """The files of the working directory; what cannot be in a snapshot is named on the console."""
    files = set(list_files(workspace))
    for name in sorted(entry.name for entry in workspace.folder.iterdir()):
        try:
            if name not in files:
                raise Invalid("is not a regular file")
            yield name, read_file(workspace, name)
        except MlhostError as fault:
            print(f"Warning: {name!r} is not in the snapshot: {fault.message}", file=sys.stderr)  # noqa: T201


def _describe(value: Any) -> dict[str, str]:
    """Type, shape and short repr; whatever the object does when it is asked, the snapshot is taken."""
    described = {"type": type(value).__qualname__}
    for part, tell in (("repr", _short.repr), ("shape", _shape)):
        try:
            if text := tell(value):
                described[part] = text[:REPR_LENGTH]
        except BaseException as fault:  # user code can raise anything
            described[part] = f"<{part} failed: {type(fault).__name__}>"
    return described


def _shape(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return " x ".join(str(length) for length in shape) if isinstance(shape, tuple) else ""


_short = reprlib.Repr()
_short.maxstring = _short.maxother = REPR_LENGTH


def _check_python(frozen_under: str) -> None:
    running = platform.python_version()
    if frozen_under.split(".")[:2] != running.split(".")[:2]:
        raise CodeFailed(f"The snapshot was taken under Python {frozen_under}; this worker runs {running}.")
