"""`python -m mlhost` is the `mlhost` command."""

from mlhost.cli import main

main()
