"""What a server has counted, in the forms that Prometheus reads: its own text format and OpenMetrics.

Nothing of it is global, so two hosts in one process tell each its own. Labels are the names and versions of published
services and words of this program, never what a caller sent.
"""

from __future__ import annotations

import asyncio
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from mlhost import __version__
from mlhost.engines import COMPILED, WORKERS
from mlhost.executors.pool import Usage
from mlhost.host import Host
from mlhost.metrics import Answer
from mlhost.metrics.tally import BOUNDS, Tally, Timings
from mlhost.scoring import Ready

OPENMETRICS = "application/openmetrics-text"
# Three of our ten buckets a decade: enough for alerts, and a scrape stays small.
TOLD = tuple((at, str(bound)) for at, bound in enumerate(BOUNDS) if f"{bound:.2e}".startswith(("1.00", "2.50", "5.00")))

Labels = dict[str, str]
Counts = Iterator[tuple[Labels, float]]  # labels beside those of the version
Times = Iterator[tuple[Labels, Timings]]


class Exposition:
    """The metrics of one host as text, one scrape after the other."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._turn = asyncio.Lock()
        self._process = CollectorRegistry()
        for kind in (ProcessCollector, PlatformCollector, GCCollector):
            kind(registry=self._process)

    async def text(self, accepted: str) -> tuple[bytes, str]:
        """All there is to tell, and its media type, which is OpenMetrics' if an Accept header has that.

        It is written beside the event loop, which goes on counting: a call may be told in one metric and not yet in
        the next.
        """
        encode, media_type = choose_encoder(f"{OPENMETRICS}; version=1.0.0" if OPENMETRICS in accepted else "")
        async with self._turn:
            versions = [(ready, ready.pool.seen()) for ready in self._host.services.all_ready()]
            told = _Families([*_of_host(self._host), *_of_versions(versions)], self._process)
            return await asyncio.to_thread(encode, told), media_type


class _Families(Collector):
    """What tells of the host, followed by what tells of the process."""

    def __init__(self, families: Iterable[Metric], process: CollectorRegistry) -> None:
        self._families = families
        self._process = process

    def collect(self) -> Iterable[Metric]:
        yield from self._families
        yield from self._process.collect()


def _of_host(host: Host) -> Iterator[Metric]:
    now = host.metrics.now()
    yield InfoMetricFamily("mlhost_build", "What runs.", {"version": __version__, "python": platform.python_version()})
    for name, told, value in (
        ("mlhost_sessions", "Sessions that are open.", now.sessions),
        ("mlhost_sessions_max", "Sessions that may be open (sessions.max).", host.config.sessions.max),
        ("mlhost_workers", "Workers of sessions and services, and those in reserve.", now.workers),
        ("mlhost_workers_max", "Workers there may be (pool.max).", host.config.pool.max),
        ("mlhost_batches_running", "Batches that run.", now.batches),
        ("mlhost_service_versions", "Versions that are published.", len(host.services.all_ready())),
    ):
        yield GaugeMetricFamily(name, told, value)
    yield CounterMetricFamily("mlhost_unknown_calls", "Calls of services there are none of.", host.metrics.unknown)
    answers = (Sample(f"{ANSWERS}_total", _answer(key), count) for key, count in host.metrics.answers.copy().items())
    yield _family(ANSWERS, "Requests of all routes, by how they were answered.", "counter", answers)
    late = _histogram(LATENESS, {}, host.metrics.lateness)
    yield _family(LATENESS, "How late the event loop was, looked at once a second.", "histogram", late)


def _answer(answer: Answer) -> Labels:
    method, route, status = answer
    return {"method": method, "route": route, "status": str(status)}


def _of_versions(versions: list[tuple[Ready, Usage]]) -> Iterator[Metric]:
    all_ready = [ready for ready, _ in versions]
    for name, told, counts in COUNTERS:
        yield _family(name, told, "counter", _samples(f"{name}_total", all_ready, counts))
    for name, told, times in HISTOGRAMS:
        yield _family(name, told, "histogram", _histograms(name, all_ready, times))
    workers = (sample for ready, usage in versions for sample in _workers(ready, usage))
    yield _family(WORKERS_OF_VERSION, "Workers of a version, by what they do.", "gauge", workers)
    waiting = (Sample(WAITING, _labels(ready), usage.waiting) for ready, usage in versions)
    yield _family(WAITING, "Calls that wait for a worker.", "gauge", waiting)


def _family(name: str, told: str, kind: str, samples: Iterator[Sample]) -> Metric:
    """A metric whose samples are made when they are written: tens of thousands at once keep the collector busy."""
    family = Metric(name, told, kind)
    family.samples = samples  # type: ignore[assignment]
    return family


def _labels(ready: Ready) -> Labels:
    return {"service": ready.name, "version": ready.version}


def _samples(name: str, all_ready: list[Ready], counts: Callable[[Ready], Counts]) -> Iterator[Sample]:
    for ready in all_ready:
        for labels, count in counts(ready):
            yield Sample(name, _labels(ready) | labels, count)


def _histograms(name: str, all_ready: list[Ready], times: Callable[[Ready], Times]) -> Iterator[Sample]:
    for ready in all_ready:
        for labels, timings in times(ready):
            yield from _histogram(name, _labels(ready) | labels, timings)


def _histogram(name: str, labels: Labels, timings: Timings) -> Iterator[Sample]:
    if not timings.buckets:
        return
    reached = list(accumulate(timings.buckets.copy()))
    for at, bound in TOLD:
        yield Sample(f"{name}_bucket", labels | {"le": bound}, reached[at])
    yield Sample(f"{name}_bucket", labels | {"le": "+Inf"}, reached[-1])
    yield Sample(f"{name}_count", labels, reached[-1])
    yield Sample(f"{name}_sum", labels, timings.seconds)


# --- what is told of a version -------------------------------------------------------------------------------------


def _engines(ready: Ready) -> Iterator[tuple[Labels, Tally]]:
    yield {"engine": WORKERS}, ready.meter.calls
    if ready.compiled is not None or ready.meter.compiled.count:
        yield {"engine": COMPILED}, ready.meter.compiled


def _by(label: str, counts: Counter[str]) -> Counts:
    return (({label: word}, count) for word, count in counts.copy().items())


def _workers(ready: Ready, usage: Usage) -> Iterator[Sample]:
    for state, count in (("busy", usage.busy), ("idle", usage.idle), ("starting", usage.starting)):
        yield Sample(WORKERS_OF_VERSION, _labels(ready) | {"state": state}, count)


ANSWERS = "mlhost_http_requests"
LATENESS = "mlhost_loop_lateness_seconds"
WORKERS_OF_VERSION = "mlhost_service_workers"
WAITING = "mlhost_waiting_calls"
COUNTERS: tuple[tuple[str, str, Callable[[Ready], Counts]], ...] = (
    (
        "mlhost_requests",
        "Calls, refused ones among them.",
        lambda ready: ((engine, tally.count) for engine, tally in _engines(ready)),
    ),
    (
        "mlhost_errors",
        "Calls that were refused or whose code failed.",
        lambda ready: _by("kind", ready.meter.calls.errors),
    ),
    (
        "mlhost_batch_records",
        "Tries of records of batches.",
        lambda ready: iter([({}, ready.meter.records.count)]),
    ),
    (
        "mlhost_batch_errors",
        "Tries of records of batches that came to nothing.",
        lambda ready: _by("kind", ready.meter.records.errors),
    ),
    (
        "mlhost_worker_restarts",
        "Workers that died, or were replaced by others.",
        lambda ready: _by("reason", ready.meter.restarts),
    ),
)
HISTOGRAMS: tuple[tuple[str, str, Callable[[Ready], Times]], ...] = (
    (
        "mlhost_request_seconds",
        "What answered calls took, with what they waited for a worker.",
        lambda ready: ((engine, tally.times) for engine, tally in _engines(ready)),
    ),
    (
        "mlhost_queue_seconds",
        "What calls waited until they had a worker.",
        lambda ready: iter([({}, ready.meter.queue)]),
    ),
    (
        "mlhost_batch_record_seconds",
        "What records of batches took once they had a worker.",
        lambda ready: iter([({}, ready.meter.records.times)]),
    ),
)
