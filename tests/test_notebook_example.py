"""docs/notebook.ipynb, run in a kernel of its own: what is stored in it is what a run shows."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat

from mlhost.testing import serve
from tests.parts import ROOT

EXAMPLE = ROOT / "docs" / "notebook.ipynb"
WRITTEN = "http://127.0.0.1:12800"


def shown(notebook: Any, url: str) -> list[tuple[str, str]]:
    """Each code cell and its outputs as text."""
    return [(cell.source, str(cell.outputs).replace(url, WRITTEN)) for cell in notebook.cells if "outputs" in cell]


def test_the_notebook_shows_what_a_run_of_it_shows(tmp_path: Path) -> None:
    with serve(profile="isolated") as server:
        subprocess.run(
            [Path(sys.executable).parent / "jupyter-execute", EXAMPLE, "--output", tmp_path / "ran"],
            check=True,
            capture_output=True,
            timeout=50,
            env=os.environ | {"MLHOST_URL": server.url, "MLHOST_PASSWORD": server.password},
        )
    stored, ran = (nbformat.read(path, as_version=4) for path in (EXAMPLE, tmp_path / "ran.ipynb"))  # type: ignore[no-untyped-call]
    assert shown(ran, server.url) == shown(stored, WRITTEN)
    assert sum(cell.cell_type == "code" for cell in stored.cells) == 9


def test_the_notebook_holds_nothing_of_whoever_ran_it() -> None:
    text = EXAMPLE.read_text("utf-8")
    assert "site-packages" not in text
    assert '"execution": {' not in text
