"""Logging: its two forms, and what never appears in either."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from mlhost.logs import LOGGERS, JsonLines, configure, redacted

log = logging.getLogger("mlhost.tests.logs")
SECRET = "s3cr3t-V4lue.with~signs"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leaves the loggers as they were found: other tests run in this process."""
    before = [(logger, logger.handlers, logger.level) for logger in map(logging.getLogger, LOGGERS)]
    yield
    for logger, handlers, level in before:
        logger.handlers = handlers
        logger.setLevel(level)


@pytest.fixture
def stream() -> io.StringIO:
    """Where the lines go, as JSON from debug up."""
    stream = io.StringIO()
    configure("debug", "json", stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_holds_time_level_logger_message_and_the_fields_given(stream: io.StringIO) -> None:
    log.info("%s finished", "request", extra={"status": 200, "ms": 1.5, "user": None, "roles": ("Owner",)})
    (line,) = lines(stream)
    assert list(line) == ["time", "level", "logger", "message", "status", "ms", "user", "roles"]
    assert line["level"] == "info"
    assert line["logger"] == "mlhost.tests.logs"
    assert line["message"] == "request finished"
    assert (line["status"], line["ms"], line["user"], line["roles"]) == (200, 1.5, None, ["Owner"])


def test_the_time_is_iso_8601_in_utc(stream: io.StringIO) -> None:
    log.info("now")
    (line,) = lines(stream)
    assert line["time"].endswith("Z")
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)


def test_an_exception_is_one_field_of_the_same_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("failed")
    (line,) = lines(stream)
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: first\nsecond")


def test_what_json_does_not_know_is_written_as_text(stream: io.StringIO) -> None:
    log.info("é\n\ud800", extra={"error": KeyError("x"), "nan": float("nan"), "map": {1: {2}}})
    (line,) = lines(stream)
    assert stream.getvalue().isascii()
    assert line["message"] == "é\n\ud800"
    assert (line["error"], line["nan"], line["map"]) == ("'x'", "nan", {"1": [2]})


def test_a_field_never_takes_the_place_of_a_fixed_name(stream: io.StringIO) -> None:
    log.info("here", extra={"level": "none", "time": 0})
    (line,) = lines(stream)
    assert line["level"] == "info"
    assert line["time"] != 0


def test_auto_writes_text_on_a_terminal_and_json_elsewhere() -> None:
    for stream, is_json in ((Terminal(), False), (io.StringIO(), True)):
        configure("info", "auto", stream)
        log.info("hello")
        assert stream.getvalue().startswith("{") is is_json


def test_text_has_the_fields_behind_the_message_and_the_trace_below() -> None:
    stream = io.StringIO()
    configure("info", "text", stream)
    try:
        raise ValueError("why")
    except ValueError:
        log.warning("slow", extra={"ms": 12}, exc_info=True)
    first, second, *_, last = stream.getvalue().splitlines()
    assert first.endswith("Z warning  mlhost.tests.logs: slow ms=12")
    assert second == "  Traceback (most recent call last):"
    assert last == "  ValueError: why"


def test_no_text_of_a_users_passes_for_a_line_of_the_log_or_steers_a_terminal() -> None:
    stream = io.StringIO()
    configure("info", "text", stream)
    forged = "x\n2026-11-25T20:00:00.000Z info     mlhost.access: GET /\r\x1b[2J\x85\u2028é"
    try:
        raise ValueError(forged)
    except ValueError:
        log.warning("failed: %s", forged, extra={"route": forged}, exc_info=True)
    told = stream.getvalue()
    assert not told.startswith(" ")
    assert all(line.startswith("  ") for line in told.splitlines()[1:])
    assert told.count("GET /\\r\\x1b[2J\\x85\\u2028é") == 3
    assert not set(told) & set("\r\x1b\x85\u2028")


def test_lines_below_the_level_are_left_out() -> None:
    stream = io.StringIO()
    configure("warning", "json", stream)
    log.info("no")
    log.warning("yes")
    assert [line["message"] for line in lines(stream)] == ["yes"]


def test_a_second_set_up_replaces_the_first(stream: io.StringIO) -> None:
    second = io.StringIO()
    configure("info", "json", second)
    log.info("once")
    assert stream.getvalue() == ""
    assert len(lines(second)) == 1


