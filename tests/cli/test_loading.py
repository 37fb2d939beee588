"""What a command loads, and that each one there is can be loaded."""

import subprocess
import sys
from importlib import import_module

import click
import pytest

from mlhost.cli import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_goes_by_the_name_it_is_listed_under(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name


def test_there_is_no_other_command() -> None:
    files = {module for where in COMMANDS.values() for module in [where.partition(":")[0]]}
    commands = {
        found
        for module in files
        for found in vars(import_module(module)).values()
        if isinstance(found, click.Command) and found.callback is not None and found.callback.__module__ == module
    }
    groups = {main.get_command(click.Context(main), name) for name in COMMANDS}
    below = {child for group in groups if isinstance(group, click.Group) for child in group.commands.values()}
    assert commands - below == groups


def test_a_command_that_asks_a_server_loads_none() -> None:
    script = "import sys; from mlhost.cli import main; main(['service', '--help'], standalone_mode=False)"
    script += "; print([name for name in ('mlhost.host', 'mlhost.http.app') if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "[]"
