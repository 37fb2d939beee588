"""What two versions of a service, or two snapshots, do not have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from difflib import unified_diff
from typing import Any

from mlhost.client.snapshots import Contents

FACTS = {  # of a version, as the server tells of it
    "description": "description",
    "runtimeType": "runtime",
    "placement": "placement",
    "pythonVersion": "Python",
    "operationId": "operation id",
}
CODE = {"initCode": "init.py", "code": "code.py"}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs; "" where there is none."""

    kind: str  # input, output, output file, object, file, package, or a fact's title
    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs between an old and a new one."""

    changes: list[Change]
    code: list[str]  # lines of a unified diff
    unknown: str = ""  # why what they hold was not compared

    @property
    def is_none(self) -> bool:
        """Whether nothing was found to differ."""
        return not self.changes and not self.code

    def told(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def of_contents(old: Contents, new: Contents) -> list[Change]:
    """Objects, files and packages that differ. An object counts as the same if it looks the same."""
    return [
        *_changed("object", _objects(old), _objects(new)),
        *_changed("file", _files(old), _files(new)),
        *_changed("package", old.packages, new.packages),
        *_changed("fact", {"Python": old.python}, {"Python": new.python}),
    ]


def of_versions(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    """Signature, code and facts of two versions, as the server tells of them."""
    changes = [
        *_changed("input", _types(old, "input"), _types(new, "input")),
        *_changed("output", _types(old, "output"), _types(new, "output")),
        *_changed(
            "output file", dict.fromkeys(old["outputFileNames"], "yes"), dict.fromkeys(new["outputFileNames"], "yes")
        ),
        *_changed("fact", _facts(old), _facts(new)),
    ]
    lines = [line for field, file in CODE.items() for line in _lines(file, old, new, field)]
    return Difference(changes, lines)


def _lines(file: str, old: Mapping[str, Any], new: Mapping[str, Any], field: str) -> Iterable[str]:
    before, after = ((each.get(field) or "").splitlines() for each in (old, new))
    was, is_now = (f"{each['name']}/{each['version']}/{file}" for each in (old, new))
    return unified_diff(before, after, was, is_now, lineterm="")


def _changed(kind: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[Change]:
    return [
        Change(kind, name, old.get(name, ""), new.get(name, ""))
        for name in {**old, **new}
        if old.get(name, "") != new.get(name, "")
    ]


def _types(version: Mapping[str, Any], way: str) -> dict[str, str]:
    return {each["name"]: each["type"] for each in version[f"{way}ParameterDefinitions"]}


def _facts(version: Mapping[str, Any]) -> dict[str, str]:
    return {title: str(version[field]) for field, title in FACTS.items() if version.get(field)}


def _objects(contents: Contents) -> dict[str, str]:
    return {name: described(each) for name, each in contents.objects.items()}


def described(thing: Mapping[str, Any]) -> str:
    """An object of a snapshot in one line: type, shape, size and how it prints."""
    size = f"{thing['bytes']} bytes" if "bytes" in thing else ""
    return ", ".join(str(part) for part in (thing.get("type"), thing.get("shape"), size, thing.get("repr")) if part)


def _files(contents: Contents) -> dict[str, str]:
    return {name: f"{size} bytes, CRC {crc:08x}" for name, (size, crc) in contents.files.items()}
