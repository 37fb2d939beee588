"""Many records scored under one id, followed with a progress bar until all are done (contract section 6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from mlhost.client import values
from mlhost.client.steps import Pause, Steps
from mlhost.client.transport import Transport, path
from mlhost.client.values import NamedTypes
from mlhost.errors import CodeFailed

FIRST_SECONDS, LONGEST_SECONDS = 0.02, 1.0  # between two looks at a batch
ENDED = ("Complete", "Failed")
ERROR = "error"  # the column that tells why a record failed


class Bar(Protocol):
    """What shows progress."""

    n: float

    def update(self, count: float, /) -> object:
        """Another so many are done."""


def scored(
    transport: Transport, at: str, records: list[dict[str, Any]], parallel: int, title: str
) -> Steps[list[dict[str, Any]]]:
    """The results in the order of the records; the batch is deleted at the end, also when one is interrupted.

    CodeFailed if the batch itself could not run. `title` names the bar; without one there is none.
    """
    asked = {"parallelCount": str(parallel)}
    started = yield from transport.ask("POST", f"{at}/batch", records, query=asked)
    batch = f"{at}/batch{path(started.json()['batchExecutionId'])}"
    try:
        with _bar(title, len(records)) as bar:
            seconds = FIRST_SECONDS
            while (told := (yield from transport.ask("GET", batch)).json())["state"] not in ENDED:
                bar.update(told["completedItemCount"] - bar.n)
                yield Pause(seconds)
                seconds = min(seconds * 1.5, LONGEST_SECONDS)
            bar.update(told["completedItemCount"] - bar.n)
    finally:
        yield from transport.ask("DELETE", batch)
    if told["state"] == "Failed":
        raise CodeFailed(told.get("errorMessage") or "The batch could not run.")
    results: list[dict[str, Any]] = told["batchExecutionResults"]
    return results


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


class _NoBar:
    n = 0.0

    def update(self, count: float, /) -> None:
        """Show nothing."""
        self.n += count


@contextmanager
def _bar(title: str, total: int) -> Iterator[Bar]:
    """tqdm's, where it is installed and wanted."""
    if title:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            pass
        else:
            with tqdm(total=total, desc=title, unit="record") as bar:
                yield bar
            return
    yield _NoBar()
