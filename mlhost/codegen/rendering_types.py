"""Types of the plan as Python: what annotations say, and what reads the JSON of one."""

from __future__ import annotations

from mlhost.codegen.layout import Call, Expression
from mlhost.codegen.plan import Listing, Mapped, Scalar, Type

ANNOTATIONS = {
    "text": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "date": "datetime.date",
    "moment": "datetime.datetime",
    "binary": "bytes",
    "content": "support.Content",
    "anything": "Any",
}


def annotation(kind: Type, within: str = "") -> str:
    """What an annotation says; `within` is `models.` outside the module of the models."""
    match kind:
        case Scalar(name):
            return ANNOTATIONS[name]
        case Listing(items):
            return f"list[{annotation(items, within)}]"
        case Mapped(values):
            return f"dict[str, {annotation(values, within)}]"
        case _ if kind.is_choice:
            return f"{within}{kind.name} | str"
        case _:
            return f"{within}{kind.name}"


def optional(told: str) -> str:
    """The annotation of what may be None too."""
    return told if told == "Any" else f"{told} | None"


def reader(kind: Type, within: str = "") -> Expression:
    """The function that reads one from JSON."""
    match kind:
        case Scalar(name):
            return f"support.{name}"
        case Listing(items):
            return Call("support.list_of", [reader(items, within)])
        case Mapped(values):
            return Call("support.dict_of", [reader(values, within)])
        case _ if kind.is_choice:
            return Call("support.choice_of", [f"{within}{kind.name}"])
        case _:
            return f"{within}{kind.name}.from_json"
