"""The hot path: one call of a published version.

Raw body bytes go to a warm worker, raw answer bytes come back; nothing here parses them, and nothing here can reach
the store. A compiled model is asked first, in this process. Large bodies and answers are parcels, files of the host's
own, which whoever has them closes.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

from mlhost.errors import CodeFailed, Invalid, MlhostError, Unavailable, WorkerLost
from mlhost.executors import Worker, parcels
from mlhost.executors.pool import Pool
from mlhost.executors.together import Together
from mlhost.executors.trains import Call
from mlhost.inprocess import InProcess
from mlhost.metrics.tally import CODE_FAILED, TIMED_OUT, Meter, Tally
from mlhost.params import jsontext
from mlhost.runtime import program
from mlhost.runtime.parcels import ANSWER, Parcel

UNSUCCESSFUL = b'{"success":false'  # how an answer begins that says that the code failed
NO_CONSOLE = b'""}'  # how every answer of `program.score` ends: an empty consoleOutput
FAILED = (
    b'{"success":false,"errorMessage":%b,"changedFiles":[],"outputFiles":{},"outputParameters":{},"consoleOutput":""}'
)


@dataclass(frozen=True, slots=True)
class Ready:
    """A published version that can be called."""

    name: str
    version: str
    pool: Pool
    edition: str = ""  # stands for what it runs: another one after a patch of its code or snapshot
    compiled: InProcess | None = None  # answers what it can in place of a worker
    together: Together | None = None  # answers those who wait for one, if there is no compiled model
    meter: Meter = field(default_factory=Meter)


async def score(ready: Ready, body: bytes | Parcel) -> bytes | Parcel:
    """One call: a JSON object of inputs -> a WebServiceResult as JSON (contract section 1.3).

    A body in a parcel goes to a worker in chunks, and a large answer comes in chunks, so that the server never holds
    all of either.

    Code that fails or takes too long is an answer with `success` false. Invalid if the body does not fit the inputs,
    Busy when too many wait, Unavailable if the worker died of the call (another one takes its place) or the disk has
    no room for the answer.
    """
    asked, meter = perf_counter(), ready.meter
    try:
        if not isinstance(body, bytes):
            async with ready.pool.lease() as worker:
                meter.queue.add(perf_counter() - asked)
                return await score_on(worker, body, meter.calls, asked)
        if ready.compiled is not None and (answer := await ready.compiled.score(body)) is not None:
            meter.compiled.answer(perf_counter() - asked)
            return answer
        if ready.together is not None and (answer := await ready.together.score(body)) is not None:
            meter.calls.answer(perf_counter() - asked)
            return answer
    except Exception as fault:
        raise _refusal(fault, meter) from fault
    return await _ride(ready, body)


async def _ride(ready: Ready, body: bytes) -> bytes | Parcel:
    reply: asyncio.Future[bytes | Parcel] = asyncio.get_running_loop().create_future()

    def on_answer(told: bytes | Parcel | Exception) -> None:
        if reply.cancelled():  # in this very moment
            _let_go(told)
        elif isinstance(told, Exception):
            reply.set_exception(told)
        else:
            reply.set_result(told)

    call = _Ride(ready.meter, body, on_answer)
    call.start(ready.pool)
    try:
        return await reply
    except asyncio.CancelledError:
        ready.pool.abandon(call)
        if reply.done() and not reply.cancelled() and reply.exception() is None:
            _let_go(reply.result())
        raise


def _let_go(told: bytes | Parcel | Exception) -> None:
    if isinstance(told, Parcel):
        told.close()


OnAnswer = Callable[[bytes | Parcel | Exception], None]


def begin(ready: Ready, body: bytes, on_answer: OnAnswer) -> None:
    """One call as by `score`, of a version without `together`: `on_answer` is told the answer or the error, once.

    That may be before this returns.
    """
    if ready.compiled is None:
        _Ride(ready.meter, body, on_answer).start(ready.pool)
        return
    try:
        ready.compiled.begin(body, partial(_on_compiled, ready, body, perf_counter(), on_answer))
    except Exception as fault:  # the body could not even be read, and nobody has been told anything
        on_answer(_refusal(fault, ready.meter))


def _on_compiled(ready: Ready, body: bytes, asked: float, on_answer: OnAnswer, answer: bytes | None) -> None:
    if answer is None:
        _Ride(ready.meter, body, on_answer).start(ready.pool)
    else:
        ready.meter.compiled.answer(perf_counter() - asked)
        on_answer(answer)


class _Ride(Call):
    """A call on its way to a worker, perhaps together with others."""

    __slots__ = ("_meter", "_on_answer")

    def __init__(self, meter: Meter, body: bytes, on_answer: OnAnswer) -> None:
        super().__init__(program.score, body)
        self._meter = meter
        self._on_answer = on_answer

    def start(self, pool: Pool) -> None:
        """Send it; who is refused is told as well."""
        try:
            pool.start(self)
        except Exception as fault:
            self.answer(fault, None)

    def _tell(self, error: Exception | None, result: Any) -> None:
        meter = self._meter
        if self.sent:
            meter.queue.add(self.sent - self.asked)
        if error is None or isinstance(error, CodeFailed):
            try:
                told = _told(error or result, self.console, meter.calls, self.asked)
            except Unavailable as fault:  # there is no room for what it printed
                error = fault
            else:
                self._on_answer(told)
                return
        self._on_answer(_refusal(error, meter))


def _refusal(fault: Exception, meter: Meter) -> Exception:
    """What the caller is told in place of an answer, which is counted."""
    meter.calls.refuse(fault)
    if isinstance(fault, WorkerLost):
        return Unavailable(f"The service's worker was lost during this call: {fault}.")
    return fault


async def score_on(worker: Worker, body: bytes | Parcel, tally: Tally, since: float) -> bytes | Parcel:
    """One call on a worker the caller has leased; Invalid as in `score`, WorkerLost if it died of the call.

    An answer is counted, with the time `since` then (perf_counter); what is raised is for the caller to count.
    """
    worker.console.clear()  # a thread of an earlier call may have gone on printing
    answer: bytes | Parcel | CodeFailed
    try:
        answer = await _answered(worker, body)
    except CodeFailed as fault:
        answer = fault
    except (Invalid, Unavailable, WorkerLost):  # the caller's mistake, a full disk: the worker is as good as before
        raise
    except MlhostError:  # the code broke what answers are made with: the next call gets another worker
        await worker.close(force=True)
        raise
    return _told(answer, worker.console.take(), tally, since)


async def _answered(worker: Worker, body: bytes | Parcel) -> bytes | Parcel:
    """What a call comes to; a large answer is fetched, and never left with the worker."""
    try:
        if isinstance(body, bytes):
            answer = await worker.call(program.score, body)
        else:
            answer = await parcels.open_in(worker.call, parcels.pieces(body), program.score_parcel)
    except (asyncio.CancelledError, CodeFailed):  # it may have been kept just before the call was stopped
        await parcels.forget(worker.call, ANSWER)
        raise
    return answer if isinstance(answer, bytes) else await parcels.fetch(worker, answer)


def _told(came_of_it: bytes | Parcel | CodeFailed, printed: str, tally: Tally, since: float) -> bytes | Parcel:
    """The answer to a call, which is counted."""
    answer: bytes | Parcel
    if isinstance(came_of_it, bytes):
        answer = came_of_it
        failure = CODE_FAILED if answer.startswith(UNSUCCESSFUL) else ""
    elif isinstance(came_of_it, Parcel):
        answer = came_of_it
        failure = CODE_FAILED if _opening(answer) == UNSUCCESSFUL else ""
    else:
        answer = failed(came_of_it.message)
        failure = TIMED_OUT if came_of_it.details.get("is_stopped") else CODE_FAILED
    if printed:
        answer = _with_console(answer, printed)
    tally.answer(perf_counter() - since, failure)
    return answer


def _opening(answer: Parcel) -> bytes:
    answer.seek(0)
    return answer.read(len(UNSUCCESSFUL))


def _with_console(answer: bytes | Parcel, printed: str) -> bytes | Parcel:
    """The answer with its last property filled in."""
    end = jsontext.render(printed) + b"}"
    if isinstance(answer, bytes):
        return answer.removesuffix(NO_CONSOLE) + end
    try:
        answer.seek(-len(NO_CONSOLE), io.SEEK_END)
        answer.write(end)
        answer.flush()
    except Unavailable:  # the disk is full
        answer.close()
        raise
    return answer


def failed(message: str) -> bytes:
    """The answer of a call that came to nothing."""
    return FAILED % jsontext.render(message)
