"""The exit codes of all commands, for scripts: each means one thing, and is in `mlhost --help`."""

from __future__ import annotations

from mlhost.remote import FAILED, INTERRUPTED, NO_ANSWER, NOT_ALLOWED, REFUSED

MISUSED = 2  # click's own

MEANINGS = {
    0: "It is done.",
    REFUSED: "It could not be done, and stderr says why; or what was asked for is not so (doctor, auth explain, diff).",
    MISUSED: "The command line is not right: an unknown option, a missing argument.",
    FAILED: "The code failed: that of a session, a service or a batch.",
    NOT_ALLOWED: "You are not signed in, your login has ended, or your role does not allow this.",
    NO_ANSWER: "The server is down or busy, or something it needs, the disk say, is not there or full.",
    INTERRUPTED: "Ctrl-C ended it.",
}
EPILOG = "\b\nExit codes:\n" + "\n".join(f"{code:>4}  {line}" for code, line in MEANINGS.items())
