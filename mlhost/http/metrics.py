"""What is counted, for Prometheus, and how calls went lately, for charts; both are additions to the original."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta

from mlhost.errors import Invalid, NotFound
from mlhost.http import query
from mlhost.http.exchange import WireStruct, record
from mlhost.http.exposition import Exposition
from mlhost.http.keys import HOST
from mlhost.http.routes import Routes
from mlhost.metrics import Series
from mlhost.openapi.operations import ADDED, Bytes, Field, Operation

routes = Routes("Status APIs")

EXPOSITION: web.AppKey[Exposition] = web.AppKey("exposition", Exposition)
DEFAULT_SECONDS = 900
BLOCKING_BYTES = 1 << 16  # that are compressed within a millisecond or two; more are, beside the event loop


class MetricsHistory(WireStruct):
    """How calls went, step after step; the lists are equally long, null where nothing was answered."""

    step_seconds: int
    times: Annotated[list[float], Meta(description="Ends of the steps, in seconds since 1970, UTC.")]
    requests_per_second: Annotated[list[float], Meta(description="Refused and failed ones among them.")]
    errors_per_second: Annotated[list[float], Meta(description="Those that were refused or whose code failed.")]
    p50_milliseconds: Annotated[list[float | None], Meta(description="What half of the answers took at most.")]
    p95_milliseconds: list[float | None]
    p99_milliseconds: list[float | None]
    queue_milliseconds: Annotated[
        list[float | None], Meta(description="What a call waited for a worker, on the average.")
    ]
    restarts: Annotated[list[int], Meta(description="Workers that died or were replaced, in the whole step.")]


@routes.get("/metrics", tells=Operation("getMetrics", gives={200: Bytes("text/plain")}, note=ADDED))
async def metrics(request: web.Request) -> web.Response:
    """All that is counted, in the text format of Prometheus, or OpenMetrics where that is accepted."""
    text, media_type = await request.app[EXPOSITION].text(request.headers.get("Accept", ""))
    response = web.Response(body=text, headers={"Content-Type": media_type}, zlib_executor_size=BLOCKING_BYTES)
    response.enable_compression()
    return response


@routes.get(
    "/metrics/history",
    tells=Operation(
        "getMetricsHistory",
        gives={200: MetricsHistory},
        refuses=(Invalid, NotFound),
        query=(
            Field("service", "Name of a service; all services without it."),
            Field("version", "A version of the service; all of its versions without it."),
            Field(
                "seconds", "How far to go back: 900 without it, in steps of 5 s; in steps of 5 min beyond, to a day."
            ),
        ),
        note=ADDED,
    ),
)
async def history(request: web.Request) -> web.Response:
    """How calls went lately: requests, errors, and the time they took."""
    service, version = (query.given(request, name)[1] or None for name in ("service", "version"))
    seconds = query.whole_number(query.given(request, "seconds"), DEFAULT_SECONDS)
    return record(_shown(request.app[HOST].metrics.history(service, version, seconds)))


def _shown(series: Series) -> MetricsHistory:
    return MetricsHistory(
        step_seconds=series.step_seconds,
        times=series.times,
        requests_per_second=series.requests,
        errors_per_second=series.errors,
        p50_milliseconds=series.p50_ms,
        p95_milliseconds=series.p95_ms,
        p99_milliseconds=series.p99_ms,
        queue_milliseconds=series.queue_ms,
        restarts=series.restarts,
    )
