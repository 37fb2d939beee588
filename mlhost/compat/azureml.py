"""Lets `azureml-model-management-sdk` 1.0.1b6.post1, untouched, run on Python 3.8 and later.

Import it before the SDK (`import mlhost.compat.azureml`), or once for a whole environment:

    python -m mlhost.compat.azureml install      # uninstall takes it back

Where mlhost itself cannot be installed, copy this one file into the environment's site-packages under a name of your
own, say sdk_compat.py, and run `python -m sdk_compat install`: it needs Python 3.8 and nothing else, so no newer syntax
in here. Nothing on disk is changed but two modules of the SDK as they are imported: `azureml.common.utils`, which makes
the functions of services from a code object of Python 3.7's shape (and fails from the fourth input on), and
`azureml.deploy.deploy_client`, which imports `imp`, gone since 3.12.
"""

from __future__ import annotations

import os
import sys
import types
from importlib import machinery, util
from typing import Any

UTILS, SERVICE, CLIENT = "azureml.common.utils", "azureml.deploy.server.service", "azureml.deploy.deploy_client"
# Only where the module is still there; forgotten again, so that `python -m` finds it not loaded yet.
PTH = (
    "import importlib.util as u, sys; "
    'u.find_spec("{top}") and (__import__("{module}"), sys.modules.pop("{module}"))  # azureml SDK on Python 3.8+\n'
)


def function_beget(fn: Any, fn_name: str, fn_args: list[str], doc: str = "") -> Any:
    """The function that consumes a service; `fn_args` are self and the names of the inputs."""
    import inspect  # not at every start of an interpreter

    names = fn_args[1:]

    def consume(service: Any, /, *values: Any, **named: Any) -> Any:
        given = dict(zip(names, values), **named)
        if len(given) != len(values) + len(named) or set(given) != set(names):
            raise TypeError(f"{fn_name}() takes {', '.join(names) or 'no inputs'}")
        return service._consume({name: given[name] for name in names})

    consume.__name__, consume.__doc__ = fn_name, doc
    if all(name.isidentifier() for name in names):
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in fn_args]
        vars(consume)["__signature__"] = inspect.Signature(parameters)
    return consume


class Imp(types.ModuleType):
    """What the SDK uses of `imp`."""

    def find_module(self, name: str, path: list[str]) -> tuple[None, str, None]:
        """A file below the current folder, as imp's would, or else anywhere on the path."""
        for folder in ["", *sys.path]:
            file = os.path.join(folder, path[0], name + ".py")
            if os.path.isfile(file):
                return None, file, None
        raise ImportError("No module named " + name)

    def load_module(self, name: str, file: None, filename: str, description: None) -> Any:
        """What was found."""
        return self.load_source(name, filename)

    def load_source(self, name: str, filename: str) -> Any:
        """A module from a file."""
        spec: Any = util.spec_from_file_location(name, filename)
        module = sys.modules[name] = util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


IMP = Imp("imp")


class Finder:
    """Finds the two modules as usual, and patches them when they are loaded."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        """The spec of one of the two; None, for the next finder, of all others."""
        spec: Any = machinery.PathFinder.find_spec(name, path) if name in (UTILS, CLIENT) else None
        if spec is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            before = sys.modules.get("imp")
            sys.modules["imp"] = IMP
            try:
                load(module)
            finally:
                sys.modules.pop("imp")
                if before:
                    sys.modules["imp"] = before
            patch(module)

        spec.loader.exec_module = exec_module
        return spec


def patch(module: Any) -> None:
    """Put our functions in the place of the SDK's."""
    if module.__name__ == CLIENT:
        module.imp = IMP
    else:
        module.function_beget = function_beget


def main(arguments: list[str], module: str) -> str | None:
    """`install` or `uninstall`; brings the text to end with if that failed."""
    import sysconfig

    if arguments not in (["install"], ["uninstall"]):
        return f"usage: python -m {module} install | uninstall"
    file = os.path.join(sysconfig.get_path("purelib"), module.replace(".", "_") + ".pth")
    is_there = os.path.exists(file)
    try:
        if arguments == ["install"]:
            with open(file, "w") as opened:
                opened.write(PTH.format(top=module.split(".", maxsplit=1)[0], module=module))
            print(("It was installed already: " if is_there else "Installed: every Python start here reads ") + file)
        elif is_there:
            os.remove(file)
            print("Removed " + file)
        else:
            print("It was not installed: there is no " + file)
    except OSError as fault:
        return f"It cannot be done: {fault}"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], __spec__.name if __spec__ else "mlhost.compat.azureml"))
sys.meta_path.insert(0, Finder)
for each in (UTILS, SERVICE, CLIENT):
    if each in sys.modules:
        patch(sys.modules[each])
