"""What a generated client stands on: it sends requests and reads answers. Needs `requests`; Python 3.8 or later."""

from __future__ import annotations

import base64
import datetime
import enum
import json as jsons
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import IO, Any, Dict, Iterable, Tuple, TypeVar, Union
from urllib.parse import quote

import requests

T = TypeVar("T")
C = TypeVar("C", bound="Choice")

Headers = Dict[str, str]
Content = Union[bytes, str, IO[bytes], Iterable[bytes]]
File = Union[bytes, IO[bytes], Tuple[str, Union[bytes, IO[bytes]]]]

CHUNK_BYTES = 64 * 1024


class HttpOperationError(Exception):
    """The server answered with an error, or with what the document does not declare.

    `response` is the answer itself, `error` what its body was read as, if anything.
    """

    error: Any = None

    def __init__(self, response: requests.Response, message: str = "") -> None:
        self.response = response
        self.message = message or f"{response.status_code} {response.reason}"
        super().__init__(self.message)

    def explain(self, error: Any) -> None:
        """Add what the server says to the message."""
        said = getattr(error, "message", None) or self.response.text[:500]
        if said:
            self.message = f"{self.message}: {said}"
            self.args = (self.message,)


class Choice(str, enum.Enum):
    """One of several texts, equal to that text."""

    def __str__(self) -> str:
        return str(self.value)


class Model:
    """A JSON object with known properties."""

    def to_json(self) -> dict[str, Any]:
        """Itself as JSON."""
        raise NotImplementedError


