"""Moving a workspace from one worker to another of the same machine."""

from __future__ import annotations

from mlhost.executors import Worker
from mlhost.executors.parcels import chunks, lent
from mlhost.runtime import moving
from mlhost.runtime.parcels import put_chunk


async def move(source: Worker, target: Worker) -> None:
    """Everything of one workspace into another, empty one; CodeFailed says why it cannot, and then it is as it was."""
    async with lent(source.call) as there, lent(target.call) as here:
        size = await source.call(moving.pack, there)
        async for chunk in chunks(source.call, there, size):
            await target.call(put_chunk, here, chunk)
        await target.call(moving.unpack, here, await source.call(moving.whereabouts))
