"""Logging set up once: text on a terminal, else one JSON object per line; secrets never appear in either.

Only the CLI calls `configure`; every other module just says `log = logging.getLogger(__name__)`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any, TextIO

# mlhost, and the two libraries that report what went wrong on our behalf.
LOGGERS = ("mlhost", "aiohttp", "asyncio")
HIDDEN = "***"

_SECRET = re.compile(r"password|passwd|token(?!_?id)|secret|authorization|cookie|api_?-?key|credential", re.IGNORECASE)
_BEARER = re.compile(r"(\bbearer\s+)[^\s\"']+", re.IGNORECASE)
# The headers whose whole value is one, whatever the scheme: to the end of the line or of the quoted text.
_HEADER = re.compile(
    r"""((?:authorization|cookie|x-api-key)\\?["']?\s*[:=,]\s*(?:\\?b?["'])?(?:bearer\s+)?)[^"'\r\n\\]+""",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"\beyJ[\w-]+\.[\w-]*\.?[\w-]*|\bmlh_[\w-]{20,}")  # a JWT, a personal access token
_IN_PATH = re.compile(r"(/login/refreshToken/)(?!\{)[^\s\"'?]+", re.IGNORECASE)
# name=value, name: value and "name": "value", its quotes perhaps escaped or, in a text cut short, not closed.
_ASSIGNED = re.compile(
    r"""((?:password|passwd|refresh_?token|access_?token|client_?secret|api_?key|\btoken|device_?code|code_?verifier)\\?["']?\s*[=:]\s*\\?)"""
    r"""("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^\s&]+)""",
    re.IGNORECASE | re.DOTALL,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")  # but for tabs and new lines
_STANDARD = logging.makeLogRecord({}).__dict__.keys() | {"message", "asctime"}


def configure(level: str, format: str, stream: TextIO) -> None:  # noqa: A002  (the setting's name)
    """Send log lines from `level` up to `stream`; a later call replaces an earlier one.

    `format` is text, json, or auto: text if the stream is a terminal.
    """
    text = stream.isatty() if format == "auto" else format == "text"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextLines() if text else JsonLines())
    for name in LOGGERS:
        logging.getLogger(name).handlers = [handler]
    logging.getLogger("mlhost").setLevel(level.upper())


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's parts as JSON, in ASCII, so that no stream's encoding can refuse it."""
        return json.dumps(parts(record))


class TextLines(logging.Formatter):
    """A line for people; the trace of an exception follows below it.

    All further lines are indented and other control characters written out: no text that a user had a hand in can pass
    for a line of its own, or steer a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger and message, then the fields as name=value."""
        rest = parts(record)
        line = f"{rest.pop('time')} {rest.pop('level'):<8} {rest.pop('logger')}: {rest.pop('message')}"
        trace = rest.pop("exception", "")
        fields = "".join(f" {name}={value}" for name, value in rest.items())
        told = _CONTROL.sub(_written_out, f"{line}{fields}\n{trace}".rstrip("\n"))
        return told.replace("\n", "\n  ")


def parts(record: logging.LogRecord) -> dict[str, Any]:
    """What a line says, as plain data without secrets: time to message, fields of `extra=`, exception."""
    fixed: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": redacted(_message(record)),
    }
    extra: dict[str, Any] = redacted({name: value for name, value in record.__dict__.items() if name not in _STANDARD})
    if record.exc_info:
        extra["exception"] = redacted(logging.Formatter().formatException(record.exc_info))
    return fixed | extra | fixed  # in this order, and no field takes the place of a fixed name


def redacted(value: Any) -> Any:
    """`value` as JSON has it, with every password and token in its text or under a telling name hidden."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if isfinite(value) else str(value)  # JSON has no NaN
        case Mapping():
            return {str(name): HIDDEN if _SECRET.search(str(name)) else redacted(at) for name, at in value.items()}
        case list() | tuple() | set() | frozenset():
            return [redacted(item) for item in value]
    text = str(value)
    for pattern in (_HEADER, _BEARER, _IN_PATH, _ASSIGNED):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return _TOKEN.sub(HIDDEN, text)


def _written_out(sign: re.Match[str]) -> str:
    return ascii(sign[0])[1:-1]


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a wrong format string must not lose the line, nor print its arguments unredacted
        return f"{record.msg} {record.args!r}"
