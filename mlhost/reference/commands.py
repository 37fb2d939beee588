"""The reference of the command line: every command with its arguments and options, and what exit codes mean."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from mlhost.cli import main
from mlhost.cli.exits import MEANINGS
from mlhost.reference.tables import code, table

INTRODUCTION = """\
# Command line

<!-- Written by scripts/reference; change the commands in mlhost/cli instead. -->

`mlhost COMMAND --help` tells the same. Commands that ask a running server find it by `--url`, `MLHOST_URL`, or where
`mlhost login` was last; as whom, by that login or by `MLHOST_TOKEN`, or `MLHOST_USER` and `MLHOST_PASSWORD`. What goes
wrong is one line on stderr.
"""
TITLES = ("option", "what it does", "variable")
VERBATIM = "\b"  # what click takes for the mark of a paragraph that is not to be wrapped


def page() -> str:
    """All commands, a section each, after the exit codes."""
    codes = table(("code", "what it means"), [(code(str(number)), meaning) for number, meaning in MEANINGS.items()])
    sections = (_section(command, context) for command, context in _every(main, None))
    return "\n".join([INTRODUCTION, f"## Exit codes\n\n{codes}", *sections])


def _every(command: click.Command, parent: click.Context | None) -> Iterator[tuple[click.Command, click.Context]]:
    """All commands below a group in alphabetical order, the groups themselves included."""
    context = click.Context(command, parent=parent, info_name=command.name if parent else "mlhost")
    if parent is not None:
        yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, name
            yield from _every(child, context)


def _section(command: click.Command, context: click.Context) -> str:
    level = "##" if isinstance(command, click.Group) or context.parent == context.find_root() else "###"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    rows = [_row(option, context) for option in command.params if isinstance(option, click.Option)]
    parts = [f"{level} {context.command_path}\n", f"```\n{usage}\n```\n", *_paragraphs(command.help or "")]
    return "\n".join([*parts, *([table(TITLES, rows)] if rows else [])])


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith(VERBATIM):
            lines = inspect.cleandoc(paragraph.removeprefix(VERBATIM))
            yield f"```\n{lines}\n```\n"
        else:
            yield f"{paragraph}\n"


def _row(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    record = option.get_help_record(context)
    assert record is not None, f"{context.command_path} has a hidden option"
    names, sentence = record
    return code(names), " ".join(sentence.split()), code(str(option.envvar)) if option.envvar else ""
