"""The rendered files on disk: what mlhost codegen made before is replaced, what others made is never touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlhost.codegen.rendering import MARK
from mlhost.errors import Conflict, Invalid


@dataclass(frozen=True, slots=True)
class Written:
    """What was done to the folder; names relative to it."""

    folder: Path
    written: list[str]
    removed: list[str]  # generated before, not any more
    foreign: list[str]  # not ours: left as they were


def write(folder: Path, texts: dict[str, str]) -> Written:
    """Write the files of a package; Conflict, before anything is written, where a file of that name is not ours."""
    try:
        there = sorted(path for path in folder.iterdir() if path.name != "__pycache__") if folder.exists() else []
        ours = {path.name for path in there if _is_ours(path)}
        for name in texts:
            if (folder / name).exists() and name not in ours and name != "py.typed":
                raise Conflict(
                    f"{folder / name} was not made by mlhost codegen and would be overwritten; nothing was written. "
                    "Choose another --output or --namespace, or move the file away."
                )
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, "utf-8", newline="\n")
        removed = sorted(ours - set(texts))
        for name in removed:
            (folder / name).unlink()
    except (OSError, UnicodeError) as fault:
        raise Invalid(f"The package cannot be written: {fault}.") from fault
    foreign = [path.name for path in there if path.name not in ours and path.name not in texts]
    return Written(folder, sorted(texts), removed, foreign)


def _is_ours(path: Path) -> bool:
    if path.suffix != ".py" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().startswith(MARK)
