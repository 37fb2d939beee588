"""Names of the document as names of Python, the way AutoRest made them: `executeCode` is `execute_code`.

A name that Python or the generated code has taken gets an underscore (`from_`), a second one of a kind a number.
"""

from __future__ import annotations

import keyword
import re
import unicodedata

from mlhost.errors import Invalid

# What annotations and bodies in generated classes say, so that no field or method may mean something else there.
IN_CLASSES = frozenset(
    {"str", "int", "float", "bool", "bytes", "list", "dict", "classmethod", "dataclasses", "datetime", "support"}
    | {"models", "cls", "self", "to_json", "from_json", "additional_properties"}
)
IN_CALLS = frozenset({"self", "support", "models", "custom_headers", "response"})
IN_CLIENT = IN_CLASSES | {"base_url", "session", "timeout_seconds", "close"}
CLASSES = frozenset({"Any", "Iterator", "HttpOperationError"})
MODULES = frozenset({"models", "support"})


def check_names(namespace: str, client_name: str) -> None:
    """Invalid unless the two can be the names of a package and of a class."""
    for part in namespace.split("."):
        if not part.isidentifier() or keyword.iskeyword(part):
            raise Invalid(f'"{namespace}" cannot be the name of a package: "{part}" is no Python name.')
    if namespace.split(".", maxsplit=1)[0] == "requests":
        raise Invalid('The package cannot be named "requests": it would hide the one that it needs.')
    if not client_name.isidentifier() or keyword.iskeyword(client_name):
        raise Invalid(f'"{client_name}" cannot be the name of a class.')


def snake(name: str) -> str:
    """`InitialPoolSize` as `initial_pool_size`; a run of capitals is one word, of more than two its last is the next's.

    So `DeployRClient` is `deploy_rclient` and `SQLServer` is `sql_server`, as AutoRest named them.
    """
    return _identifier(re.sub(r"[A-Z]+", _word, _words(name)).lower(), "value")


def pascal(name: str) -> str:
    """`data.frame` as `DataFrame`; capitals stay."""
    return _identifier("".join(word[:1].upper() + word[1:] for word in _words(name).split("_")), "Value")


class Names:
    """Gives each name out once."""

    def __init__(self, taken: frozenset[str] = frozenset()) -> None:
        self._reserved = taken
        self._given: set[str] = set()

    def take(self, name: str) -> str:
        """`name`, or the nearest to it that is free."""
        if name in self._reserved or keyword.iskeyword(name):
            name += "_"
        free, number = name, 1
        while free in self._given:
            number += 1
            free = f"{name.rstrip('_')}_{number}"
        self._given.add(free)
        return free


def _words(name: str) -> str:
    return re.sub(r"\W+", "_", unicodedata.normalize("NFKC", name)).strip("_")


def _word(capitals: re.Match[str]) -> str:
    text, name = capitals.group().lower(), capitals.string
    before = "" if capitals.start() == 0 or name[capitals.start() - 1] == "_" else "_"
    if len(text) > 2 and name[capitals.end() : capitals.end() + 1].isalpha():
        return f"{before}{text[:-1]}_{text[-1]}"
    return before + text


def _identifier(name: str, otherwise: str) -> str:
    if name.isidentifier():
        return name
    kept = re.sub(r"[^0-9A-Za-z_]+", "", name) or otherwise
    return kept if kept.isidentifier() else f"n{kept}" if otherwise.islower() else f"N{kept}"
