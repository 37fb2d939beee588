"""What can be called where a workspace lives: functions of the runtime, by name when they travel."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

from mlhost.errors import MlhostError

RUNSPACE = "mlhost.runtime."  # only functions from here can be called


@cache
def name_of(function: Callable[..., Any]) -> str:
    """The name "module:function"; MlhostError if it is not a function of the runtime."""
    return _checked(f"{function.__module__}:{function.__name__}")


@cache
def find(name: str) -> Callable[..., Any]:
    """The function of that name, its module imported if need be; MlhostError as above."""
    module, _, function = _checked(name).partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _checked(name: str) -> str:
    if not name.startswith(RUNSPACE):
        raise MlhostError(f"{name} is not a function of the runtime")
    return name
