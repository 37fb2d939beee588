"""A typed function as a service: its inputs and outputs from the annotations, itself and what it uses as a pickle.

The pickle holds by value the function, the objects it closes over, and whatever it uses of modules that are not
installed in this environment (a notebook, a script, a project's own folder), since the worker cannot import those. What
is installed goes by name. It is opened in the service's worker, which must run the same minor version of Python.
"""

from __future__ import annotations

import inspect
import numbers
import os
import pickle
import sys
import sysconfig
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from mlhost.client.pickles import dumped
from mlhost.client.values import NamedTypes
from mlhost.errors import Invalid
from mlhost.params.types import canonical, lookup

ANSWER = "answer"  # what the one output of a function is called, as the original's SDK does (contract section 5)
FUNCTION = "mlhost_function"  # the variables of the service's own namespace
PICKLED = "mlhost_pickled"
RETURNED = "mlhost_returned"
UNTYPED = "any"
STANDARD = tuple(sysconfig.get_paths()[each] + os.sep for each in ("stdlib", "platstdlib"))
INSTALLED = {"site-packages", "dist-packages"}  # folders, wherever they are

# By name, so that nothing is imported to compare with.
_BY_NAME = {
    "numpy.ndarray": "vector",
    "numpy.matrix": "matrix",
    "numpy.bool": "logical",
    "numpy.bool_": "logical",
    "pandas.DataFrame": "data.frame",
    "pandas.core.frame.DataFrame": "data.frame",
    "pandas.Series": "vector",
    "pandas.core.series.Series": "vector",
}

INIT = """\
if __import__("sys").version_info[:2] != {version}:
    raise RuntimeError("published from Python {dotted}; this worker runs another version")
{function} = __import__("pickle").loads({pickled})
del {pickled}
"""


@dataclass(frozen=True, slots=True)
class Published:
    """What of a function makes a service."""

    inputs: NamedTypes
    outputs: NamedTypes
    code: str
    init: str
    pickled: bytes  # a pickle of the bytes that `init` opens
    description: str | None
    defaults: Mapping[str, Any]


def of(function: Callable[..., Any]) -> Published:
    """The function as a service; Invalid says which annotation is missing or what cannot be pickled."""
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise Invalid("A service is a plain function: neither async nor a generator.")
    hints, parameters = _hints(function), _parameters(function)
    for name in (*parameters, "return"):
        if name not in hints:
            what = "what the function returns" if name == "return" else f"the parameter {name!r}"
            raise Invalid(
                f"{what} has no type; annotate it, such as float, list[float] or pandas.DataFrame", field=name
            )
    outputs, reading = _outputs(hints["return"])
    given = ", ".join(f"{name}={_argument(name, hints[name])}" for name in parameters)
    version = sys.version_info[:2]
    return Published(
        inputs=tuple((name, type_of(hints[name])) for name in parameters),
        outputs=outputs,
        code=f"{RETURNED} = {FUNCTION}({given})\n{reading}",
        init=INIT.format(version=version, dotted=".".join(map(str, version)), function=FUNCTION, pickled=PICKLED),
        pickled=pickle.dumps(_by_value(function)),
        description=(inspect.getdoc(function) or "").partition("\n")[0] or None,
        defaults={name: each.default for name, each in parameters.items() if each.default is not each.empty},
    )


def of_model(model: Any) -> Published:
    """A fitted model: `rows`, a matrix, to what its `predict` says of each, a vector."""
    predict = model.predict

    def answer(rows: Annotated[Any, "matrix"]) -> list[Any]:
        answers: list[Any] = predict(rows)
        return answers

    answer.__doc__ = f"The predictions of {type(model).__name__} for rows."
    return of(answer)


def spelled(types: Mapping[str, Any]) -> NamedTypes:
    """Names with types, each in the server's spelling or as Python's."""
    return tuple((name, type_of(kind)) for name, kind in types.items())


