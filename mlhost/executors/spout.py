"""A workspace's end of the pipe to its console, to see after a call whether it has printed anything."""

from __future__ import annotations

import array
import fcntl
import termios


class Spout:
    """The end that is written to; its descriptor stays whose it is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._count = array.array("i", [0])

    def has_printed(self) -> bool:
        """Whether there is output the host has not taken; also when that cannot be told."""
        try:
            fcntl.ioctl(self._descriptor, termios.FIONREAD, self._count)
        except OSError:
            return True
        return self._count[0] != 0
