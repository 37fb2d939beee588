"""The `mlhost` command: a file for each group of its commands, loaded when it is asked for.

A server takes half a second to load, and most commands are none.
"""

from __future__ import annotations

from importlib import import_module

import click

from mlhost import __version__
from mlhost.cli.exits import EPILOG

__all__ = ["main"]

# Where each command is.
COMMANDS = {
    "audit": "mlhost.cli.upkeep:show_audit",
    "auth": "mlhost.cli.auth:auth",
    "backup": "mlhost.cli.backups:backup",
    "batch": "mlhost.cli.batches:batch",
    "bench": "mlhost.bench:command",
    "codegen": "mlhost.cli.codegen:generate",
    "completion": "mlhost.cli.completion:completion",
    "config": "mlhost.cli.settings:config",
    "doctor": "mlhost.cli.upkeep:examine",
    "init": "mlhost.cli.settings:init",
    "login": "mlhost.cli.logins:login",
    "logout": "mlhost.cli.logins:logout",
    "restore": "mlhost.cli.backups:restore",
    "serve": "mlhost.cli.serve:serve",
    "service": "mlhost.cli.services:service",
    "session": "mlhost.cli.sessions:session",
    "snapshot": "mlhost.cli.snapshots:snapshot",
    "tls": "mlhost.cli.tls:tls",
    "token": "mlhost.cli.tokens:token",
    "user": "mlhost.cli.users:user",
}


class Commands(click.Group):
    """A group of the commands above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=Commands, epilog=EPILOG)
@click.version_option(__version__, prog_name="mlhost")
def main() -> None:
    """A small model server: from a Python variable to an authenticated, versioned REST service."""
