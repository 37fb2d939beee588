"""The `mlhost` command: a file for each group of its commands."""

from __future__ import annotations

import click

from mlhost import __version__, bench
from mlhost.cli import (
    auth,
    backups,
    batches,
    codegen,
    completion,
    logins,
    serve,
    services,
    sessions,
    settings,
    snapshots,
    tls,
    tokens,
    upkeep,
    users,
)
from mlhost.cli.exits import EPILOG

__all__ = ["main"]


@click.group(epilog=EPILOG)
@click.version_option(__version__, prog_name="mlhost")
def main() -> None:
    """A small model server: from a Python variable to an authenticated, versioned REST service."""


for command in (
    serve.serve,
    users.user,
    auth.auth,
    tls.tls,
    logins.login,
    logins.logout,
    services.service,
    sessions.session,
    snapshots.snapshot,
    batches.batch,
    tokens.token,
    bench.command,
    backups.backup,
    backups.restore,
    upkeep.examine,
    upkeep.show_audit,
    settings.config,
    settings.init,
    completion.completion,
    codegen.generate,
):
    main.add_command(command)
