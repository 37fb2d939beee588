"""Where workspaces live: the two protocols every placement follows.

Nothing above this floor knows which placement is in use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

from mlhost.runtime.workspace import Workspace

if TYPE_CHECKING:  # of the host alone: in a subinterpreter every import counts
    from mlhost.executors.console import Console
    from mlhost.executors.trains import Call, Owner

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Worker(Protocol):
    """One interpreter that holds one workspace and runs one function at a time."""

    folder: Path  # the workspace's
    deadline_seconds: float  # that each call may take
    deadline_setting: str  # by which name the one who set it knows it, or ""
    python: str  # the version it runs, "3.11.7"

    @property
    def console(self) -> Console:
        """What the code printed."""

    @property
    def lost(self) -> str:
        """ "" while the worker lives, else how it died, in words."""

    @property
    def lingers(self) -> bool:
        """Whether its code runs on in the server although the worker is lost."""

    @property
    def busy(self) -> bool:
        """Whether a call is running."""

    @property
    def carries(self) -> int:
        """How many calls it may have at once."""

    @property
    def aboard(self) -> int:
        """How many calls it has that are not answered yet."""

    def resident_bytes(self) -> int:
        """Memory of its process that is in use now; 0 if it has none of its own, or the system does not tell."""

    async def call(
        self,
        function: Callable[Concatenate[Workspace, Given], Result],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Result:
        """Run `function(workspace, *args)` where the workspace lives.

        Calls wait for one another in order. An MlhostError of the function is raised here; CodeFailed when the
        deadline passed, WorkerLost when the worker died. A cancelled call is interrupted and its reply awaited, so
        that no reply reaches another caller.
        """

    def run(self, calls: Sequence[Call], owner: Owner) -> None:
        """Run calls of one function one after the other, for an owner who has the worker to itself.

        Each is answered by itself: its future, and what it printed. An error of a call, its deadline, its death concern
        no other one: what had not begun goes back to the owner, in order. WorkerLost or Invalid if nothing was sent.
        """

    def join(self, calls: Sequence[Call]) -> None:
        """Run more calls of the same function behind those it has; only from within `Owner.on_nearly_over`."""

    def tell_early(self, wanted: bool) -> None:
        """Whether its owner wants to know before its last call begins, having more that could join."""

    def abandon(self, call: Call) -> None:
        """The caller of one of them went away: it is interrupted if it runs, and its answer dropped."""

    def interrupt(self) -> bool:
        """Ask the running call to stop, and end the worker if it does not; False if nothing runs."""

    async def close(self, *, force: bool = False) -> None:
        """End the worker and remove its folder; `force` does not let it finish."""


class Executor(Protocol):
    """Opens workers in one placement."""

    async def open(self, *, deadline_seconds: float, deadline_setting: str = "") -> Worker:
        """A new worker with an empty workspace, each of whose calls may take `deadline_seconds`.

        `deadline_setting` ("limits.score_seconds") is named to the caller whose call takes longer.
        """

    async def close(self) -> None:
        """End all workers and whatever they were made from."""
