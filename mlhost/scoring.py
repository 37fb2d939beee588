"""The hot path: one call of a published version.

Raw body bytes go to a warm worker, raw answer bytes come back; nothing here parses them, and nothing here can reach
the store. A compiled model is asked first, in this process. Large bodies and answers are parcels, files of the host's
own, which whoever has them closes.
"""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass, field
from time import perf_counter

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
        if isinstance(body, bytes):
            if ready.compiled is not None and (answer := await ready.compiled.score(body)) is not None:
                meter.compiled.answer(perf_counter() - asked)
                return answer
            if ready.together is not None and (answer := await ready.together.score(body)) is not None:
                meter.calls.answer(perf_counter() - asked)
                return answer
            return await _ride(ready, body, asked)
        async with ready.pool.lease() as worker:
            meter.queue.add(perf_counter() - asked)
            return await score_on(worker, body, meter.calls, asked)
    except WorkerLost as lost:
        meter.calls.refuse(lost)
        raise Unavailable(f"The service's worker was lost during this call: {lost}.") from lost
    except Exception as fault:
        meter.calls.refuse(fault)
        raise


async def _ride(ready: Ready, body: bytes, asked: float) -> bytes | Parcel:
    """One call, which may go to a worker together with others."""
    call = Call(program.score, body)
    answer: bytes | Parcel | CodeFailed
    try:
        answer = await ready.pool.run(call)
    except CodeFailed as fault:
        answer = fault
    finally:
        if call.sent:
            ready.meter.queue.add(call.sent - asked)
    return _told(answer, call.console, ready.meter.calls, asked)


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
        failure = CODE_FAILED if _begin(answer) == UNSUCCESSFUL else ""
    else:
        answer = failed(came_of_it.message)
        failure = TIMED_OUT if came_of_it.details.get("is_stopped") else CODE_FAILED
    tally.answer(perf_counter() - since, failure)
    return _with_console(answer, printed) if printed else answer


def _begin(answer: Parcel) -> bytes:
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
