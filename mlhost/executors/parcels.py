"""The host's side of parcels: chunks out of a worker and into one, so that the server never holds all of them.

Everything goes through calls, so it is the same in every placement.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Concatenate, Protocol

from mlhost.errors import CodeFailed, MlhostError
from mlhost.executors import Given, Result, Worker
from mlhost.runtime.freeze import thaw
from mlhost.runtime.parcels import CHUNK_BYTES, MAX_ANSWER_BYTES, SMALL_BYTES, Kept, Parcel, drop, put_chunk, read_chunk
from mlhost.runtime.workspace import Workspace

_numbers = itertools.count(1)


class Call(Protocol):
    """`Worker.call`, or what stands for it."""

    async def __call__(
        self,
        function: Callable[Concatenate[Workspace, Given], Result],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Result:
        """Run `function(workspace, *args)` where the workspace lives."""


@asynccontextmanager
async def lent(call: Call) -> AsyncIterator[int]:
    """The number of a new parcel, which is dropped however the block ends."""
    number = next(_numbers)
    try:
        yield number
    finally:
        await forget(call, number)


async def forget(call: Call, number: int) -> None:
    """Drop a parcel, if there is one of that number."""
    # Shielded: who is cancelled once more meanwhile must not leave the parcel behind.
    await asyncio.shield(asyncio.get_running_loop().create_task(_drop(call, number)))


async def chunks(call: Call, number: int, size: int) -> AsyncIterator[bytes]:
    """The `size` bytes of a parcel, a chunk at a time."""
    for position in range(0, size, CHUNK_BYTES):
        chunk = await call(read_chunk, number, position)
        if len(chunk) != min(CHUNK_BYTES, size - position):
            raise CodeFailed("The worker did not give the bytes it had announced.")
        yield chunk


async def thaw_into(call: Call, frozen: AsyncIterable[bytes]) -> None:
    """Send a frozen workspace into a worker and open it there: not before `frozen`, which verifies it, has ended."""
    await open_in(call, frozen, thaw)


async def open_in(call: Call, content: AsyncIterable[bytes], opener: Callable[[Workspace, int], Result]) -> Result:
    """Send bytes into a worker and then have `opener` open the parcel of that number there; what it returns."""
    async with lent(call) as number:
        async for chunk in content:
            await call(put_chunk, number, chunk)
        return await call(opener, number)


async def fetch(worker: Worker, kept: Kept) -> Parcel:
    """An answer that a worker has kept, as a parcel of the host's own; however this ends, it is not kept any longer.

    CodeFailed if the worker does not give it, Unavailable if there is no room for it.
    """
    with contextlib.ExitStack() as stack:
        try:
            if not SMALL_BYTES < kept.size <= MAX_ANSWER_BYTES:  # what a worker says may be anything
                raise CodeFailed(f"An answer that is kept has not {kept.size} bytes.")
            fetched = stack.enter_context(Parcel(worker.folder.parent, small=False))
            async for chunk in chunks(worker.call, kept.parcel, kept.size):
                await asyncio.to_thread(fetched.write, chunk)
            await asyncio.to_thread(fetched.flush)
        finally:
            await forget(worker.call, kept.parcel)
        stack.pop_all()
    return fetched


async def pieces(content: bytes | Parcel) -> AsyncIterator[bytes]:
    """All bytes of what the host has, a chunk at a time."""
    if isinstance(content, bytes):
        for position in range(0, len(content), CHUNK_BYTES):
            yield content[position : position + CHUNK_BYTES]
        return
    content.seek(0)
    while chunk := await asyncio.to_thread(content.read, CHUNK_BYTES):
        yield chunk


@contextlib.contextmanager
def held(content: bytes | Parcel) -> Iterator[int]:
    """How many bytes there are for the block, after which a parcel is closed."""
    if isinstance(content, bytes):
        yield len(content)
    else:
        with content:
            yield content.size


async def whole(content: bytes | Parcel) -> bytes:
    """All of it at once, where there is no other way; a parcel is closed."""
    if isinstance(content, bytes):
        return content
    with content:
        content.seek(0)
        return await asyncio.to_thread(content.read)


async def _drop(call: Call, number: int) -> None:
    with contextlib.suppress(MlhostError):  # the worker is gone, and the parcel with it
        await call(drop, number)
