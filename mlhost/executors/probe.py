"""The probe: a throw-away process that tries which packages load in subinterpreters with their own GIL.

`python -m mlhost.executors.probe PACKAGE ...` imports each package in two such interpreters, for some load in one
interpreter of a process and in no second. Each is tried in a child of its own, for a package may abort the process. It
prints one JSON object: package -> why it refuses, "" if it does not, or is not installed.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from mlhost.runtime import imports

PATIENCE_SECONDS = 20  # for one package; a refused import is known to hang on some


def main() -> None:
    """Try the packages named on the command line."""
    sys.stdout.write(json.dumps({package: tried(package) for package in sys.argv[1:]}))


def tried(package: str) -> str:
    """Why the package refuses, or ""."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.close(reader)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the package prints is no answer of ours
        signal.alarm(PATIENCE_SECONDS)
        os.write(writer, imported_twice(package).encode()[:4096])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        reason = pipe.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGALRM:
        return f"importing it takes more than {PATIENCE_SECONDS} seconds there"
    return reason if status == 0 else "importing it crashes there"


def imported_twice(package: str) -> str:
    """Why the package cannot be imported in each of two interpreters, or ""."""
    from concurrent import interpreters  # type: ignore[attr-defined, unused-ignore] # there from 3.14 on

    for _ in range(2):
        if reason := interpreters.create().call(refusal, package):
            return str(reason)
    return ""


def refusal(package: str) -> str:
    """In an interpreter: import the package; why it refuses, or "". What fails elsewhere too is no refusal."""
    imports.refuse({})
    try:
        __import__(package)
    except BaseException as fault:
        refused = imports.refused_by(fault)
        return "" if refused is None else refused[1]
    return ""


if __name__ == "__main__":
    main()
