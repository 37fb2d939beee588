"""The canary: one worker kept for nothing but showing that workers can be had and answer."""

from __future__ import annotations

import asyncio
from time import monotonic

from mlhost.config import Placement
from mlhost.errors import MlhostError
from mlhost.executors import Worker
from mlhost.executors.reserve import Reserve
from mlhost.runtime.workspace import ping

DEADLINE_SECONDS = 5.0  # for the round trip; a slow machine is not a sick one
FRESH_SECONDS = 1.0  # how long an answer holds: probes cannot be made into a load


class Canary:
    """Answers "are you ready?" by a round trip through a live worker."""

    def __init__(self, reserve: Reserve, placement: Placement) -> None:
        self._reserve = reserve
        self._placement = placement
        self._worker: Worker | None = None
        self._fault = "no worker has answered yet"
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    async def fault(self) -> str:
        """ "" when a worker answers, else what is wrong, in words."""
        async with self._looking:
            if monotonic() - self._looked_at > FRESH_SECONDS:
                self._fault = await self._look()
                self._looked_at = monotonic()
            return self._fault

    async def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            await self._worker.close(force=True)

    async def _look(self) -> str:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await (await self._living()).call(ping)
        except MlhostError as error:
            return error.message
        except TimeoutError:
            return f"no worker answered within {DEADLINE_SECONDS:g} s"
        return ""

    async def _living(self) -> Worker:
        if self._worker is None or self._worker.lost:
            if self._worker is not None:
                await self._worker.close(force=True)
            self._worker = await self._reserve.open(self._placement, deadline_seconds=DEADLINE_SECONDS)
        return self._worker
