"""The worker's side of a call, wherever the worker is: find the function, run it, say what it came to."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from mlhost.errors import to_wire
from mlhost.executors import callables, wire
from mlhost.executors.faults import told
from mlhost.runtime import limits
from mlhost.runtime.workspace import Workspace


def main_module() -> dict[str, Any]:
    """The namespace of a new `__main__`: what user code defines is pickled by value, as at a prompt."""
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    return main.__dict__


def answer(workspace: Workspace, number: int, function: str, arguments: list[Any]) -> tuple[bytes, bool]:
    """Run the function that is named "module:function"; the frame that tells what it came to, and whether it failed."""
    try:
        return wire.pack([number, None, callables.find(function)(workspace, *arguments)]), False
    except BaseException as fault:
        limits.make_room(fault)
        return wire.pack([number, to_wire(told(fault)), None]), True
