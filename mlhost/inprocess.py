"""Compiled models called in the server's own process, the rows of several calls together where that pays.

Nothing waits for others to come: the calls that arrive in one turn of the event loop are run in the next one. Nothing
here can reach the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from mlhost.runtime.compiled import Columns, Compiled

if TYPE_CHECKING:
    import numpy as np

    Call = tuple["np.ndarray", asyncio.Future[Columns]]

log = logging.getLogger(__name__)


class InProcess:
    """A compiled model that takes calls."""

    def __init__(self, model: Compiled) -> None:
        self._model = model
        self._waiting: deque[Call] = deque()

    async def score(self, body: bytes) -> bytes | None:
        """The answer to a call, as `scoring.score` gives it; None if a worker has to be asked (see `Compiled`)."""
        model = self._model
        table = model.read(body)
        if table is None:
            return None
        try:
            return model.write(await self._joined(table) if model.is_joined else model.columns(model.predict(table)))
        except Exception:  # onnxruntime has no error of its own
            log.exception("a compiled model failed, and a worker is asked")
            return None

    def _joined(self, table: np.ndarray) -> asyncio.Future[Columns]:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._run)
        call = loop.create_future()
        self._waiting.append((table, call))
        return call

    def _run(self) -> None:
        """Answer those who wait, as many as may be at once; the others in the loop's next turn."""
        calls = self._take()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._run)
        try:
            answers = self._split([table for table, _ in calls])
        except Exception as fault:
            for _, call in calls:
                call.set_exception(fault)
        else:
            for (_, call), answer in zip(calls, answers, strict=True):
                call.set_result(answer)

    def _take(self) -> list[Call]:
        """Calls in the order they came, none whose caller has gone away."""
        taken: list[Call] = []
        rows = 0
        while self._waiting and rows + len(self._waiting[0][0]) <= self._model.rows:
            call = self._waiting.popleft()
            if not call[1].done():
                taken.append(call)
                rows += len(call[0])
        return taken

    def _split(self, tables: list[np.ndarray]) -> list[Columns]:
        """The answers to each of them, of one run over all."""
        import numpy as np

        if not tables:
            return []
        columns = self._model.columns(self._model.predict(np.concatenate(tables)))
        answers = []
        start = 0
        for table in tables:
            end = start + len(table)
            answers.append({title: column[start:end] for title, column in columns.items()})
            start = end
        return answers
