"""Which modules code imports, and packages that cannot be imported where it runs.

In a subinterpreter compiled modules that were not made for it refuse to load (PEP 489, PEP 684). What users are told
then names the package and the way out.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, TypedDict

from mlhost.runtime.workspace import Workspace

# In what the interpreter, numpy and Cython say of a module that refuses.
SIGNS = ("loading in subinterpreters", "more than once per process", "one interpreter per process")

REFUSED = "refused"  # the detail of an error that says which package could not be imported
REASON = "mlhost_reason"  # the attribute by which an ImportError of ours is known: users shall read "ImportError"


def refuse(packages: Mapping[str, str]) -> None:
    """From now on, importing one of the packages, or of others that turn out to refuse, says why and what to do."""
    sys.meta_path.insert(0, _Refusing(packages))
    create = ExtensionFileLoader.create_module

    def create_module(self: ExtensionFileLoader, spec: ModuleSpec) -> ModuleType | None:
        try:
            return create(self, spec)
        except ImportError as fault:
            if any(sign in str(fault) for sign in SIGNS):
                raise _refusal(package_of(spec.name), str(fault)) from None
            raise

    ExtensionFileLoader.create_module = create_module  # type: ignore[method-assign, assignment]


def refused_by(fault: BaseException | None) -> tuple[str, str] | None:
    """The package whose refusal an error comes from, and why it refused; None if it comes from something else."""
    seen: set[int] = set()
    while fault is not None and id(fault) not in seen:
        if reason := getattr(fault, REASON, ""):
            return str(getattr(fault, "name", "")), str(reason)
        seen.add(id(fault))
        fault = fault.__cause__ or fault.__context__
    return None


def refusal_detail(fault: BaseException) -> dict[str, str]:
    """What an error's details say of the refusal it comes from, if it comes from one."""
    refused = refused_by(fault)
    return {REFUSED: refused[0]} if refused else {}


class Needed(TypedDict):
    """What code imports."""

    modules: list[str]  # that are not imported yet, sorted
    own: list[str]  # packages and modules in the working directory, sorted


def needed(workspace: Workspace, code: str) -> Needed:
    """The modules that import statements of the code name.

    What is imported `from` a package may be a module of it as well. Modules in the working directory are looked into.
    Code that does not compile needs nothing.
    """
    found: set[str] = set()
    own: set[str] = set()
    sources = [code]
    while sources:
        for module in set(_imported(sources.pop())) - found:
            package = package_of(module)
            if package in own or package in sys.stdlib_module_names:
                continue
            if inside := list(_own_sources(workspace.folder, package)):
                own.add(package)
                sources += inside
            elif not _is_here(module):
                found.add(module)
    return Needed(modules=sorted(found), own=sorted(own))


def package_of(module: str) -> str:
    """The top-level package it belongs to."""
    return module.partition(".")[0]


class _Refusing(MetaPathFinder):
    """The first to be asked for a module."""

    def __init__(self, packages: Mapping[str, str]) -> None:
        self._packages = dict(packages)

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> None:
        """Raise an error for a package that is known to refuse; leave all others to the finders behind."""
        del path, target
        if name in self._packages:
            raise _refusal(name, self._packages[name])


def _refusal(package: str, reason: str) -> ImportError:
    error = ImportError(
        f"{package} cannot be imported in a subinterpreter: {reason}. Ask for a process instead: open the session"
        ' (POST /sessions) or publish with "placement": "process".',
        name=package,
    )
    setattr(error, REASON, reason)
    return error


def _imported(code: str) -> Iterator[str]:
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # running it will tell
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")


def _is_here(module: str) -> bool:
    """Whether importing it loads nothing any more."""
    package, _, name = module.rpartition(".")
    return module in sys.modules or name in getattr(sys.modules.get(package), "__dict__", ())


def _own_sources(folder: Path, package: str) -> Iterator[str]:
    for path in (folder / f"{package}.py", *(folder / package).glob("**/*.py")):
        if path.is_file():
            yield path.read_text("utf-8", "replace")
