"""Imports go down only: the module map of the house, and the test that keeps it."""

import ast
import functools
import gc
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mlhost"

# Lowest first. A part may import from floors below its own, and from itself.
FLOORS = [
    {"__init__"},
    {"errors"},
    {"names", "places", "config", "logs", "metrics", "realtime"},
    {"params", "audit"},
    {"runtime", "openapi", "codegen", "compat"},
    {"executors", "inprocess", "client"},
    {"scoring", "store"},
    {"auth", "backups"},
    {"sessions"},
    {"snapshots", "engines"},
    {"services"},
    {"pools", "batches", "contents"},
    {"host"},
    {"http"},
    {"demo", "doctor", "notebook", "remote", "testing"},
    {"bench"},
    {"cli", "pytest_plugin"},
    {"__main__", "reference"},
]
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}
# What others call by the name of the package alone, whatever floor it is on: IPython's `%load_ext mlhost`.
DOORS = {("__init__", "notebook")}
# What only workers load, and only when user code or a parameter's type asks for it.
HEAVY = {"numpy", "pandas", "sklearn", "scipy", "dill", "onnx", "onnxruntime", "skl2onnx"}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@functools.cache
def tree(path: Path) -> ast.Module:
    """A module's syntax tree; no collection meanwhile: a finalizer that compiles something confuses CPython 3.11's."""
    gc.disable()
    try:
        return ast.parse(path.read_text("utf-8"))
    finally:
        gc.enable()


def imported_parts(path: Path) -> set[str]:
    """The parts of mlhost that a module imports, deferred imports included."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module == "mlhost":
            found |= {alias.name if alias.name in FLOOR else "__init__" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlhost."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("mlhost.")}
    return found


def test_every_part_of_the_package_has_a_floor() -> None:
    assert {part_of(path) for path in modules()} == set(FLOOR)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_floors_below_its_own(path: Path) -> None:
    own = part_of(path)
    others = {part for part in imported_parts(path) if part != own and (own, part) not in DOORS}
    wrong = {part for part in others if FLOOR[part] >= FLOOR[own]}
    assert not wrong, f"{path.relative_to(PACKAGE)} (floor {FLOOR[own]}) imports {wrong}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_imports_the_scientific_stack_when_it_is_itself_imported(path: Path) -> None:
    for node in tree(path).body:
        tops = set()
        if isinstance(node, ast.Import):
            tops = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            tops = {(node.module or "").split(".")[0]}
        assert not tops & HEAVY, f"{path.relative_to(PACKAGE)} imports {tops & HEAVY}"
