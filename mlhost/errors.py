"""Every error mlhost raises on purpose, and the one form in which errors travel.

    MlhostError
    ├── Invalid           the request cannot be understood; says which field
    ├── Unauthenticated   nobody known asks
    ├── Forbidden         the one who asks may not
    ├── NotFound          there is no such thing, or it is someone else's
    ├── Conflict          the name is taken, or the state does not allow it
    ├── Gone              it existed and has ended; says why
    ├── Busy              a bound is reached; later it will work
    ├── Throttled         the one who asks has asked too often; later it will work
    ├── CodeFailed        the user's code failed: an answer, not a fault of the server
    ├── WorkerLost        the process behind the call died; says how
    └── Unavailable       the server cannot do it now

The domain knows no HTTP status: `mlhost.http.errors` holds the only table. `to_wire` and `from_wire` are the form for
worker pipes, so that `except NotFound` means the same on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class MlhostError(Exception):
    """An error raised on purpose: a stable `code`, a message that says what to do, `details` for programs."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class Invalid(MlhostError):
    """The request is malformed or a value is not allowed; `details["field"]` names the field if there is one."""

    code = "invalid"


class Unauthenticated(MlhostError):
    """No credentials, or ones that do not hold (any more)."""

    code = "unauthenticated"


class Forbidden(MlhostError):
    """The principal is known and may not do this."""

    code = "forbidden"


class NotFound(MlhostError):
    """No such thing, or not the caller's: the two look the same from outside."""

    code = "not_found"


class Conflict(MlhostError):
    """The name is taken, or the thing is in a state that does not allow the request."""

    code = "conflict"


class Gone(MlhostError):
    """The thing existed and has ended; the message says how."""

    code = "gone"


class Busy(MlhostError):
    """A bound is reached; `details["retry_after_seconds"]` says when to try again."""

    code = "busy"


class Throttled(MlhostError):
    """Whoever asks did so too often; `details["retry_after_seconds"]` says when to try again."""

    code = "throttled"


class CodeFailed(MlhostError):
    """The user's code raised, did not compile or ran out of time."""

    code = "code_failed"


class WorkerLost(MlhostError):
    """The worker died during or before the call; the message says how in words."""

    code = "worker_lost"


class Unavailable(MlhostError):
    """The server cannot do this now: it is starting, stopping, or something it needs is missing."""

    code = "unavailable"


BY_CODE: dict[str, type[MlhostError]] = {
    kind.code: kind
    for kind in (
        MlhostError,
        Invalid,
        Unauthenticated,
        Forbidden,
        NotFound,
        Conflict,
        Gone,
        Busy,
        Throttled,
        CodeFailed,
        WorkerLost,
        Unavailable,
    )
}


def to_wire(error: MlhostError) -> dict[str, Any]:
    """The error as plain data: `{"code", "message", "details"}`."""
    return {"code": error.code, "message": error.message, "details": error.details}


def from_wire(wire: Mapping[str, Any]) -> MlhostError:
    """The error that `to_wire` described; an unknown code becomes a plain MlhostError."""
    kind = BY_CODE.get(wire["code"], MlhostError)
    return kind(wire["message"], **wire["details"])
