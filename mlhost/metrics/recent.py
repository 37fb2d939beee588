"""How calls went lately: what was counted in each step of time, kept short and small, for charts.

A step without a call takes no room, one with calls about a hundred bytes.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping

from mlhost.metrics.tally import BOUNDS, Meter

STEP_SECONDS = 5
FINE_STEPS = 180  # that are kept: a quarter of an hour
COARSE_EVERY = 60  # fine steps in one coarse step: five minutes
COARSE_STEPS = 288  # that are kept: a day

_HEAD = struct.Struct("<IQQdQ")  # number of the step, requests, errors, seconds waited, restarts
_BUCKET = struct.Struct("<BQ")  # number of a bucket that is not empty, calls in it


class Sum:
    """What was counted of one or several versions, added up."""

    __slots__ = ("buckets", "errors", "queue_seconds", "requests", "restarts")

    def __init__(self, requests: int = 0, errors: int = 0, queue_seconds: float = 0.0, restarts: int = 0) -> None:
        self.requests = requests
        self.errors = errors
        self.queue_seconds = queue_seconds
        self.restarts = restarts
        self.buckets = [0] * (len(BOUNDS) + 1)

    @classmethod
    def of(cls, meter: Meter) -> Sum:
        """All that was counted of a version until now."""
        made = cls(meter.count, meter.errors, meter.queue.seconds, meter.restarts.total())
        for tally in meter.requests:
            if tally.times.buckets:
                made.buckets = [a + b for a, b in zip(made.buckets, tally.times.buckets, strict=True)]
        return made

    def __add__(self, other: Sum) -> Sum:
        return self._with(other, 1)

    def __sub__(self, other: Sum) -> Sum:
        return self._with(other, -1)

    def _with(self, other: Sum, sign: int) -> Sum:
        made = Sum(
            self.requests + sign * other.requests,
            self.errors + sign * other.errors,
            self.queue_seconds + sign * other.queue_seconds,
            self.restarts + sign * other.restarts,
        )
        made.buckets = [a + sign * b for a, b in zip(self.buckets, other.buckets, strict=True)]
        return made


class Steps:
    """The latest steps of one length, as bytes, and all that was counted up to the last of them."""

    __slots__ = ("_kept", "counted")

    def __init__(self, most: int) -> None:
        self.counted = Sum()
        self._kept: deque[bytes] = deque(maxlen=most)

    def end(self, number: int, counted: Sum) -> Sum:
        """Keep what was counted in the step that ends, if that is anything; that."""
        step, self.counted = counted - self.counted, counted
        if step.requests or step.restarts:
            self._kept.append(_packed(number, step))
        return step

    def put_into(self, sums: Mapping[int, Sum]) -> None:
        """Add each step to the sum of the same number, if there is one."""
        for packed in self._kept:
            number, requests, errors, queue_seconds, restarts = _HEAD.unpack_from(packed)
            if (one := sums.get(number)) is not None:
                one.requests += requests
                one.errors += errors
                one.queue_seconds += queue_seconds
                one.restarts += restarts
                for index, count in _BUCKET.iter_unpack(packed[_HEAD.size :]):
                    one.buckets[index] += count


class Track:
    """How the calls of one version went, or of all, in fine steps and in coarse ones."""

    __slots__ = ("coarse", "fine")

    def __init__(self) -> None:
        self.fine = Steps(FINE_STEPS)
        self.coarse = Steps(COARSE_STEPS)

    def is_behind(self, meter: Meter) -> bool:
        """Whether the meter has counted something that is in no step yet."""
        counted = self.fine.counted
        return (meter.count, meter.restarts.total()) != (counted.requests, counted.restarts)


def _packed(number: int, step: Sum) -> bytes:
    head = _HEAD.pack(number, step.requests, step.errors, step.queue_seconds, step.restarts)
    return head + b"".join(_BUCKET.pack(index, count) for index, count in enumerate(step.buckets) if count)