def test_what_asyncio_and_aiohttp_report_has_the_same_form(stream: io.StringIO) -> None:
    logging.getLogger("asyncio").error("Task exception was never retrieved")
    logging.getLogger("aiohttp.server").error("Error handling request")
    assert [line["logger"] for line in lines(stream)] == ["asyncio", "aiohttp.server"]


def test_a_wrong_format_string_loses_neither_the_line_nor_a_secret() -> None:
    record = logging.makeLogRecord({"msg": "%d of %s", "args": (f"Bearer {SECRET}",)})
    line = json.loads(JsonLines().format(record))
    assert line["message"] == "%d of %s ('Bearer ***',)"


@pytest.mark.parametrize(
    "message",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization: bearer {SECRET}",
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"DELETE /login/refreshToken?refreshToken={SECRET}&x=1",
        f"refresh_token={SECRET}",
        f'{{"password": "{SECRET}"}}',
        f'{{"password":"a \\" b {SECRET}"}}',
        f"{{'password': 'a, b {SECRET}'}}",
        f'"{{\\"password\\": \\"{SECRET}\\"}}"',
        f"password={SECRET}, user=amy",
        f"MLHOST_ADMIN_PASSWORD={SECRET}",
        f'{{"password": "cut {SECRET}',
        f'password="first \\\n{SECRET}"',
        f"password={{{SECRET}}}",
        f"password: a,b;c'{SECRET}",
        f'{{"accessToken": "{SECRET}", "access_token": "{SECRET}"}}',
        f"Authorization: Basic {SECRET}",
        f"Proxy-Authorization: Digest a, {SECRET}",
        f"(b'Authorization', b'Basic {SECRET}')",
        f"Cookie: session={SECRET}; other={SECRET}",
        f"X-Api-Key: {SECRET}",
        f"DELETE /login/refreshToken/{SECRET}",
        f"said mlh_{'x' * 30}{SECRET[:6]} and token={SECRET} as password={SECRET}",
        f"the token eyJhbGciOiJub25lIn0.{SECRET.replace('.', '').replace('~', '')}.x says {{password: '{SECRET}'}}",
    ],
)
@pytest.mark.parametrize("form", ["json", "text"])
def test_a_secret_in_text_never_appears(message: str, form: str) -> None:
    stream = io.StringIO()
    configure("info", form, stream)
    try:
        raise ValueError(message)
    except ValueError:
        log.exception(message, extra={"url": message, "list": [message]})
    log.info("%s", message)
    assert stream.getvalue().count("***") >= 5
    assert SECRET not in stream.getvalue()


@pytest.mark.parametrize(
    "name",
    ["password", "newPassword", "token", "refresh_token", "refreshToken", "Authorization", "client_secret"],
)
def test_a_secret_under_a_telling_name_never_appears(stream: io.StringIO, name: str) -> None:
    log.info("in", extra={name: SECRET, "headers": {name: SECRET}, "many": [{name: [SECRET]}]})
    (line,) = lines(stream)
    assert line[name] == "***"
    assert SECRET not in stream.getvalue()


def test_the_id_of_a_token_is_no_secret() -> None:
    assert redacted({"tokenId": "7", "token_id": "8", "tokens": "9"}) == {
        "tokenId": "7",
        "token_id": "8",
        "tokens": "***",
    }


def test_text_around_a_secret_stays() -> None:
    assert redacted("DELETE /x?refreshToken=abc&y=1") == "DELETE /x?refreshToken=***&y=1"
    assert redacted("{'Authorization': 'Bearer abc', 'a': 1}") == "{'Authorization': 'Bearer ***', 'a': 1}"
    assert redacted("Authorization: Basic abc\nHost: x") == "Authorization: ***\nHost: x"
    assert redacted("the cookie jar, basic things and a bearer") == "the cookie jar, basic things and a bearer"
    assert redacted("{'Cookie': 'a=b; c=d', 'Host': 'x'}") == "{'Cookie': '***', 'Host': 'x'}"
    assert redacted("GET /snapshots/1 for amy") == "GET /snapshots/1 for amy"