class Transport:
    """Sends the requests of one client."""

    def __init__(
        self,
        base_url: str,
        session: requests.Session | None = None,
        timeout_seconds: float | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.session = requests.Session() if session is None else session
        self.timeout_seconds = timeout_seconds

    def send(
        self,
        method: str,
        path: str,
        *,
        path_values: Mapping[str, Any] | None = None,
        success: Collection[int] = (),
        failure: type[HttpOperationError] = HttpOperationError,
        failures: Mapping[int, type[HttpOperationError]] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        json: Any = None,
        content: Content | None = None,
        content_type: str = "application/json; charset=utf-8",
        form: Mapping[str, Any] | None = None,
        multipart: Mapping[str, Any] | None = None,
        accept: str = "application/json",
        stream: bool = False,
        custom_headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """The answer, if its status is one of success; any other is raised as failure."""
        fields = {"Accept": accept}
        body: Any = content
        if json is not None:
            body = jsons.dumps(to_json(json)).encode()
        if body is not None:
            fields["Content-Type"] = content_type
            body = body.encode() if isinstance(body, str) else body
        elif form is not None:
            body = {key: plain(each) for key, each in form.items() if each is not None}
        for name, value in (headers or {}).items():
            if value is not None:
                fields[name] = str(plain(value))
        fields.update(custom_headers or {})
        response = self.session.request(
            method,
            self.base_url + filled(path, path_values or {}),
            params={name: plain(value) for name, value in (query or {}).items()},
            data=body,
            files=None if multipart is None else parts(multipart),
            headers=fields,
            timeout=self.timeout_seconds,
            stream=stream,
        )
        if response.status_code in success or (not success and response.ok):
            return response
        raise (failures or {}).get(response.status_code, failure)(response)


def parts(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The parts of a multipart body: files as they are, other values as fields."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, (bytes, tuple)) or hasattr(each, "read"):
                found.append((name, each))
            elif each is not None:
                found.append((name, (None, plain(each))))
    return found


def plain(value: Any) -> Any:
    """A value as the text of a query, header or form; a list as a list of these."""
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    value = to_json(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if value is None else str(value)


def joined(values: Iterable[Any] | None, separator: str) -> str | None:
    """An array as one text."""
    return None if values is None else separator.join(map(plain, values))


def filled(path: str, values: Mapping[str, Any]) -> str:
    """A path with its parameters; each stays one segment."""

    def segment(found: re.Match[str]) -> str:
        name = found.group(1)
        told = plain(values[name])
        if told in (None, "", ".", ".."):  # they would name another resource
            raise ValueError(f"{name} cannot be {values[name]!r}.")
        return quote(told, safe="")

    return re.sub(r"\{(.*?)\}", segment, path)


def to_object(
    properties: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
    nullable: Collection[str] = (),
) -> dict[str, Any]:
    """The properties of a model as JSON, without those that are None."""
    pairs = {**(more or {}), **properties}.items()
    return {k: to_json(v) for k, v in pairs if v is not None or k in nullable}


def to_json(value: Any) -> Any:
    """A value as JSON: models as objects, bytes in base64, dates as ISO 8601."""
    if isinstance(value, Model):
        return value.to_json()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime.date):  # a datetime is one as well
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(name): to_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(each) for each in value]
    return value


def answer(response: requests.Response, read: Callable[[Any], T]) -> T:
    """The body of an answer; an empty one is an empty text, list or object."""
    try:
        if read is text and "json" not in response.headers.get("Content-Type", "json"):
            return read(response.text)
        if not response.content:
            return empty(read)
        return read(response.json())
    except ValueError as fault:
        message = f"The answer is not what the document declares: {fault}"
        raise HttpOperationError(response, message) from fault


def empty(read: Callable[[Any], T]) -> T:
    """What is read from no body at all."""
    nothings: tuple[Any, ...] = ("", [], {})
    for nothing in nothings:
        try:
            return read(nothing)
        except ValueError:
            continue
    raise ValueError("there is no body")


def chunks(response: requests.Response) -> Iterator[bytes]:
    """The body of an answer as it comes in."""
    with response:
        yield from response.iter_content(CHUNK_BYTES)


def error_of(response: requests.Response, read: Callable[[Any], T]) -> T | None:
    """The body of an error; None where it is something else."""
    try:
        return read(response.json())
    except ValueError:
        return None


class Reader:
    """Reads the properties of a JSON object."""

    def __init__(self, value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{name}: {value!r:.80} is no object")
        self._value: dict[str, Any] = value
        self._name = name
        self._known: set[str] = set()

    def required(self, key: str, read: Callable[[Any], T]) -> T:
        """A property that has to be there."""
        value = self.optional(key, read)
        if value is None:
            raise ValueError(f"{self._name}: {key} is missing")
        return value

    def optional(self, key: str, read: Callable[[Any], T]) -> T | None:
        """A property, or None."""
        self._known.add(key)
        value = self._value.get(key)
        try:
            return None if value is None else read(value)
        except ValueError as fault:
            raise ValueError(f"{self._name}.{key}: {fault}") from fault

    def rest(self, read: Callable[[Any], T]) -> dict[str, T]:
        """The properties that were not asked for."""
        rest = {k: v for k, v in self._value.items() if k not in self._known}
        return dict_of(read)(rest)


def text(value: Any) -> str:
    """A string; a number is taken as its text."""
    if isinstance(value, (dict, list, bool)) or value is None:
        raise ValueError(f"{value!r:.80} is no string")
    return str(value)


def integer(value: Any) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r:.80} is no integer")
    return int(value)


def number(value: Any) -> float:
    """A number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r:.80} is no number")
    return float(value)


def boolean(value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{value!r:.80} is neither true nor false")
    return value


def anything(value: Any) -> Any:
    """Any JSON value, as it is."""
    return value


def date(value: Any) -> datetime.date:
    """A date as ISO 8601 has it."""
    return datetime.date(*map(int, text(value)[:10].split("-")))


def moment(value: Any) -> datetime.datetime:
    """A time as ISO 8601 has it; with any number of digits of a second, with a zone or without."""
    found = re.match(r"(.{10}[Tt ].{8})(?:\.(\d+))?(.*)$", text(value))
    if not found:
        raise ValueError(f"{value!r:.80} is no time")
    whole, fraction, zone = found.groups()
    micro = (fraction or "0")[:6].ljust(6, "0")
    zone = "+00:00" if zone in ("Z", "z") else zone
    return datetime.datetime.fromisoformat(f"{whole}.{micro}{zone}")


def binary(value: Any) -> bytes:
    """Bytes, in base64."""
    return base64.b64decode(text(value))


def list_of(read: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    """The reader of an array."""

    def read_list(value: Any) -> list[T]:
        if not isinstance(value, list):
            raise ValueError(f"{value!r:.80} is no array")
        return [read(each) for each in value]

    return read_list


def dict_of(read: Callable[[Any], T]) -> Callable[[Any], dict[str, T]]:
    """The reader of an object with any names; one whose value is null is left out."""

    def read_dict(value: Any) -> dict[str, T]:
        if not isinstance(value, dict):
            raise ValueError(f"{value!r:.80} is no object")
        if read is anything:
            return value
        return {key: read(each) for key, each in value.items() if each is not None}

    return read_dict


def choice_of(kind: type[C]) -> Callable[[Any], C | str]:
    """The reader of an enum; a value it does not know stays a text."""

    def read_choice(value: Any) -> C | str:
        try:
            return kind(value)
        except ValueError:
            return text(value)

    return read_choice
