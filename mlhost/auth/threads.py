"""Threads for what blocks while somebody signs in: so many at once, and not too many who wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from mlhost.errors import Throttled

MAX_WAITING = 20  # logins at work or in the queue before the next is told to come back

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Threads:
    """A bounded number of threads; their names begin with `name`."""

    def __init__(self, count: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._waiting = 0

    async def run(self, function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        """What the function gives; Throttled when too many wait. Cancelled before its turn, it never runs."""
        if self._waiting >= MAX_WAITING:
            raise Throttled("Too many logins at once; try again in a few seconds.", retry_after_seconds=5)
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._threads.submit(function, *args, **kwargs))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the threads; one that is at work does so afterwards."""
        self._threads.shutdown(wait=False, cancel_futures=True)
