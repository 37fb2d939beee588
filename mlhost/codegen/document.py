"""The Swagger document as it is written: fetched, parsed, and walked with every place's JSON pointer at hand.

JSON only; references stay inside the document.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import unquote
from urllib.request import urlopen

from mlhost.errors import Invalid

FETCH_SECONDS = 60


def fetch(source: str) -> bytes:
    """The bytes of a file, of an http(s) URL, or of the standard input for `-`."""
    if source == "-":
        return sys.stdin.buffer.read()
    try:
        if source.startswith(("http://", "https://")):
            with urlopen(source, timeout=FETCH_SECONDS) as answer:  # noqa: S310 - http and https only
                content: bytes = answer.read()
                return content
        return Path(source).read_bytes()
    except (URLError, OSError) as fault:
        hint = " Fetch it with your token and give it as -." if getattr(fault, "code", None) in (401, 403) else ""
        raise Invalid(f"{source} cannot be read: {fault}.{hint}") from fault


def parse(document: bytes) -> Place:
    """The root of a Swagger 2.0 document."""
    try:
        content = json.loads(document)
    except ValueError as fault:
        raise Invalid(f"The document is not JSON: {fault}. YAML has to be converted first.") from fault
    root = Place(content, "#")
    if not isinstance(content, dict):
        raise root.fault("a Swagger document is an object")
    if "openapi" in content:
        raise root.need("openapi").fault("OpenAPI 3 is not supported; give a Swagger 2.0 document")
    if root.need("swagger").value != "2.0":
        raise root.need("swagger").fault('only Swagger "2.0" is supported')
    return root


@dataclass(frozen=True, slots=True)
class Place:
    """A value in the document and the JSON pointer to it."""

    value: Any
    pointer: str
    root: Place | None = field(default=None, repr=False)

    def fault(self, why: str) -> Invalid:
        """An error that names this place."""
        return Invalid(f"{self.pointer}: {why}.", pointer=self.pointer)

    def get(self, key: str) -> Place | None:
        """The member of this object under `key`; None where it is missing or null."""
        member = self.members().get(key)
        return None if member is None or member.value is None else member

    def need(self, key: str) -> Place:
        """The member under `key`, which has to be there."""
        member = self.get(key)
        if member is None:
            raise self.fault(f'"{key}" is missing')
        return member

    def members(self) -> dict[str, Place]:
        """The members of this object, in the document's order."""
        if not isinstance(self.value, dict):
            raise self.fault("an object was expected here")
        return {key: self._below(key, value) for key, value in self.value.items()}

    def items(self) -> list[Place]:
        """The items of this array."""
        if not isinstance(self.value, list):
            raise self.fault("an array was expected here")
        return [self._below(str(index), value) for index, value in enumerate(self.value)]

    def text(self, key: str, default: str = "") -> str:
        """The text under `key`."""
        member = self.get(key)
        if member is None:
            return default
        if not isinstance(member.value, str):
            raise member.fault("a string was expected here")
        return member.value

    def texts(self, key: str) -> list[str]:
        """The array of strings under `key`; empty where there is none."""
        member = self.get(key)
        items = member.items() if member else []
        for item in items:
            if not isinstance(item.value, str):
                raise item.fault("a string was expected here")
        return [item.value for item in items]

    def flag(self, key: str) -> bool:
        """Whether `key` is there and true."""
        member = self.get(key)
        if member is not None and not isinstance(member.value, bool):
            raise member.fault("true or false was expected here")
        return member is not None and bool(member.value)

    def resolved(self) -> Place:
        """This place, or what its `$ref` leads to in the end."""
        place, seen = self, {self.pointer}
        while isinstance(place.value, dict) and "$ref" in place.value:
            place = place._target()
            if place.pointer in seen:
                raise self.fault("this reference leads back to itself")
            seen.add(place.pointer)
        return place

    def _target(self) -> Place:
        reference = self.text("$ref")
        if not reference.startswith("#/"):
            raise self.fault(f'"{reference}" leads out of the document; only references inside it are supported')
        place = self.root or self
        for part in reference[2:].split("/"):
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if not isinstance(place.value, dict) or key not in place.value:
                raise self.fault(f'there is no "{reference}"')
            place = place._below(key, place.value[key])
        return place

    def _below(self, key: str, value: Any) -> Place:
        escaped = key.replace("~", "~0").replace("/", "~1")
        return Place(value, f"{self.pointer}/{escaped}", self.root or self)
