"""Progress of what takes long, as a bar on stderr where tqdm is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Bar(Protocol):
    """What shows progress."""

    n: float

    def update(self, count: float, /) -> object:
        """Another so many are done."""


class _NoBar:
    n = 0.0

    def update(self, count: float, /) -> None:
        """Show nothing."""
        self.n += count


@contextmanager
def bar(title: str, total: int | None, unit: str) -> Iterator[Bar]:
    """tqdm's, where it is installed and wanted: without a title there is none."""
    if title:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            pass
        else:
            with tqdm(total=total, desc=title, unit=unit, unit_scale=unit == "B") as shown:
                yield shown
            return
    yield _NoBar()
