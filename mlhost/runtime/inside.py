"""What is in a workspace, for people who look at it."""

from __future__ import annotations

from typing import TypedDict

from mlhost.runtime.describe import Described, describe_all
from mlhost.runtime.workspace import Workspace, is_users, look


class Inside(TypedDict):
    """The objects and files of a workspace."""

    objects: dict[str, Described]  # by name, sorted
    files: dict[str, int]  # name -> bytes, sorted


def look_inside(workspace: Workspace) -> Inside:
    """What there is now; objects are asked what they look like, which may run code of theirs."""
    everything = dict(workspace.objects)  # at once: a thread of the user's may be adding to it
    objects = {name: value for name, value in sorted(everything.items(), key=_name) if is_users(name, value)}
    files = {name: size for name, (_, size) in sorted(look(workspace.folder).items())}
    return Inside(objects=describe_all(objects), files=files)


def _name(entry: tuple[object, object]) -> str:
    """What to sort by: a namespace may hold keys that are no names."""
    return str(entry[0])
