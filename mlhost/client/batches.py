"""Many records scored under one id, followed with a progress bar until all are done (contract section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mlhost.client import values
from mlhost.client.progress import bar
from mlhost.client.steps import Awaiting, Blocking, Pause, Steps, verb
from mlhost.client.transport import Transport, path
from mlhost.client.values import NamedTypes
from mlhost.errors import CodeFailed

if TYPE_CHECKING:
    from mlhost.client.awaiting import AwaitingWire
    from mlhost.client.blocking import BlockingWire

FIRST_SECONDS, LONGEST_SECONDS = 0.02, 1.0  # between two looks at a batch
ENDED = ("Complete", "Failed")
ERROR = "error"  # the column that tells why a record failed


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch has come."""

    state: str  # Pending, Ready, InProgress, Complete or Failed
    done: int  # records
    total: int
    failure: str  # why the batch itself could not run

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ENDED


def begun(transport: Transport, at: str, records: list[dict[str, Any]], parallel: int) -> Steps[str]:
    """Its id, once the server has all of it."""
    asked = {"parallelCount": str(parallel)}
    started = yield from transport.ask("POST", f"{at}/batch", records, query=asked)
    told: str = started.json()["batchExecutionId"]
    return told


def progress(transport: Transport, batch: str) -> Steps[Progress]:
    """How far it is; its results, which may be many, do not come along."""
    told = (yield from transport.ask("GET", batch, query={"withoutResults": "true"})).json()
    return Progress(told["state"], told["completedItemCount"], told["totalItemCount"], told.get("errorMessage") or "")


def followed(transport: Transport, batch: str, title: str) -> Steps[Progress]:
    """How it ended, once it has; `title` names the bar; without one there is none."""
    seconds = FIRST_SECONDS
    told = yield from progress(transport, batch)
    with bar(title, told.total, "record") as shown:
        while not told.has_ended:
            shown.update(told.done - shown.n)
            yield Pause(seconds)
            seconds = min(seconds * 1.5, LONGEST_SECONDS)
            told = yield from progress(transport, batch)
        shown.update(told.done - shown.n)
    return told


def results(transport: Transport, batch: str) -> Steps[list[dict[str, Any]]]:
    """One for each record, in their order; CodeFailed if the batch itself could not run."""
    told = (yield from transport.ask("GET", batch)).json()
    if told["state"] == "Failed":
        raise CodeFailed(told.get("errorMessage") or "The batch could not run.")
    made: list[dict[str, Any]] = told["batchExecutionResults"]
    return made


def scored(
    transport: Transport, at: str, records: list[dict[str, Any]], parallel: int, title: str
) -> Steps[list[dict[str, Any]]]:
    """The results in the order of the records; the batch is deleted at the end, also when one is interrupted.

    CodeFailed if the batch itself could not run. `title` names the bar; without one there is none.
    """
    batch = f"{at}/batch{path((yield from begun(transport, at, records, parallel)))}"
    try:
        yield from followed(transport, batch, title)
        return (yield from results(transport, batch))
    finally:
        yield from transport.ask("DELETE", batch)


def gathered(rows: Any, results: list[dict[str, Any]], types: NamedTypes) -> Any:
    """The outputs as a data frame beside the rows that were one, else as a list of dicts."""
    told = [_outputs(result, types) for result in results]
    if not values.is_frame(rows):
        return told
    import pandas as pd

    names = [name for name, _ in types] + ([ERROR] if any(ERROR in each for each in told) else [])
    return pd.DataFrame({name: [each.get(name) for each in told] for name in names}, index=rows.index)


def _outputs(result: dict[str, Any], types: NamedTypes) -> dict[str, Any]:
    if not result["success"]:
        return {ERROR: result["errorMessage"]}
    return values.decoded(result["outputParameters"], types)


class _Verbs:
    """What both kinds of batch do."""

    wire: Any
    service: str
    version: str
    id: str
    outputs: NamedTypes

    @verb
    def progress(self) -> Steps[Progress]:
        """How far it has come; NotFound once it is deleted."""
        return (yield from progress(self.wire.transport, self._path()))

    @verb
    def wait(self, *, progress: bool = True) -> Steps[Progress]:
        """How it ended, once it has; `progress` shows a bar on stderr if tqdm is installed."""
        return (yield from followed(self.wire.transport, self._path(), self.service if progress else ""))

    @verb
    def results(self) -> Steps[list[dict[str, Any]]]:
        """The outputs of each record there are by now, in their order; `error` says why a record failed."""
        told = yield from results(self.wire.transport, self._path())
        return [_outputs(each, self.outputs) for each in told]

    @verb
    def cancel(self) -> Steps[None]:
        """Interrupt the records that run, and delete the batch with its results."""
        yield from self.wire.transport.ask("DELETE", self._path())

    def _path(self) -> str:
        return f"{path('api', self.service, self.version)}/batch{path(self.id)}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} of {self.service} {self.version}>"


class Batch(_Verbs, Blocking):
    """Many records under one id."""

    def __init__(self, wire: BlockingWire, of: tuple[str, str], batch: str, outputs: NamedTypes) -> None:
        super().__init__(wire)
        (self.service, self.version), self.id, self.outputs = of, batch, outputs


class AsyncBatch(_Verbs, Awaiting):
    """Many records under one id, awaited."""

    def __init__(self, wire: AwaitingWire, of: tuple[str, str], batch: str, outputs: NamedTypes) -> None:
        super().__init__(wire)
        (self.service, self.version), self.id, self.outputs = of, batch, outputs


AnyBatch = TypeVar("AnyBatch", Batch, AsyncBatch)
