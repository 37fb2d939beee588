"""mlhost: from a Python variable to an authenticated, versioned REST service, in one small server."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__version__ = "0.1.0"


def load_ipython_extension(shell: "InteractiveShell") -> None:
    """What `%load_ext mlhost` in a notebook calls; the magics are those of `mlhost.notebook`."""
    from mlhost.notebook import load

    load(shell)
