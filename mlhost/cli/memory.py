"""What a process that does nothing but serve may do with its memory: give some back, and not go over all of it."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Mapping
from contextlib import suppress

M_TRIM_THRESHOLD, M_ARENA_MAX = -1, -8  # glibc's malloc.h
TRIM_BYTES = 1 << 19  # free at the end of the heap are returned; were it fewer, every call would return and ask anew
OLDEST = 2  # the generation with which all others are collected
MANY_MODULES = 50  # imported since what was there was kept out of collections


def give_back() -> None:
    """Have glibc return what is freed, and threads share one heap: some megabytes less stay after a large request."""
    with suppress(OSError, AttributeError):  # another C library: it has no such knobs
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)


def keep_out_of_collections() -> None:
    """Have no collection of garbage go over what is there by now, nor over libraries that models bring along later.

    With scikit-learn in the process a full one takes 90 ms, in which nobody is answered.
    """
    seen = 0

    def on_collection(phase: str, told: Mapping[str, int]) -> None:
        nonlocal seen
        if phase != "stop" or told["generation"] != OLDEST:
            return
        if len(sys.modules) >= seen + MANY_MODULES or not gc.get_freeze_count():  # none: a workspace was closed
            seen = len(sys.modules)
            gc.freeze()  # right after a full collection there is no garbage that would stay for good

    gc.callbacks.append(on_collection)
    gc.collect()
