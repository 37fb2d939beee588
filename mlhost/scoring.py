"""The hot path: one call of a published version.

Raw body bytes go to a warm worker, raw answer bytes come back; nothing here parses them, and nothing here can reach
the store. A compiled model is asked first, in this process.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlhost.errors import CodeFailed, Invalid, MlhostError, Unavailable, WorkerLost
from mlhost.executors import Worker
from mlhost.executors.pool import Pool
from mlhost.executors.trains import Call
from mlhost.inprocess import InProcess
from mlhost.params import jsontext
from mlhost.runtime import program

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


async def score(ready: Ready, body: bytes) -> bytes:
    """One call: a JSON object of inputs -> a WebServiceResult as JSON (contract section 1.3).

    Code that fails or takes too long is an answer with `success` false. Invalid if the body does not fit the inputs,
    Busy when too many wait, Unavailable if the worker died of the call (another one takes its place).
    """
    if ready.compiled is not None and (compiled := await ready.compiled.score(body)) is not None:
        return compiled
    call = Call(program.score, body)
    try:
        answer: bytes = await ready.pool.run(call)
    except CodeFailed as failure:
        answer = failed(failure.message)
    except WorkerLost as lost:
        raise Unavailable(f"The service's worker was lost during this call: {lost}.") from lost
    return _with_console(answer, call.console)


async def score_on(worker: Worker, body: bytes) -> bytes:
    """One call on a worker the caller has leased; Invalid as in `score`, WorkerLost if it died of the call."""
    worker.console.clear()  # a thread of an earlier call may have gone on printing
    try:
        answer = await worker.call(program.score, body)
    except CodeFailed as failure:
        answer = failed(failure.message)
    except (Invalid, WorkerLost):  # the caller's mistake, and the worker is as good as before; or it is gone
        raise
    except MlhostError:  # the code broke what answers are made with: the next call gets another worker
        await worker.close(force=True)
        raise
    return _with_console(answer, worker.console.take())


def _with_console(answer: bytes, printed: str) -> bytes:
    return answer.removesuffix(NO_CONSOLE) + jsontext.render(printed) + b"}" if printed else answer


def failed(message: str) -> bytes:
    """The answer of a call that came to nothing."""
    return FAILED % jsontext.render(message)
