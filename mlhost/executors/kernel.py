"""What Linux offers and Python has no function for: fates of orphans, processors, and privileges given up.

On other systems these functions do nothing or guess, and on an old or restricted kernel what is refused is left out.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from functools import cache

PR_SET_PDEATHSIG = 1  # prctl(2)
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
CAPABILITIES_VERSION = 0x20080522  # capset(2): two words of 32 capabilities each
CAP_SYS_RESOURCE = 24  # capabilities(7): to raise one's own limits


def signal_when_parent_ends(which: signal.Signals) -> None:
    """Have this process sent a signal when the one that forked it ends."""
    _prctl(PR_SET_PDEATHSIG, which)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, however it was started."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def never_starve() -> None:
    """Run before all ordinary processes, where that is permitted (to root, mostly); children run as usual."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def processors() -> int:
    """How many of them this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def give_way() -> None:
    """Never take the processor from another process in the moment of waking up; children neither (sched(7))."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def give_up(capability: int) -> None:
    """Root, too, is without it from now on, and no program that is started brings it, or any other, back."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_CAPBSET_DROP, capability)
    if sys.platform != "linux":
        return
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable of capabilities 0 - 31, then of the others
    if _libc().capget(header, sets) == 0:
        for number in range(3):
            sets[number + 3 * (capability // 32)] &= ~(1 << capability % 32)
        _libc().capset(header, sets)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        _libc().prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0)))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
