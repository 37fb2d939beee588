"""Trying a service: a form made from its signature, and its answer as people read it."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlhost.errors import Invalid
from mlhost.executors import parcels
from mlhost.http.console.rendering import short
from mlhost.params.jsontext import parse
from mlhost.params.types import canonical
from mlhost.runtime.parcels import Parcel
from mlhost.services import NamedType

MAX_ANSWER_BYTES = 4 << 20  # of an answer that is shown
MAX_ROWS = 100  # of a table
MAX_COLUMNS = 50
MAX_TEXT = 20_000  # characters of a value or of what the code printed

PREFIX = "in."  # of the names that inputs have in the form, which has others too
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")  # as JSON has it
DROPPED = {"data.frame": "frame", "matrix": "matrix", "vector": "vector"}  # what a CSV file becomes
# By how its content begins, so that nothing is shown as a picture that is none.
PICTURES = {b"\x89PNG\r\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form."""

    name: str
    label: str
    type: str
    text: str  # what is in it
    drop: str  # what a CSV file dropped on it becomes; "": nothing


@dataclass(frozen=True, slots=True)
class Table:
    """An output with rows and columns."""

    columns: list[str]
    rows: list[list[str]]
    total: int  # rows, those that are not shown among them


@dataclass(frozen=True, slots=True)
class Output:
    """An output, as a table or else a text."""

    name: str
    type: str
    text: str
    table: Table | None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that the code made; `content` is base64, None if it did not make it this time."""

    name: str
    content: str | None
    picture: str  # the type of a picture; "": something else
    size: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to."""

    seconds: float
    error: str  # "": none
    console: str
    outputs: list[Output]
    artifacts: list[Artifact]
    hidden_bytes: int = 0  # of an answer that is too large to be shown


def form(inputs: tuple[NamedType, ...], values: Mapping[str, Any], typed: Mapping[str, str]) -> list[Field]:
    """The fields for the inputs, with what was `typed` into them the last time, or else with examples."""
    return [
        Field(
            PREFIX + name,
            name,
            canonical(kind),
            typed.get(PREFIX + name, _text(canonical(kind), values[name])),
            DROPPED.get(canonical(kind), ""),
        )
        for name, kind in inputs
    ]


def body(inputs: tuple[NamedType, ...], typed: Mapping[str, str]) -> bytes:
    """What was typed into the form, as the service reads it; Invalid names the input that is not JSON."""
    members = (
        f"{json.dumps(name)}:{json_of(name, canonical(kind), typed.get(PREFIX + name, ''))}" for name, kind in inputs
    )
    return f"{{{','.join(members)}}}".encode("utf-8", "surrogatepass")


async def read(answer: bytes | Parcel, outputs: tuple[NamedType, ...], seconds: float) -> Answer:
    """A WebServiceResult as JSON, as people read it; a parcel is closed."""
    with parcels.held(answer) as size:
        if size > MAX_ANSWER_BYTES:
            return Answer(seconds, "", "", [], [], hidden_bytes=size)
        result: dict[str, Any] = json.loads(await parcels.whole(answer))
    values: dict[str, Any] = result["outputParameters"]
    return Answer(
        seconds,
        error="" if result["success"] else result["errorMessage"] or "The code failed.",
        console=short(result["consoleOutput"], MAX_TEXT),
        outputs=[_output(name, canonical(kind), values[name]) for name, kind in outputs if name in values],
        artifacts=[_artifact(name, content) for name, content in result["outputFiles"].items()],
    )


def _text(kind: str, value: Any) -> str:
    return value if kind == "character" else json.dumps(value, ensure_ascii=False)


def json_of(name: str, kind: str, text: str) -> str:
    """What was typed for an input, as JSON of its type; Invalid if it is neither that nor other JSON."""
    if kind == "character":
        return json.dumps(text)
    text = text.strip()
    if kind in ("integer", "numeric"):  # else as a text: "NaN" is one, and the service says what is wrong with others
        return text if NUMBER.fullmatch(text) else json.dumps(text or None)
    try:
        parse(text.encode("utf-8", "surrogatepass") or b"null")
    except Invalid as fault:
        raise Invalid(f"input {name!r} is not JSON: {fault.message}", field=name) from None
    return text or "null"


def _output(name: str, kind: str, value: Any) -> Output:
    table = _table(value)
    return Output(name, kind, "" if table else short(_pretty(value), MAX_TEXT), table)


def _pretty(value: Any) -> str:
    if isinstance(value, str):
        return value
    is_flat = not isinstance(value, (list, dict)) or not any(isinstance(each, (list, dict)) for each in value)
    return json.dumps(value, ensure_ascii=False, indent=None if is_flat else 2)


def _table(value: Any) -> Table | None:
    """Columns of one length, or rows of one length, as a table; None for anything else."""
    if isinstance(value, dict):
        parts = list(value.values())
        names = list(value)
    elif isinstance(value, list):
        parts = value
        names = []
    else:
        return None
    if not parts or not all(isinstance(part, list) for part in parts) or len({len(part) for part in parts}) != 1:
        return None
    rows = [list(row) for row in zip(*parts, strict=True)] if names else parts
    names = names or [str(at) for at in range(len(parts[0]))]
    shown = [[_cell(cell) for cell in row[:MAX_COLUMNS]] for row in rows[:MAX_ROWS]]
    return Table(names[:MAX_COLUMNS], shown, len(rows))


def _cell(value: Any) -> str:
    return "" if value is None else short(_pretty(value), 200)


def _artifact(name: str, content: str | None) -> Artifact:
    begin = b64decode(content[:16]) if content else b""
    picture = next((kind for sign, kind in PICTURES.items() if begin.startswith(sign)), "")
    size = len(content) * 3 // 4 - content.count("=", -2) if content else 0
    return Artifact(name, content, picture, size)
