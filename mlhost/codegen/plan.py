"""What will be generated, as plain records: types, models, operations. Names in here are Python's already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Scalar:
    """A JSON value without parts, named by the function of the generated `support` module that reads it."""

    kind: Literal["text", "integer", "number", "boolean", "date", "moment", "binary", "content", "anything"]


@dataclass(frozen=True, slots=True)
class Listing:
    """An array."""

    items: Type


@dataclass(frozen=True, slots=True)
class Mapped:
    """An object whose names are not known: `additionalProperties` alone."""

    values: Type


@dataclass(frozen=True, slots=True)
class Named:
    """A generated class: a model, or the values of an enum."""

    name: str
    is_choice: bool = False


Type = Scalar | Listing | Mapped | Named
ANYTHING = Scalar("anything")
TEXT = Scalar("text")
CONTENT = Scalar("content")  # a body or file as it is, not JSON


@dataclass(frozen=True, slots=True)
class Field:
    """A property of a model. `default` is Python source."""

    name: str
    wire: str
    type: Type
    required: bool
    nullable: bool
    default: str
    about: str


@dataclass(slots=True)
class Model:
    """A class with fields: the required ones first, each kind in the document's order."""

    name: str
    about: str
    fields: list[Field] = field(default_factory=list)
    rest: Type | None = None  # of further properties, where the document types them

    @property
    def may_be_empty(self) -> bool:
        """Whether it can be read from an empty object."""
        return not any(each.required for each in self.fields)


@dataclass(frozen=True, slots=True)
class Choice:
    """A class of text values, by member name."""

    name: str
    about: str
    values: Mapping[str, str]


Where = Literal["path", "query", "header", "form", "file", "body"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument of a method and where in the request it goes. `separator` joins an array; "" sends each alone."""

    name: str
    wire: str
    where: Where
    type: Type
    required: bool
    default: str
    separator: str
    about: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a status brings: a value, a file, or nothing."""

    status: int
    type: Type | None
    is_file: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of the client, or of one of its groups."""

    name: str
    group: str  # the class name of the group, "" for the client's own
    method: str
    path: str  # fit for a URL but for its {parameters}
    parameters: tuple[Parameter, ...]  # the required ones first
    answers: tuple[Answer, ...]  # of success; none: any 2xx, nothing to read
    failures: Mapping[int, str]  # exception class by status; 0 is all others'
    content_type: str  # of the body, if it is another than JSON
    accept: str
    about: str


@dataclass(slots=True)
class Api:
    """A whole client package."""

    title: str
    about: str
    client: str
    base_url: str
    models: list[Model] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    exceptions: dict[str, Model] = field(default_factory=dict)  # class name -> what `error` is
    operations: list[Operation] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)  # class name -> attribute of the client
