"""The outcome of one run of a session's code, as plain data."""

from __future__ import annotations

from typing import TypedDict


class Output(TypedDict):
    """One named result."""

    name: str
    value: bytes  # JSON text


class Outcome(TypedDict):
    """What one execution came to (contract section 1.4); the console travels beside it."""

    error: str  # "" when the code ran to its end, else "Type: message"
    outputs: list[Output]
    changed_files: list[str]
    objects: list[str]  # names in the workspace afterwards
    files: list[str]  # names in the working directory afterwards
