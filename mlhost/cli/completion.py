"""`mlhost completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM, VARIABLE = "mlhost", "_MLHOST_COMPLETE"  # the latter is what click looks for in the environment
SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what has SHELL complete commands and options.

    \b
      bash: eval "$(mlhost completion bash)"         in ~/.bashrc
      zsh:  eval "$(mlhost completion zsh)"          in ~/.zshrc, after compinit
      fish: mlhost completion fish | source          in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, shell
    made = kind(context.find_root().command, {}, PROGRAM, VARIABLE)
    click.echo(made.source_template % made.source_vars())
