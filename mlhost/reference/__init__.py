"""The references in `docs/reference`, written from the program itself; `scripts/reference` writes them anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mlhost.reference import api, commands, settings

PAGES: Mapping[str, Callable[[], str]] = {"settings.md": settings.page, "api.md": api.page, "cli.md": commands.page}
