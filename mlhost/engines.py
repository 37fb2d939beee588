"""Engines: what answers the calls of a realtime version, a compiled model in the server or the model in its workers.

A model is compiled and compared in a worker of its own, since that opens a pickle; what comes out is trusted no more
than that, and examined in another worker which holds nothing else. Only then does the server run it. Whatever goes
wrong on the way leaves the version with its workers, and the reason is told.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from mlhost.errors import MlhostError
from mlhost.executors import Worker, parcels
from mlhost.inprocess import InProcess
from mlhost.runtime.compiled import Compiled, Plan
from mlhost.runtime.compiling import INSTALL, compile_model
from mlhost.runtime.examining import MAX_BYTES, examine
from mlhost.runtime.joining import pays_together
from mlhost.runtime.parcels import CHUNK_BYTES, put_chunk
from mlhost.store import Store
from mlhost.store.blobs import Blobs, SealedBlob

log = logging.getLogger(__name__)

COMPILED: Final = "onnx"
WORKERS: Final = "worker"
SECONDS = 60.0  # that compiling may take, and that examining may
NEEDED = ("numpy", "onnxruntime")  # in the server; what compiling needs the workers have or say that they lack
SAME = "select compiled, definition from services where blob = ? and compiled is not null limit 1"

Start = Callable[[], Awaitable[Worker]]


@dataclass(frozen=True, slots=True)
class Engine:
    """What answers, COMPILED or WORKERS, and why; `plan` is the compiled model's.

    `joins` says whether workers are sent the calls that wait as one.
    """

    name: Literal["onnx", "worker"]
    why: str
    plan: Plan | None = None
    joins: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """An engine with what there is of a compiled model: the blob to be kept, and the model opened."""

    engine: Engine | None = None  # None: as it was
    blob: SealedBlob | None = None
    model: InProcess | None = None


class Engines:
    """Compiles models, and opens them again after a restart."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs

    @asynccontextmanager
    async def make(self, model: str, with_model: Start, empty: Start) -> AsyncIterator[Made]:
        """The engine for the model in that blob; inside the block the compiled one is held in the store.

        `with_model` starts a worker that has opened the model, `empty` one that has not; each is asked for once.
        """
        made = await self._same(model) or await _made(with_model, empty)
        if isinstance(made, Engine):
            yield Made(made)
            return
        engine, content = made
        opened = await _opened(content, engine)
        if isinstance(opened, Engine):
            yield Made(opened)
            return
        async with self._blobs.receive(_pieces(content)) as blob:
            await self._blobs.write_ahead(blob)
            yield Made(engine, blob, opened)

    async def open(self, compiled: str, engine: Engine) -> InProcess | None:
        """The compiled model in that blob; None, and a line in the log, if it does not open any more."""
        try:
            opened = await _opened(b"".join([chunk async for chunk in self._blobs.read(compiled)]), engine)
        except MlhostError as fault:
            opened = Engine(WORKERS, fault.message)
        if isinstance(opened, InProcess):
            return opened
        log.warning("a compiled model does not open, and workers answer in its place: %s", opened.why)
        return None

    async def _same(self, model: str) -> tuple[Engine, bytes] | None:
        """What was made of the same model for another version."""
        row = await self._store.read_one(SAME, (model,))
        if row is None:
            return None
        engine = msgspec.json.decode(row["definition"], type=_Defined).engine
        try:
            content = b"".join([chunk async for chunk in self._blobs.read(row["compiled"])])
        except MlhostError:  # damaged, or gone with the other version in this moment
            return None
        return (engine, content) if engine else None


class _Defined(msgspec.Struct):
    engine: Engine | None = None


async def _made(with_model: Start, empty: Start) -> Engine | tuple[Engine, bytes]:
    try:
        found = await _compile(with_model)
        if isinstance(found, Engine):
            return found
        content, plan, why = found
        return await _examine(empty, content, plan, why)
    except MlhostError as fault:  # it took too long, its worker died, or there was no room for one
        return Engine(WORKERS, f"it could not be compiled: {fault.message}")


async def _compile(with_model: Start) -> Engine | tuple[bytes, Plan, str]:
    async with _closing(await with_model()) as worker, parcels.lent(worker.call) as number:
        if any(importlib.util.find_spec(name) is None for name in NEEDED):
            return await _in_workers(worker, f"the server has no onnxruntime: {INSTALL}")
        compilation = await worker.call(compile_model, number)
        plan, why, size = compilation["plan"], compilation["why"], compilation["size"]
        if plan is None:
            return await _in_workers(worker, why)
        if size > MAX_BYTES:
            return await _in_workers(worker, f"compiled, it is larger than {MAX_BYTES >> 20} MiB")
        return b"".join([chunk async for chunk in parcels.chunks(worker.call, number, size)]), plan, why


async def _in_workers(worker: Worker, why: str) -> Engine:
    """The engine of a model that is not compiled, which this worker has opened."""
    if not await worker.call(pays_together):
        return Engine(WORKERS, why)
    return Engine(WORKERS, f"{why}; calls that wait are run together", joins=True)


async def _examine(empty: Start, content: bytes, plan: Plan, why: str) -> Engine | tuple[Engine, bytes]:
    async with _closing(await empty()) as worker, parcels.lent(worker.call) as number:
        async for piece in _pieces(content):
            await worker.call(put_chunk, number, piece)
        examined = await worker.call(examine, number, plan)
    if examined["plan"] is None:
        return Engine(WORKERS, f"compiled, the server does not run it: {examined['why']}")
    return Engine(COMPILED, why, examined["plan"]), content


async def _opened(content: bytes, engine: Engine) -> InProcess | Engine:
    """The model, opened in a thread; or why it is not."""
    if engine.plan is None:
        return engine
    try:
        return InProcess(await asyncio.to_thread(Compiled, content, engine.plan))
    except Exception as fault:  # onnxruntime has no error of its own, and may be another version by now
        return Engine(WORKERS, f"compiled, it does not open: {fault}".partition("\n")[0])


@asynccontextmanager
async def _closing(worker: Worker) -> AsyncIterator[Worker]:
    try:
        yield worker
    finally:
        await worker.close(force=True)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]
