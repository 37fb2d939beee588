"""Records of a batch as people have them: a table with a header (CSV), JSON lines, or a JSON array."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator

from mlhost.errors import Invalid
from mlhost.http.console.trying import NUMBER, json_of
from mlhost.params.types import canonical
from mlhost.services import NamedType

FRAME = "data.frame"
WORDS = {"": None, "true": True, "false": False}


def array(text: str, inputs: tuple[NamedType, ...]) -> bytes:
    """The records as a JSON array; Invalid names the line at fault.

    A table's columns are the inputs by their names, each cell of its input's type. Where a frame is the only input and
    no column is called like it, a row is a frame of one row.
    """
    text = text.strip().removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    if not text:
        raise Invalid("records: there are none", field="records")
    if text.startswith("["):
        return _encoded(text)
    records = _lines(text) if text.startswith("{") else _rows(text, inputs)
    return _encoded(f"[{','.join(records)}]")


def _lines(text: str) -> Iterator[str]:
    return (line for line in text.split("\n") if line.strip())


def _rows(text: str, inputs: tuple[NamedType, ...]) -> Iterator[str]:
    reader = csv.reader(io.StringIO(text), strict=True)
    kinds = {name: canonical(kind) for name, kind in inputs}
    try:
        names = [name.strip() for name in next(reader)]
        is_frame = list(kinds.values()) == [FRAME] and not kinds.keys() & {*names}
        for row in filter(None, reader):
            if len(row) != len(names):
                raise Invalid(f"Line {reader.line_num} has {len(row)} cells; the header has {len(names)}.")
            cells = zip(names, row, strict=True)
            yield _frame(next(iter(kinds)), cells) if is_frame else _record(kinds, cells, reader.line_num)
    except csv.Error as fault:
        raise Invalid(f"Line {reader.line_num} is not CSV: {fault}.") from None


def _record(kinds: dict[str, str], cells: Iterable[tuple[str, str]], line: int) -> str:
    """A row as an object of inputs."""
    try:
        return _object((name, _cell(name, kinds.get(name, "character"), cell)) for name, cell in cells)
    except Invalid as fault:
        raise Invalid(f"Line {line}: {fault.message}", **fault.details) from None


def _cell(name: str, kind: str, cell: str) -> str:
    return json_of(name, kind, cell.lower() if kind == "logical" else cell)  # True and TRUE are what programs write


def _frame(name: str, cells: Iterable[tuple[str, str]]) -> str:
    """A row as the only one of a frame, its cells numbers, true, false, nothing or else texts."""
    columns = _object((column, f"[{_guessed(cell.strip())}]") for column, cell in cells)
    return _object([(name, columns)])


def _guessed(cell: str) -> str:
    if NUMBER.fullmatch(cell):
        return cell
    return json.dumps(WORDS.get(cell.lower(), cell))


def _object(members: Iterable[tuple[str, str]]) -> str:
    return f"{{{','.join(f'{json.dumps(name)}:{value}' for name, value in members)}}}"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
