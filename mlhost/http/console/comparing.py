"""Two versions of a service, or two snapshots, beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from itertools import islice, takewhile
from typing import Any

from mlhost.http.console.rendering import size
from mlhost.runtime.describe import Described
from mlhost.services import NamedType, Service

MAX_LINES = 5000  # of a difference that is shown
MAX_COMPARED = (
    2000  # lines of a text that is compared line by line, in half a second at worst: it grows with their cube
)


@dataclass(frozen=True, slots=True)
class Changed:
    """What is of that name in either; "" where there is none."""

    way: str  # what it is: "input", say
    name: str
    old: str
    new: str

    @property
    def word(self) -> str:
        """What happened to it."""
        if self.old == self.new:
            return "same"
        return "changed" if self.old and self.new else "added" if self.new else "removed"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a difference; `kind` is added, removed, place or same."""

    kind: str
    text: str


def signature(old: Service, new: Service) -> list[Changed]:
    """All parameters of both."""
    before, after = old.definition, new.definition
    return [*_changed("input", before.inputs, after.inputs), *_changed("output", before.outputs, after.outputs)]


def facts(old: Service, new: Service) -> list[tuple[str, str, str]]:
    """What else is different: its title, and how it is in either."""
    told = [
        (title, _fact(old, field), _fact(new, field))
        for title, field in (
            ("Description", "description"),
            ("Runtime", "runtime"),
            ("Placement", "placement"),
            ("Python", "python"),
            ("Output files", "output_files"),
            ("Operation id", "operation_id"),
        )
    ]
    snapshots = ("Workspace", old.blob or "none", new.blob or "none")
    return [fact for fact in (*told, snapshots) if fact[1] != fact[2]]


def code(old: str, new: str, old_title: str, new_title: str) -> list[Line]:
    """The unified difference of two texts, of long ones a coarse one; none if they are the same."""
    before, after = old.splitlines(), new.splitlines()
    if max(len(before), len(after)) > MAX_COMPARED:
        lines = _replaced(before, after)
    else:
        lines = unified_diff(before, after, old_title, new_title, lineterm="")
    return [_line(text) for text in islice(lines, MAX_LINES)]


def objects(old: Mapping[str, Described], new: Mapping[str, Described]) -> list[Changed]:
    """All objects of two snapshots, as they looked when they were frozen: what does not show is not compared."""
    before, after = ({name: _looks(each) for name, each in held.items()} for held in (old, new))
    return [Changed("object", name, before.get(name, ""), after.get(name, "")) for name in before | after]


def files(old: Mapping[str, int], new: Mapping[str, int]) -> list[Changed]:
    """All files of two snapshots by their sizes."""
    before, after = ({name: f"{size(each)} ({each})" for name, each in held.items()} for held in (old, new))
    return [Changed("file", name, before.get(name, ""), after.get(name, "")) for name in before | after]


def surroundings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What of Python and the packages that their objects need is different: its title, and how it is in either."""
    before = {"Python": old["python"]} | old.get("packages", {})
    after = {"Python": new["python"]} | new.get("packages", {})
    told = ((name, before.get(name, ""), after.get(name, "")) for name in before | after)
    return [each for each in told if each[1] != each[2]]


def _looks(described: Described) -> str:
    """An object in a line: its type, shape and value."""
    parts = (described.get("type", "?"), described.get("shape", ""), described.get("repr", ""))
    return " · ".join(part for part in parts if part)


def _changed(way: str, old: tuple[NamedType, ...], new: tuple[NamedType, ...]) -> list[Changed]:
    before, after = dict(old), dict(new)
    return [Changed(way, name, before.get(name, ""), after.get(name, "")) for name in before | after]


def _fact(service: Service, field: str) -> str:
    value = getattr(service.definition, field)
    return ", ".join(value) if isinstance(value, tuple) else str(value or "")


def _replaced(old: list[str], new: list[str]) -> Iterator[str]:
    """All that lies between the beginning and the end that both have, as one change."""
    begin = _alike(old, new)
    end = _alike(old[begin:][::-1], new[begin:][::-1])
    removed, added = old[begin : len(old) - end], new[begin : len(new) - end]
    if removed or added:
        yield f"@@ -{begin + 1},{len(removed)} +{begin + 1},{len(added)} @@"
    yield from (f"-{line}" for line in removed)
    yield from (f"+{line}" for line in added)


def _alike(one: list[str], other: list[str]) -> int:
    """How many lines both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _line(text: str) -> Line:
    kinds = {"---": "place", "+++": "place", "@@ ": "place"}
    kind = kinds.get(text[:3]) or {"+": "added", "-": "removed"}.get(text[:1], "same")
    return Line(kind, text)
