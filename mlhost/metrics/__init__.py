"""What a server counts while it runs, and how calls went lately; nothing of it is stored, all of it is in memory.

    host.metrics.now()                              totals at this moment: `Now`
    host.metrics.history(None, None, 900)           all calls of the last quarter of an hour: `Series`
    host.metrics.history("Iris", None, 900)         those of every version of a service
    host.metrics.history("Iris", "1.0", 86_400)     those of one version, of a day

A `Series` has a point every 5 seconds if a quarter of an hour or less is asked for, else every 5 minutes, a day at the
most; it begins with the server, and ends with the last step of time that is over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from time import monotonic, time

from mlhost.errors import Invalid, NotFound
from mlhost.metrics.recent import COARSE_EVERY, COARSE_STEPS, FINE_STEPS, STEP_SECONDS, Sum, Track
from mlhost.metrics.tally import Meter, Timings, quantile

Version = tuple[str, str]  # name and version of a service
Answer = tuple[str, str, int]  # method and route of a request, status of the answer; "-" twice where there is no route

MILLISECONDS = 1000.0  # in a second
LOOK_SECONDS = 1.0  # between looks at how late the event loop is; a step has a whole number of them


@dataclass(slots=True)
class Series:
    """How calls went, step after step; the lists are equally long, None where nothing was called."""

    step_seconds: int
    times: list[float] = field(default_factory=list)  # ends of the steps, seconds since the epoch, UTC
    requests: list[float] = field(default_factory=list)  # a second, refused and failed ones among them
    errors: list[float] = field(default_factory=list)  # a second: refused, or the code failed
    p50_ms: list[float | None] = field(default_factory=list)  # what half of the answers took, waiting included
    p95_ms: list[float | None] = field(default_factory=list)
    p99_ms: list[float | None] = field(default_factory=list)
    queue_ms: list[float | None] = field(default_factory=list)  # what a call waited for a worker, on the average
    restarts: list[int] = field(default_factory=list)  # workers that died or were replaced, in the whole step


@dataclass(frozen=True, slots=True)
class Now:
    """Totals at one moment; what is counted is counted since the server started."""

    uptime_seconds: float
    requests: int  # calls of services; records of batches are not among them
    errors: int  # of these, refused ones and those whose code failed
    sessions: int  # that are open
    workers: int  # of sessions and services, and those in reserve
    batches: int  # that run
    memory_bytes: int  # of the server process alone, resident; 0 where the system does not tell


@dataclass(frozen=True, slots=True)
class Gauges:
    """Where to read what is not counted here; reading changes nothing."""

    sessions: Callable[[], int]
    workers: Callable[[], int]
    batches: Callable[[], int]
    memory_bytes: Callable[[], int]


class Metrics:
    """The meters of one server's versions, and the history of what they count.

    `watch` also looks, once a second, how late the event loop is.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.unknown = 0  # calls of services that there are none of
        self.answers: Counter[Answer] = Counter()
        self.lateness = Timings()  # of the event loop, when it was looked at: something held it up
        self._clock = clock
        self._started = clock()
        self._first_step = self._step = int(self._started // STEP_SECONDS)  # the step that runs now
        self._meters: dict[Version, Meter] = {}
        self._tracks: dict[Version, Track] = {}  # of versions that were called
        self._all = Track()
        self._total = Sum()  # what is in steps of any version, also of those that are no more
        self._deleted = Sum()  # what was counted of those
        self._gauges = Gauges(int, int, int, int)
        self._watching: asyncio.Task[None] | None = None

    def watch(self, gauges: Gauges) -> None:
        """From now on keep a history, until `close`."""
        self._gauges = gauges
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Keep no further history."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    # --- what is counted -------------------------------------------------------------------------------------------

    def meter(self, name: str, version: str) -> Meter:
        """The meter of a version, the same one as long as the version is not deleted."""
        return self._meters.setdefault((name, version), Meter())

    def forget(self, name: str, version: str) -> None:
        """A version was deleted: its calls remain in the totals only."""
        key = name, version
        if (meter := self._meters.pop(key, None)) is not None:
            counted = Sum.of(meter)
            self._deleted += counted
            self._total += counted - self._tracks.pop(key, Track()).fine.counted

    def now(self) -> Now:
        """How it is now."""
        gauges = self._gauges
        return Now(
            uptime_seconds=self._clock() - self._started,
            requests=self._deleted.requests + sum(meter.count for meter in self._meters.values()),
            errors=self._deleted.errors + sum(meter.errors for meter in self._meters.values()),
            sessions=gauges.sessions(),
            workers=gauges.workers(),
            batches=gauges.batches(),
            memory_bytes=gauges.memory_bytes(),
        )

    # --- the history -----------------------------------------------------------------------------------------------

    def history(self, service: str | None = None, version: str | None = None, seconds: float = 900) -> Series:
        """How the calls of a version went lately, of all versions of a service, or of all services.

        NotFound if there is no such version, Invalid if there can be no such history.
        """
        if seconds <= 0:
            raise Invalid("seconds: must be more than 0", field="seconds")
        tracks = self._tracks_of(service, version)
        is_coarse = seconds > FINE_STEPS * STEP_SECONDS
        every, most = (COARSE_EVERY, COARSE_STEPS) if is_coarse else (1, FINE_STEPS)
        end = self._step // every  # the step that runs
        first = max(end - min(ceil(seconds / (STEP_SECONDS * every)), most), self._first_step // every)
        sums = {step: Sum() for step in range(first, end)}
        for track in tracks:
            (track.coarse if is_coarse else track.fine).put_into(sums)
        return _series(sums, STEP_SECONDS * every, since_epoch=time() - self._clock())

    def end_step(self) -> None:
        """Keep what was counted since the last call of this, as the step that ends now."""
        step = self._step
        self._step = max(step + 1, int(self._clock() // STEP_SECONDS))
        for key, meter in self._meters.items():
            track = self._tracks.get(key)
            if track is None and meter.is_used:
                track = self._tracks[key] = Track()
            if track is not None and track.is_behind(meter):
                self._total += track.fine.end(step, Sum.of(meter))
        self._all.fine.end(step, self._total)
        if (coarse_step := step // COARSE_EVERY) != self._step // COARSE_EVERY:
            for track in (self._all, *self._tracks.values()):
                track.coarse.end(coarse_step, track.fine.counted)

    def _tracks_of(self, service: str | None, version: str | None) -> list[Track]:
        if service is None:
            if version is not None:
                raise Invalid("service: a version is one of a service; name that as well", field="service")
            return [self._all]
        keys = [key for key in self._meters if key[0] == service and version in (None, key[1])]
        if not keys:
            raise NotFound(f"There is no service {service!r}" + (f" with version {version!r}." if version else "."))
        return [self._tracks[key] for key in keys if key in self._tracks]

    async def _watch(self) -> None:
        due = 0.0
        while True:
            due = max(due + LOOK_SECONDS, ceil(self._clock() / LOOK_SECONDS) * LOOK_SECONDS)
            await asyncio.sleep(due - self._clock())
            self.lateness.add(max(0.0, self._clock() - due))
            if due >= (self._step + 1) * STEP_SECONDS:
                self.end_step()


def _series(sums: dict[int, Sum], step_seconds: int, since_epoch: float) -> Series:
    series = Series(step_seconds)
    for step, one in sums.items():
        series.times.append(round((step + 1) * step_seconds + since_epoch, 3))
        series.requests.append(one.requests / step_seconds)
        series.errors.append(one.errors / step_seconds)
        for share, quantiles in ((0.5, series.p50_ms), (0.95, series.p95_ms), (0.99, series.p99_ms)):
            quantiles.append(_milliseconds(quantile(one.buckets, share)))
        answered = sum(one.buckets)
        series.queue_ms.append(_milliseconds(one.queue_seconds / answered if answered else None))
        series.restarts.append(one.restarts)
    return series


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * MILLISECONDS, 3)
