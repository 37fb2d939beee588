"""Rows of a table: a figure, what it may be, and whether it is."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A row of the table."""

    name: str
    values: list[float]
    unit: str
    target: float | None = None
    at_least: bool = False  # whether more is better

    def __str__(self) -> str:
        median = statistics.median(self.values)
        ninth = statistics.quantiles(self.values, n=10)[8] if len(self.values) > 1 else median
        row = f"{self.name:<58} {median:8.2f} {ninth:8.2f}  {self.unit:<3}"
        if self.target is None:
            return row
        reached = median >= self.target if self.at_least else median <= self.target
        return f"{row} {'>=' if self.at_least else '<='} {self.target:<5g} {'yes' if reached else 'NO'}"


HEAD = f"{'':<58} {'median':>8} {'p90':>8}  {'':<3} {'target':<8} reached"
