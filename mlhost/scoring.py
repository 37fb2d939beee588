"""The hot path: one call of a published version.

Raw body bytes go to a warm worker, raw answer bytes come back; nothing here parses them, and nothing here can reach
the store. A compiled model is asked first, in this process.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlhost.errors import CodeFailed, Invalid, MlhostError, Unavailable, WorkerLost
from mlhost.executors import Worker, parcels
from mlhost.executors.pool import Pool
from mlhost.executors.together import Together
from mlhost.inprocess import InProcess
from mlhost.params import jsontext
from mlhost.runtime import program
from mlhost.runtime.parcels import Parcel

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


async def score(ready: Ready, body: bytes | Parcel) -> bytes:
    """One call: a JSON object of inputs -> a WebServiceResult as JSON (contract section 1.3).

    A body in a parcel goes to a worker in chunks, so that the server never holds all of it.

    Code that fails or takes too long is an answer with `success` false. Invalid if the body does not fit the inputs,
    Busy when too many wait, Unavailable if the worker died of the call (another one takes its place).
    """
    quicker = ready.compiled or ready.together
    if quicker is not None and isinstance(body, bytes) and (quick := await quicker.score(body)) is not None:
        return quick
    async with ready.pool.lease() as worker:
        try:
            return await score_on(worker, body)
        except WorkerLost as lost:
            raise Unavailable(f"The service's worker was lost during this call: {lost}.") from lost


async def score_on(worker: Worker, body: bytes | Parcel) -> bytes:
    """One call on a worker the caller has leased; Invalid as in `score`, WorkerLost if it died of the call."""
    worker.console.clear()  # a thread of an earlier call may have gone on printing
    try:
        if isinstance(body, bytes):
            answer = await worker.call(program.score, body)
        else:
            answer = await parcels.open_in(worker.call, parcels.pieces(body), program.score_parcel)
    except CodeFailed as failure:
        answer = failed(failure.message)
    except (Invalid, WorkerLost):  # the caller's mistake, and the worker is as good as before; or it is gone
        raise
    except MlhostError:  # the code broke what answers are made with: the next call gets another worker
        await worker.close(force=True)
        raise
    console = worker.console.take()
    if console:
        return answer.removesuffix(NO_CONSOLE) + jsontext.render(console) + b"}"
    return answer


def failed(message: str) -> bytes:
    """The answer of a call that came to nothing."""
    return FAILED % jsontext.render(message)
