"""What the caller is told of a function that raised where its workspace lives."""

from __future__ import annotations

import traceback

from mlhost.errors import CodeFailed, MlhostError


def told(fault: BaseException) -> MlhostError:
    """An error of ours as it is, an interrupt in words, anything else by type, message and trace."""
    if isinstance(fault, MlhostError):
        return fault
    if isinstance(fault, KeyboardInterrupt):
        return CodeFailed("The call was interrupted.")
    return MlhostError(f"{type(fault).__name__}: {fault}", trace="".join(traceback.format_exception(fault)))
