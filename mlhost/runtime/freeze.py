"""A workspace as a zip and back: what is in it, what was left out and why, and under which versions it was taken.

A frozen workspace is a zip: `workspace.dill` (all objects in one pickle, so that objects shared between them stay
shared), the files of the working directory under `files/`, and `manifest.json`. It is written to and read from a
parcel, so that nobody holds it as a whole. Only a worker may call these functions: opening a pickle runs whatever it
says.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import platform
import sys
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, TypedDict

from mlhost import names
from mlhost.errors import CodeFailed, Invalid, MlhostError, NotFound, Unavailable
from mlhost.runtime import capture, imports, parcels, pickles
from mlhost.runtime.describe import Described, describe_all
from mlhost.runtime.interrupt import interruptible
from mlhost.runtime.pickles import Pickler, Readable, Unpickler, Writable
from mlhost.runtime.workspace import Workspace, find_object, is_users, list_files, open_file, replacing

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MANIFEST = "manifest.json"
OBJECTS = "workspace.dill"
FILES = "files/"
CACHE = "__pycache__"  # a folder Python makes beside imported files, and makes again


class Manifest(TypedDict):
    """What a frozen workspace holds."""

    python: str  # "3.11.7"
    packages: dict[str, str]  # that its objects refer to -> version, "" if unknown
    objects: dict[str, Described]
    files: dict[str, int]  # name -> bytes
    skipped: dict[str, str]  # object that could not be pickled -> why


class Frozen(TypedDict):
    """A workspace that was frozen into a parcel."""

    size: int  # bytes of the zip
    manifest: Manifest


def freeze(workspace: Workspace, parcel: int, strict: bool = False) -> Frozen:
    """Write the workspace into the parcel of that number as a zip.

    What cannot be in it is named on the console and left out, or if `strict` the snapshot is refused as Invalid.
    Unavailable if the disk does not take it.
    """
    try:
        small = _Small()
        frozen = _freeze(workspace, small, strict)
        parcels.put_chunk(workspace, parcel, small.getvalue())
    except _TooLarge:
        # Made before any user code runs: an interrupt must not come between the making of a file and its being kept.
        out = parcels.create(workspace, parcel)
        try:
            return _freeze(workspace, out, strict)
        except BaseException:
            parcels.drop(workspace, parcel)
            raise
    return frozen


def thaw(workspace: Workspace, parcel: int) -> None:
    """Merge a frozen workspace into this one; objects and files of the same name are replaced.

    CodeFailed if it was frozen under another minor version of Python (code objects do not survive that) or does not
    load; then none of its objects are here. Its files are: the objects may need modules that are among them.
    """
    try:
        with zipfile.ZipFile(parcels.find(workspace, parcel)) as frozen:
            manifest = json.loads(frozen.read(MANIFEST))
            _check_python(str(manifest["python"]))
            _write_files(workspace, frozen, manifest["files"])
            with frozen.open(OBJECTS) as pickled:
                workspace.objects.update(load(workspace, pickled, manifest.get("packages", {})))
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as fault:
        raise CodeFailed(f"The bytes are not a snapshot: {type(fault).__name__}: {fault}") from fault


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
        told = f"{type(fault).__name__}: {fault}"
        raise Invalid(f"The body is not a pickle that loads here: {told}", **imports.refusal_detail(fault)) from fault
    workspace.objects[names.object_name(name)] = value


# --- freezing ------------------------------------------------------------------------------------------------------


class _TooLarge(Unavailable):
    """More than is kept in memory."""


class _Small(io.BytesIO):
    """Where a zip is tried first: making and removing a file takes longer than freezing a small workspace."""

    def write(self, content: ReadableBuffer) -> int:
        if self.tell() + memoryview(content).nbytes > parcels.MEMORY_BYTES:
            raise _TooLarge("This takes a file.")
        return super().write(content)


def _freeze(workspace: Workspace, out: io.BufferedIOBase, strict: bool) -> Frozen:
    everything = dict(workspace.objects)  # at once: a thread of the user's may be adding to it
    objects = {name: value for name, value in everything.items() if is_users(name, value)}
    skipped = {name: f"it is {words}" for name, value in objects.items() if (words := pickles.refusal(value))}
    strange = _strange_files(workspace)
    if strict and (skipped or strange):
        raise _refused(skipped | unpicklable(workspace, objects, skipped) | strange)
    try:
        modules = _write_objects(workspace, out, objects, skipped)
    except (Unavailable, KeyboardInterrupt):
        raise
    except BaseException:  # whatever it was, from here on it is found object by object
        skipped |= unpicklable(workspace, objects, skipped)
        if strict and skipped:
            raise _refused(skipped) from None
        modules = _write_what_is_left(workspace, out, objects, skipped)
    kept = {name: value for name, value in objects.items() if name not in skipped}
    with zipfile.ZipFile(out, "a") as archive:
        manifest = Manifest(
            python=platform.python_version(),
            packages=pickles.versions(modules),
            objects=describe_all(kept),
            files=dict(_add_files(workspace, archive)),
            skipped=skipped,
        )
        with archive.open(MANIFEST, "w") as member:
            member.write(json.dumps(manifest).encode())
    for name, reason in (skipped | strange).items():
        _warn(f"Warning: {name!r} is not in the snapshot: {reason}")
    return Frozen(size=out.seek(0, io.SEEK_END), manifest=manifest)


def _write_objects(
    workspace: Workspace, out: io.BufferedIOBase, objects: dict[str, Any], skipped: Iterable[str]
) -> set[str]:
    """Begin the zip with all but the skipped objects in one pickle; the modules it refers to."""
    left_out = set(skipped)
    out.seek(0)
    out.truncate()
    # Stored, not deflated: the blob store compresses.
    with zipfile.ZipFile(out, "w") as archive, archive.open(OBJECTS, "w", force_zip64=True) as pickled:
        return dump(workspace, pickled, {name: it for name, it in objects.items() if name not in left_out}, left_out)


def _write_what_is_left(
    workspace: Workspace, out: io.BufferedIOBase, objects: dict[str, Any], skipped: Iterable[str]
) -> set[str]:
    try:
        return _write_objects(workspace, out, objects, skipped)
    except (MlhostError, KeyboardInterrupt):
        raise
    except BaseException as fault:
        raise CodeFailed(f"The workspace cannot be pickled: {pickles.told(fault)}") from fault


def unpicklable(workspace: Workspace, objects: dict[str, Any], known: Iterable[str] = ()) -> dict[str, str]:
    """Which others of the objects cannot be pickled, and why; each is tried without those it refers to by name."""
    found = {}
    known = set(known)
    for name, value in objects.items():
        if name in known:
            continue
        try:
            dump(workspace, _Nowhere(), value, objects.keys())
        except KeyboardInterrupt:
            raise
        except BaseException as fault:  # pickling runs user code, which may call sys.exit
            found[name] = pickles.reason(fault, value)
    return found


class _Nowhere:
    """Takes a pickle that is only tried."""

    def write(self, content: Any, /) -> int:
        del content
        return 0


def dump(workspace: Workspace, out: Writable, value: Any, left_out: Collection[str] = ()) -> set[str]:
    """Pickle the value; the names of the top-level modules the pickle refers to."""
    pickler = Pickler(workspace, out, left_out)
    with pickles.bounded_recursion(), interruptible():
        pickler.dump(value)
    return pickler.modules


def _refused(why: dict[str, str]) -> Invalid:
    told = "; ".join(f"{name!r}: {reason}" for name, reason in sorted(why.items()))
    return Invalid(f"The snapshot would not hold everything, which `strict` asks for: {told}.", field="strict")


def _warn(text: str) -> None:
    capture.flush()  # opens a stream again that user code has closed
    with contextlib.suppress(Exception):  # or it is a stream of the user's own
        print(text, file=sys.stderr)  # noqa: T201 - the console is where it belongs


# --- files ---------------------------------------------------------------------------------------------------------


def _strange_files(workspace: Workspace) -> dict[str, str]:
    """What is in the working directory and cannot be in a snapshot, and why."""
    strange: dict[str, str] = {}
    if not workspace.folder.is_dir():  # user code may have removed it
        return strange
    for name in sorted(entry.name for entry in workspace.folder.iterdir() if entry.name != CACHE):
        try:
            open_file(workspace, name).close()
        except NotFound:
            strange[name] = "it is not a regular file that can be read"
        except Invalid as fault:
            strange[name] = fault.message
    return strange


def _add_files(workspace: Workspace, archive: zipfile.ZipFile) -> Iterator[tuple[str, int]]:
    """Copy the files that can be there into the zip: their names and the bytes copied."""
    for name in list_files(workspace):
        try:
            file = open_file(workspace, name)
        except (NotFound, Invalid):  # told already, or just removed by something that runs beside us
            continue
        with file, archive.open(FILES + name, "w", force_zip64=True) as member:
            size = os.fstat(file.fileno()).st_size  # no more: something may be writing faster than we read
            with interruptible():
                copied = _copy(file, member, size)
        yield name, copied


def _write_files(workspace: Workspace, archive: zipfile.ZipFile, files: Iterable[str]) -> None:
    for name in files:
        with archive.open(FILES + name) as member, replacing(workspace, name) as file, interruptible():
            _copy(member, file, archive.getinfo(FILES + name).file_size)
    importlib.invalidate_caches()


def _copy(source: IO[bytes], target: IO[bytes], most: int) -> int:
    copied = 0
    while copied < most and (chunk := source.read(min(parcels.CHUNK_BYTES, most - copied))):
        target.write(chunk)
        copied += len(chunk)
    return copied


# --- thawing -------------------------------------------------------------------------------------------------------


def load(workspace: Workspace, pickled: Readable, packages: Mapping[str, str]) -> dict[str, Any]:
    """What `dump` pickled; CodeFailed tells how these packages differ here if it does not load."""
    try:
        with pickles.quiet_about_versions(), interruptible():
            objects: dict[str, Any] = Unpickler(workspace, pickled).load()
    except KeyboardInterrupt:
        raise
    except BaseException as fault:  # opening a pickle runs user code, which may call sys.exit
        told = "; ".join([pickles.told(fault), *pickles.differences(packages)])
        raise CodeFailed(f"The snapshot does not load: {told}", **imports.refusal_detail(fault)) from fault
    return objects


def _check_python(frozen_under: str) -> None:
    running = platform.python_version()
    if frozen_under.split(".")[:2] != running.split(".")[:2]:
        raise CodeFailed(f"The snapshot was taken under Python {frozen_under}; this worker runs {running}.")
