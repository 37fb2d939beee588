"""The probe: a throw-away process that tries which modules load in subinterpreters with their own GIL.

`python -m mlhost.executors.probe MODULE ...` imports each module in two such interpreters, for some load in one
interpreter of a process and in no second. Those of a package are tried in a child of their own, for one may abort the
process. It prints one JSON object: module -> why it refuses, "" if it does not, or is not there.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from itertools import groupby

from mlhost.runtime import imports

PATIENCE_SECONDS = 20  # for the modules of one package; a refused import is known to hang on some
REASON_LENGTH = 500  # characters


def main() -> None:
    """Try the modules named on the command line."""
    found: dict[str, str] = {}
    for _, modules in groupby(sorted(sys.argv[1:]), imports.package_of):
        found |= tried(list(modules))
    sys.stdout.write(json.dumps(found))


def tried(modules: list[str]) -> dict[str, str]:
    """Why each of the modules refuses, or ""."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.close(reader)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a module prints is no answer of ours
        signal.alarm(PATIENCE_SECONDS)
        with os.fdopen(writer, "w") as pipe:
            json.dump(imported_twice(modules), pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        found: dict[str, str] = json.loads(answer)
        return found
    if len(modules) > 1:  # which one it was
        return {module: reason for each in modules for module, reason in tried([each]).items()}
    hangs = status == -signal.SIGALRM
    reason = f"takes more than {PATIENCE_SECONDS} seconds" if hangs else "crashes"
    return {modules[0]: f"importing it {reason} there"}


def imported_twice(modules: list[str]) -> dict[str, str]:
    """Why each of the modules cannot be imported in each of two interpreters, or ""."""
    from concurrent import interpreters  # type: ignore[attr-defined, unused-ignore] # there from 3.14 on

    first, second = [interpreters.create().call(refusals, modules) for _ in range(2)]
    return {module: first[module] or second[module] for module in modules}


def refusals(modules: list[str]) -> dict[str, str]:
    """In an interpreter: import each module; why it refuses, or "". What fails elsewhere too is no refusal."""
    imports.refuse({})
    return {module: refusal(module) for module in modules}


def refusal(module: str) -> str:
    """Why it refuses; its last part may also be any name that is imported `from` the rest."""
    package, _, name = module.rpartition(".")
    try:
        if not package or not hasattr(importlib.import_module(package), name):
            importlib.import_module(module)
    except BaseException as fault:
        refused = imports.refused_by(fault)
        return "" if refused is None else refused[1][:REASON_LENGTH]
    return ""


if __name__ == "__main__":
    main()
