"""Where workspaces may live on this server, and where they do when the one who asks does not say."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import get_args

from mlhost.config import Placement, Profile
from mlhost.errors import Forbidden, Invalid
from mlhost.executors import interpreter

PROCESS: Placement = "process"
INTERPRETER: Placement = "interpreter"
INLINE: Placement = "inline"
ALL: tuple[Placement, ...] = get_args(Placement)


@dataclass(frozen=True, slots=True)
class Placements:
    """The rules of one server.

    `isolated` puts everything into processes. `embedded` keeps everything in the server's process: sessions in
    subinterpreters where the Python supports them, else inline, and services inline. What a profile uses by itself may
    also be asked for, beside what is `allowed`.
    """

    profile: Profile = "isolated"
    allowed: tuple[Placement, ...] = (PROCESS,)

    @property
    def for_sessions(self) -> Placement:
        """Where a session lives that names no placement."""
        if self.profile == "isolated":
            return PROCESS
        return INTERPRETER if interpreter.IS_SUPPORTED else INLINE

    @property
    def for_services(self) -> Placement:
        """Where a service lives that names no placement."""
        return PROCESS if self.profile == "isolated" else INLINE

    def may_use(self, placement: Placement) -> bool:
        """Whether a workspace may live there."""
        return placement in (*self.allowed, self.for_sessions, self.for_services)

    def checked(self, asked: str) -> Placement:
        """The placement of that name; Invalid if there is none here, Forbidden if it is not allowed."""
        placement = next((known for known in ALL if known == asked), None)
        if placement is None:
            raise Invalid(f"placement: {asked!r} is none of {', '.join(ALL)}", field="placement")
        if placement == INTERPRETER and not interpreter.IS_SUPPORTED:
            needs, runs = ".".join(map(str, interpreter.NEEDS)), platform.python_version()
            raise Invalid(
                f"placement: 'interpreter' needs a server on CPython {needs} or later; this one runs {runs}",
                field="placement",
            )
        if not self.may_use(placement):
            raise Forbidden(
                f"The placement {asked!r} is not allowed on this server; its administrator can allow it in"
                " runtime.allowed_placements.",
                field="placement",
            )
        return placement
