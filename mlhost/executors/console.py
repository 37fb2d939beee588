"""The console of one worker, on the host's side: bounded text that can be read while code runs."""

from __future__ import annotations

import asyncio
import codecs
import os

from mlhost.runtime.limits import in_words

OUTPUT_BYTES = 10 * 1024 * 1024  # kept per run where nothing else is set
READ_BYTES = 65536  # at a time
READS = 16  # a pipe holds 64 KiB, and the code at its other end can make that 1 MiB
PAUSE_SECONDS = 0.001  # between reads of what is not kept: a flood must not keep the host busy


class Console:
    """What a worker printed since the console was last cleared, up to `output_bytes`."""

    def __init__(self, output_bytes: int = OUTPUT_BYTES) -> None:
        self._most = output_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parts: list[str] = []
        self._bytes = 0

    def write(self, printed: bytes) -> None:
        """Keep what was printed, up to the bound; the first byte beyond it leaves a notice instead."""
        if (room := self._most - self._bytes) <= 0:
            return
        kept = printed[:room]
        self._bytes += len(kept)
        self._parts.append(self._decoder.decode(kept))
        if self.is_full:
            self._parts.append(f"\n[mlhost: output beyond {in_words(self._most)} is not kept: limits.output_bytes]\n")

    @property
    def is_full(self) -> bool:
        """Whether nothing more is kept before it is cleared."""
        return self._bytes >= self._most

    @property
    def is_empty(self) -> bool:
        """Whether nothing was printed."""
        return not self._parts

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
    """The pipe through which a worker's output reaches its console; `writer` is the worker's end.

    While it `is_held` what is printed stays in the pipe until it is asked for.
    """

    def __init__(self, console: Console) -> None:
        self.is_held = False
        self._console = console
        self._reader, self.writer = os.pipe()
        self._is_open = True
        self._is_waiting = False  # something was printed while it is held
        self._pausing: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        os.set_blocking(self._reader, False)
        self._listen()

    def read(self) -> None:
        """Take what is in the pipe now; all that was printed before a reply is there when the reply is."""
        for _ in range(READS):
            if len(self._read_once() or b"") < READ_BYTES:
                return

    def release(self) -> None:
        """Take what is printed as it comes, as before it was held."""
        self.is_held = False
        if self._is_waiting:
            self._is_waiting = False
            self._listen()

    def close(self) -> None:
        """Take the rest and close the host's end."""
        if self._is_open:
            self.read()
            self._is_open = self._is_waiting = False
            if self._pausing is not None:
                self._pausing.cancel()
            self._loop.remove_reader(self._reader)
            os.close(self._reader)

    def _listen(self) -> None:
        self._pausing = None
        self._loop.add_reader(self._reader, self._on_readable)

    def _on_readable(self) -> None:
        """One read at a time, so that everything else has its turn between two."""
        if self.is_held:
            self._is_waiting = True
            self._loop.remove_reader(self._reader)
            return
        printed = self._read_once()
        if printed == b"":  # code closed the other end, and this one would be readable for ever
            self._loop.remove_reader(self._reader)
        elif self._console.is_full:
            self._loop.remove_reader(self._reader)
            self._pausing = self._loop.call_later(PAUSE_SECONDS, self._listen)

    def _read_once(self) -> bytes | None:
        """What there is; None when there is nothing now, empty when there never will be again."""
        if not self._is_open:
            return None
        try:
            printed = os.read(self._reader, READ_BYTES)
        except BlockingIOError:
            return None
        self._console.write(printed)
        return printed
