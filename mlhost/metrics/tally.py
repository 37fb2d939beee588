"""Counters of calls: how many, how they failed, how long they took. They only go up, and are what the hot path writes.

Times are counted in buckets ten to a decade, so that a quantile read from them is wrong by an eighth at the most.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from mlhost.errors import MlhostError

PREFERRED = ("1", "1.25", "1.6", "2", "2.5", "3.15", "4", "5", "6.3", "8")  # ISO 3, series R10
DECADES = range(-5, 2)  # from what a compiled model takes to longer than `limits.score_seconds`
# Upper bounds of the buckets in seconds, each included; what took longer is in one more bucket.
BOUNDS = (*(float(f"{number}e{decade}") for decade in DECADES for number in PREFERRED), 100.0)

# Kinds of failed answers that are no error of ours; the others are the codes of `mlhost.errors`.
CODE_FAILED = "code_failed"
TIMED_OUT = "timeout"


class Timings:
    """How long many calls took."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets: list[int] = []  # made by the first call: most services of many are hardly called
        self.seconds = 0.0  # all together

    def add(self, seconds: float) -> None:
        """One call."""
        if not self.buckets:
            self.buckets = [0] * (len(BOUNDS) + 1)
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Tally:
    """Calls of one kind: those answered, with their times, and those refused."""

    __slots__ = ("count", "errors", "times")

    def __init__(self) -> None:
        self.count = 0
        self.errors: Counter[str] = Counter()  # by kind
        self.times = Timings()  # of calls that had an answer, also one that says that the code failed

    def answer(self, seconds: float, kind: str = "") -> None:
        """A call was answered; `kind` says how its code failed, if it did."""
        self.count += 1
        if kind:
            self.errors[kind] += 1
        self.times.add(seconds)

    def refuse(self, fault: Exception) -> None:
        """A call was not answered but refused, or failed with a fault of ours."""
        self.count += 1
        self.errors[fault.code if isinstance(fault, MlhostError) else MlhostError.code] += 1


class Meter:
    """All that is counted of one version; a patch of the version leaves it as it is."""

    __slots__ = ("calls", "compiled", "queue", "records", "restarts")

    def __init__(self) -> None:
        self.calls = Tally()  # by workers
        self.compiled = Tally()  # by a compiled model, in the server itself
        self.records = Tally()  # of batches, without what they waited for a worker
        self.queue = Timings()  # until a call had a worker
        self.restarts: Counter[str] = Counter()  # workers that died or were replaced, by why

    @property
    def requests(self) -> tuple[Tally, Tally]:
        """What counts as a request of the service."""
        return self.calls, self.compiled

    @property
    def count(self) -> int:
        """Requests until now."""
        return self.calls.count + self.compiled.count

    @property
    def is_used(self) -> bool:
        """Whether there is anything for a history."""
        return bool(self.calls.count or self.compiled.count or self.restarts)

    @property
    def errors(self) -> int:
        """How many of them failed."""
        return self.calls.errors.total() + self.compiled.errors.total()


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """Seconds within which so large a share of the calls were answered; None if there were none.

    Within a bucket it is where a straight line puts it, as Prometheus' histogram_quantile does.
    """
    total = sum(buckets)
    if not total:
        return None
    wanted = share * total
    index, reached = next((index, reached) for index, reached in enumerate(accumulate(buckets)) if reached >= wanted)
    if index == len(BOUNDS):
        return BOUNDS[-1]
    lower = BOUNDS[index - 1] if index else 0.0
    return BOUNDS[index] - (BOUNDS[index] - lower) * (reached - wanted) / buckets[index]
