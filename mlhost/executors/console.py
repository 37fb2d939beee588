"""The console of one worker, on the host's side: bounded text that can be read while code runs."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os

MAX_BYTES = 10 * 1024 * 1024  # kept per run
READ_BYTES = 65536  # at a time
NOTICE = "\n[mlhost: output beyond 10 MB is not kept]\n"


class Console:
    """What a worker printed since the console was last cleared."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parts: list[str] = []
        self._bytes = 0

    def write(self, printed: bytes) -> None:
        """Keep what was printed, up to the bound; the first byte beyond it leaves a notice instead."""
        if self._bytes >= MAX_BYTES:
            return
        kept = printed[: MAX_BYTES - self._bytes]
        self._bytes += len(kept)
        self._parts.append(self._decoder.decode(kept))
        if self._bytes >= MAX_BYTES:
            self._parts.append(NOTICE)

    @property
    def text(self) -> str:
        """All of it."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    def clear(self) -> None:
        """Forget it, before the next run."""
        if self._parts:
            self._decoder.reset()
            self._parts = []
            self._bytes = 0

    def take(self) -> str:
        """All of it, and forget it."""
        text = self.text
        self.clear()
        return text


class Inlet:
    """The pipe through which a worker's output reaches its console; `writer` is the worker's end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._reader, self.writer = os.pipe()
        self._is_open = True
        os.set_blocking(self._reader, False)
        asyncio.get_running_loop().add_reader(self._reader, self.read)

    def read(self) -> None:
        """Take what is in the pipe now; all that was printed before a reply is there when the reply is."""
        with contextlib.suppress(BlockingIOError):
            while self._is_open and (printed := os.read(self._reader, READ_BYTES)):
                self._console.write(printed)
                if len(printed) < READ_BYTES:
                    break

    def close(self) -> None:
        """Take the rest and close the host's end."""
        if self._is_open:
            self.read()
            self._is_open = False
            asyncio.get_running_loop().remove_reader(self._reader)
            os.close(self._reader)
