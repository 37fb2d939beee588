"""How a worker died, in words, from what the system says of it."""

from __future__ import annotations

import os
import signal

MEANINGS: dict[int, str] = {
    signal.SIGSEGV: "it crashed with a segmentation fault, most likely in a compiled extension or a foreign pickle",
    signal.SIGABRT: "it aborted",
    signal.SIGBUS: "it crashed with a bus error",
    signal.SIGFPE: "it crashed with an arithmetic fault",
    signal.SIGILL: "it crashed on an illegal instruction",
    signal.SIGXCPU: "it used up its processor time",
    signal.SIGXFSZ: "it wrote a file larger than limits.file_bytes",
}
NEAR_LIMIT = 0.8  # of the memory limit at its peak: then a kill is probably about memory


def describe(status: int, peak_bytes: int, memory_bytes: int) -> str:
    """One sentence from a wait status, the peak resident memory and the memory limit (0 = none), both in bytes."""
    code = os.waitstatus_to_exitcode(status)
    number = -code
    if number == signal.SIGKILL:
        return _killed(peak_bytes, memory_bytes)
    if code >= 0:
        told = f"its code ended the process with exit status {code}"
    else:
        told = f"{MEANINGS.get(number, 'it was ended by a signal')} ({_name(number)})"
    if code and memory_bytes and peak_bytes > NEAR_LIMIT * memory_bytes:
        return f"{told}, {_peak(peak_bytes, memory_bytes)}: probably out of memory"
    return told


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"


def _killed(peak_bytes: int, memory_bytes: int) -> str:
    peak = _peak(peak_bytes, memory_bytes)
    if not memory_bytes:
        return f"it was killed from outside (SIGKILL), {peak}: probably out of memory"
    if peak_bytes > NEAR_LIMIT * memory_bytes:
        return f"it was killed (SIGKILL), {peak}: probably out of memory"
    return f"it was killed from outside (SIGKILL), {peak}"


def _peak(peak_bytes: int, memory_bytes: int) -> str:
    peak = f"peak memory {peak_bytes / 2**30:.2f} GiB"
    return f"{peak} of {memory_bytes / 2**30:.2f} GiB allowed (limits.memory_bytes)" if memory_bytes else peak
