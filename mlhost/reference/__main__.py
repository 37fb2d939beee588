"""`python -m mlhost.reference FOLDER`: write every page of the reference into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from mlhost.reference import PAGES

if __name__ == "__main__":
    for name, page in PAGES.items():
        Path(sys.argv[1], name).write_text(page(), "utf-8")
