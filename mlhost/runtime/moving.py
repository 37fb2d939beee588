"""A workspace on its way to another interpreter of the same machine, with all it has: not only what a snapshot keeps.

Imports and private names come along as well, and the whole folder. What cannot be pickled keeps the workspace where it
is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlhost.errors import CodeFailed
from mlhost.runtime import freeze, parcels
from mlhost.runtime.workspace import Workspace


def pack(workspace: Workspace, parcel: int) -> int:
    """Pickle the namespace into the parcel of that number; its bytes. CodeFailed names what cannot come along."""
    objects = {name: value for name, value in workspace.objects.items() if not _is_machinery(name)}
    out = parcels.create(workspace, parcel)
    try:
        freeze.dump(workspace, out, {"objects": objects, "runs": workspace.runs})
    except KeyboardInterrupt:
        raise
    except BaseException as fault:  # pickling runs user code, which may call sys.exit
        raise CodeFailed(_told(freeze.unpicklable(workspace, objects), fault)) from fault
    return out.tell()


def unpack(workspace: Workspace, parcel: int, folder: str) -> None:
    """Open it here, and take over what is in the folder it lived in; CodeFailed if it does not load, and nothing is
    taken.
    """
    file = parcels.find(workspace, parcel)
    file.seek(0)
    packed = freeze.load(workspace, file, {})
    left = Path(folder)
    for entry in list(left.iterdir()) if left.is_dir() else ():  # user code may have removed it
        entry.rename(workspace.folder / entry.name)
    workspace.objects.update(packed["objects"])
    workspace.runs = packed["runs"]


def whereabouts(workspace: Workspace) -> str:
    """The folder the workspace lives in."""
    return str(workspace.folder)


def _is_machinery(name: object) -> bool:
    return isinstance(name, str) and name.startswith("__") and name.endswith("__")


def _told(reasons: Mapping[str, str], fault: BaseException) -> str:
    why = "; ".join(f"{name!r}: {reason}" for name, reason in reasons.items()) or str(fault)
    return f"cannot come along: {why}"
