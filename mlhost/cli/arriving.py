"""Files that commands write: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mlhost.errors import Conflict, Unavailable


@contextmanager
def arriving(target: Path, *, force: bool) -> Iterator[tuple[IO[bytes], Path]]:
    """A file that is there, whole, at the end of the block, or not at all; only its owner may read it.

    Inside the block it is open, and has another name.

    Conflict if there is one and it is not to be replaced; Unavailable if the disk does not take it.
    """
    if target.exists() and not force:
        raise Conflict(f"{target} is there already: name another file, or replace it with --force.")
    made: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=target.absolute().parent, prefix=f".{target.name}.")
        made = Path(name)
        with os.fdopen(descriptor, "wb") as out:
            yield out, made
            out.flush()
            os.fsync(out.fileno())
        made.replace(target)
    except OSError as fault:
        raise Unavailable(f"{target} cannot be written: {fault.strerror}.") from fault
    finally:
        if made is not None:
            made.unlink(missing_ok=True)
