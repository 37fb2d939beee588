"""Moving a workspace from one worker to another."""

from __future__ import annotations

from mlhost.executors import Worker


async def move(source: Worker, target: Worker) -> None:
    """Everything of one workspace into another, empty one."""
    raise NotImplementedError
