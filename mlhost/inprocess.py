"""Compiled models called in the server's own process, the rows of several calls together where that pays.

Nothing waits for others to come: the calls that arrive in one turn of the event loop are run in the next one. Nothing
here can reach the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlhost.runtime.compiled import Columns, Compiled

if TYPE_CHECKING:
    import numpy as np

OnAnswer = Callable[[bytes | None], None]
Call = tuple["np.ndarray", OnAnswer]

log = logging.getLogger(__name__)


class InProcess:
    """A compiled model that takes calls."""

    def __init__(self, model: Compiled) -> None:
        self._model = model
        self._waiting: deque[Call] = deque()

    async def score(self, body: bytes) -> bytes | None:
        """The answer to a call, as `scoring.score` gives it; None if a worker has to be asked (see `Compiled`)."""
        reply: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.begin(body, lambda answer: None if reply.done() else reply.set_result(answer))
        return await reply

    def begin(self, body: bytes, on_answer: OnAnswer) -> None:
        """A call whose caller is told what `score` gives: at once, or in the loop's next turn."""
        model = self._model
        table = model.read(body)
        if table is None:
            on_answer(None)
        elif model.is_joined:
            if not self._waiting:
                asyncio.get_running_loop().call_soon(self._run)
            self._waiting.append((table, on_answer))
        else:
            self._answer([(table, on_answer)])

    def _run(self) -> None:
        """Answer those who wait, as many as may be at once; the others in the loop's next turn."""
        calls = self._take()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._run)
        self._answer(calls)

    def _take(self) -> list[Call]:
        """Calls in the order they came."""
        taken: list[Call] = []
        rows = 0
        while self._waiting and rows + len(self._waiting[0][0]) <= self._model.rows:
            taken.append(self._waiting.popleft())
            rows += len(taken[-1][0])
        return taken

    def _answer(self, calls: list[Call]) -> None:
        try:
            answers: list[bytes | None] = [*map(self._model.write, self._split([table for table, _ in calls]))]
        except Exception:  # onnxruntime has no error of its own
            log.exception("a compiled model failed, and a worker is asked")
            answers = [None] * len(calls)
        for (_, on_answer), answer in zip(calls, answers, strict=True):
            try:
                on_answer(answer)
            except Exception:  # the others are to be told all the same
                log.exception("an answer could not be passed on")

    def _split(self, tables: list[np.ndarray]) -> list[Columns]:
        """The answers to each of them, of one run over all."""
        import numpy as np

        if len(tables) == 1:
            return [self._model.columns(self._model.predict(tables[0]))]
        columns = self._model.columns(self._model.predict(np.concatenate(tables)))
        answers = []
        start = 0
        for table in tables:
            end = start + len(table)
            answers.append({title: column[start:end] for title, column in columns.items()})
            start = end
        return answers