def type_of(hint: Any) -> str:
    """The server's type for an annotation; "any" for what it has no type for, which travels as JSON has it.

    `Annotated[numpy.ndarray, "matrix"]` says which it is where Python's type does not.
    """
    if isinstance(hint, str):
        return canonical(hint)
    if get_origin(hint) is Annotated:
        named = [each for each in get_args(hint)[1:] if isinstance(each, str) and lookup(each).name]
        return canonical(named[0]) if named else type_of(get_args(hint)[0])
    if get_origin(hint) in (typing.Union, UnionType):
        kinds = {type_of(each) for each in get_args(hint) if each is not NoneType}
        return kinds.pop() if len(kinds) == 1 else UNTYPED
    alias = get_origin(hint) or hint
    if hasattr(alias, "__value__"):  # `type X = ...`, as numpy's NDArray is since 2.5
        return type_of(alias.__value__)
    return _type_of_class(alias, get_args(hint))


def _type_of_class(kind: Any, items: tuple[Any, ...]) -> str:
    if not isinstance(kind, type):
        return UNTYPED
    if (known := _BY_NAME.get(f"{kind.__module__}.{kind.__qualname__}")) is not None:
        return known
    for ours, theirs in _CLASSES:
        if issubclass(kind, ours):
            return theirs
    if issubclass(kind, Collection) and not issubclass(kind, Mapping | bytes | bytearray):
        of_rows = bool(items) and type_of(items[0]) == "vector"
        return "matrix" if of_rows else "vector"
    return UNTYPED


_CLASSES: tuple[tuple[type, str], ...] = (  # bool is an int, and an int a real number
    (bool, "logical"),
    (numbers.Integral, "integer"),
    (numbers.Real, "numeric"),
    (str, "character"),
)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as fault:
        raise Invalid(f"The annotations cannot be read: {fault}") from fault


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(function).parameters)
    for name, each in parameters.items():
        if each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
            raise Invalid(f"{each} cannot be an input: inputs go by name, and all are declared.", field=name)
    return parameters


def _argument(name: str, hint: Any) -> str:
    """A vector arrives as an array where there is numpy; a function that asks for a list gets a list."""
    kind = get_origin(hint) or hint
    wants_list = isinstance(kind, type) and issubclass(kind, list | tuple)
    return f"{name}.tolist() if hasattr({name}, 'tolist') else {name}" if wants_list else name


def _outputs(hint: Any) -> tuple[NamedTypes, str]:
    """Names and types of the outputs, and the code that reads them; a record's fields are an output each."""
    record = get_origin(hint) or hint
    if typing.is_typeddict(record):
        names, form = list(get_type_hints(record)), "{name} = {returned}[{name!r}]"
    elif isinstance(record, type) and (is_dataclass(record) or hasattr(record, "_fields")):
        own = [each.name for each in fields(record)] if is_dataclass(record) else list(record._fields)
        names, form = own, "{name} = {returned}.{name}"
    elif hint is NoneType:
        return (), ""
    else:
        return ((ANSWER, type_of(hint)),), f"{ANSWER} = {RETURNED}"
    hints = get_type_hints(record, include_extras=True)
    types = tuple((name, type_of(hints.get(name, Any))) for name in names)
    return types, "\n".join(form.format(name=name, returned=RETURNED) for name in names)


def _by_value(function: Callable[..., Any]) -> bytes:
    with _own_modules_by_value():
        return dumped(function)


@contextmanager
def _own_modules_by_value() -> Iterator[None]:
    """cloudpickle takes along what is used of modules that are not installed, instead of naming them."""
    import cloudpickle

    registered = []
    for name in {each.partition(".")[0] for each in list(sys.modules)} - cloudpickle.list_registry_pickle_by_value():
        module = sys.modules.get(name)
        if module is not None and _is_own(name, getattr(module, "__file__", None), getattr(module, "__path__", ())):
            cloudpickle.register_pickle_by_value(module)
            registered.append(module)
    try:
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _is_own(name: str, file: str | None, folders: Any) -> bool:
    """Whether a module belongs to what the program is made of rather than to what is installed."""
    if name in sys.stdlib_module_names or name in ("__main__", "__mp_main__", "mlhost"):
        return False  # cloudpickle takes the main program along anyway, and mlhost is where the worker is
    if file is None:  # a folder without __init__.py; or built in
        file = next(iter(folders), None)
    return isinstance(file, str) and not file.startswith(STANDARD) and INSTALLED.isdisjoint(Path(file).parts)
