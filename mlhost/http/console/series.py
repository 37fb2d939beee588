"""How calls went lately, as the charts take it: `times` and, for each line, as many values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aiohttp import web

from mlhost.http.exchange import record
from mlhost.metrics import Series

Line = tuple[str, Sequence[float | None]]  # what it is called, and its values


def latencies(series: Series) -> web.Response:
    """What calls took and waited, in milliseconds."""
    lines = (("median", series.p50_ms), ("95 %", series.p95_ms), ("99 %", series.p99_ms), ("waiting", series.queue_ms))
    return _chart(series, lines, "ms")


def rates(series: Series) -> web.Response:
    """How many calls there were, and how many failed or were refused, in each second."""
    return _chart(series, (("calls", series.requests), ("errors", series.errors)), "/s")


def _chart(series: Series, lines: Iterable[Line], unit: str) -> web.Response:
    told = [{"label": label, "unit": unit, "values": values} for label, values in lines]
    return record({"times": series.times, "series": told})
