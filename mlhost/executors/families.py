"""A worker's family: the worker and every process its code started, wherever that has moved to since.

The template adopts all orphans below it, so nothing leaves its tree by a double fork or a session of its own. Which
worker an orphan came from is told by a mark that processes inherit and can only lower: RLIMIT_LOCKS, which Linux keeps
for every process and has not looked at since 2.4.25. Workers do not adopt orphans themselves: they would have to wait
for them, and could not tell them from children whose exit status the user's code still wants.

All of it comes from /proc. Where there is none, a family is what `killpg` reaches, and nobody counts it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from secrets import randbits

RLIMIT_LOCKS = 10  # getrlimit(2); `resource` has no name for it
MARK_BITS = 62  # a guess hits nobody, and every resource.setrlimit takes it
IS_TOLD = os.path.exists("/proc/self/stat")  # noqa: PTH110 - asked once
LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")  # noqa: PTH110
SWEEP_SECONDS = 1.0  # the longest sweep at a time; what forks faster than it is killed is met again at the next
PAUSE_SECONDS = 0.001  # for killed processes to end
READ_BYTES = 65536


def new_mark() -> int:
    """A mark no other worker has."""
    return randbits(MARK_BITS) | 1


def wear(mark: int) -> None:
    """Mark this process, and with it all it will ever start."""
    if sys.platform == "linux":
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(RLIMIT_LOCKS, (mark, mark))


def mark_of(pid: int) -> int:
    """The mark of another process; 0 if it is gone or nobody may know."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):
            return resource.prlimit(pid, RLIMIT_LOCKS)[1]
    return 0


def children(pid: int) -> list[int]:
    """Of all its threads; ended ones count until they are waited for."""
    if not LISTS_CHILDREN:
        return [each for each in map(int, filter(str.isdigit, _names("/proc"))) if parent(each) == pid]
    tasks = f"/proc/{pid}/task"
    return [int(child) for thread in _names(tasks) for child in _read(f"{tasks}/{thread}/children").split()]


def descendants(pid: int) -> Iterator[int]:
    """Its children, their children and so on, parents first; whose children come is looked up before it comes."""
    coming = deque(children(pid))
    while coming:
        each = coming.popleft()
        coming += children(each)
        yield each


def parent(pid: int) -> int:
    """The parent of a process; 0 if it is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def processor_seconds(pids: Iterable[int]) -> float:
    """Processor time that these processes, and the children they have waited for, have used so far."""
    ticks = sum(int(tick) for pid in pids for tick in _stat(pid)[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def sweep(is_kept: Callable[[int], bool]) -> None:
    """Kill the children of this process that are not kept, with all they started, until none is left."""
    latest = time.monotonic() + SWEEP_SECONDS
    while (strays := [child for child in children(os.getpid()) if not is_kept(child)]) and time.monotonic() < latest:
        for stray in strays:
            with contextlib.suppress(OSError):
                os.kill(stray, signal.SIGKILL)  # its id is not given away before we have waited for it
            kill_below(stray)
        time.sleep(PAUSE_SECONDS)
        for stray in strays:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(stray, os.WNOHANG)


def kill_below(ancestor: int) -> None:
    """Kill all descendants of a process; they may be multiplying, so each as soon as it is found."""
    family = {ancestor, os.getpid()}  # this process adopts those whose parent has just been killed
    for pid in descendants(ancestor):
        family.add(pid)
        with contextlib.suppress(OSError), _handle(pid) as handle:
            if parent(pid) in family:  # else it ended meanwhile, and this may be another of that id
                signal.pidfd_send_signal(handle, signal.SIGKILL)


@contextlib.contextmanager
def _handle(pid: int) -> Iterator[int]:
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


def _stat(pid: int) -> list[bytes]:
    """The fields of proc_pid_stat(5) from the third on; none if the process is gone."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - a path for each name would take longer than the rest
    except OSError:  # the process is gone
        return []


def _read(path: str) -> bytes:
    """All of a file; nothing if the process or thread is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    content = b""
    with contextlib.suppress(ProcessLookupError):
        while chunk := os.read(descriptor, READ_BYTES):
            content += chunk
    os.close(descriptor)
    return content
