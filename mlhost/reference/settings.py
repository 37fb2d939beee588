"""The reference of settings: each with its type, default, meaning, variable and flag."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

from msgspec import Meta

from mlhost.cli.serve import serve
from mlhost.config import FILE_NAME, PREFIX, SECTIONS, SETTINGS, Setting, toml_value
from mlhost.reference.tables import code, table

INTRODUCTION = f"""\
# Settings

<!-- Written by scripts/reference; change mlhost/config.py instead. -->

A flag of `mlhost serve` counts before the environment, the environment before the file, and the file before the
defaults. The file is TOML: the one that `--config` names, else `{FILE_NAME}` in the current directory. In the
environment a setting is `{PREFIX}<SECTION>_<NAME>`; commas separate the items of a list. A key that is no setting stops
the start. `mlhost config show --origin` tells which value is in force and where it came from, and
`config/{FILE_NAME}` is a file of all settings to begin with.
"""
TITLES = ("setting", "what it is", "type", "default", "variable")
WORDS = {bool: "true or false", str: "text", int: "whole number", float: "number"}
LARGEST = 1_000_000  # bound that says something; those beyond keep infinity out, and what the system would not take


def page() -> str:
    """All settings, a section a table."""
    return "\n".join([INTRODUCTION, *(_section(section) for section in SECTIONS)])


def _section(section: str) -> str:
    record = SECTIONS[section]
    rows = [row for row in SETTINGS.values() if row.section == section]
    return f"## {section}\n\n{record.__doc__}\n\n{table(TITLES, map(_row, rows))}"


def _row(row: Setting) -> tuple[str, ...]:
    names = code(row.name) + (f", {code(row.flag)}" if row.key in _flags() else "")
    return names, row.sentence, told(row.kind), code(toml_value(row.default)), code(row.variable)


def _flags() -> Iterable[str]:
    """The settings that `mlhost serve` has flags for."""
    return (f"server.{parameter.name}" for parameter in serve.params)


def told(kind: Any) -> str:
    """A type in words: `Annotated[int, Meta(ge=1)]` is "whole number, 1 or more"."""
    if get_origin(kind) is Annotated:
        inner, *metas = get_args(kind)
        return ", ".join([told(inner), *(bounds for meta in metas if (bounds := _bounds(meta)))])
    if get_origin(kind) is Literal:
        *others, last = map(code, get_args(kind))
        return f"{', '.join(others)} or {last}"
    if get_origin(kind) is tuple:
        return f"list of {told(get_args(kind)[0])}"
    return WORDS[kind]


def _bounds(meta: Meta) -> str:
    if meta.min_length is not None:
        return "not empty"
    most = f", {meta.le:,} at most" if meta.le is not None and meta.le <= LARGEST else ""
    return (f"more than {meta.gt:,}" if meta.ge is None else f"{meta.ge:,} or more") + most
