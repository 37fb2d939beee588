"""What an operation of the API takes, gives and refuses: written once beside its handler, told by both documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec

from mlhost.errors import MlhostError

ADDED = "An addition to the original."


@dataclass(frozen=True, slots=True)
class Bytes:
    """A body that is not JSON."""

    media_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Field:
    """A text or a file of a form, or a parameter of a query."""

    name: str
    sentence: str
    required: bool = False
    is_file: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart body."""

    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation; `id` is the name of the method that generated clients call.

    `gives` maps the statuses of its answers to wire types (what `msgspec` can describe), Bytes or None for an empty
    body. `refuses` names the errors it may end in, beside those that every operation of its kind may.
    """

    id: str
    takes: type[msgspec.Struct] | Bytes | Form | None = None
    gives: Mapping[int, Any] = field(default_factory=dict)
    refuses: tuple[type[MlhostError], ...] = ()
    query: tuple[Field, ...] = ()
    summary: str = ""  # where it is not the handler's docstring, as that serves several operations
    example: Any = None  # a body that works
    body_name: str = ""  # of the parameter that holds the body, where it is not the name of its type
    note: str = ""
    is_deprecated: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """An operation where it is found; `errors` are the statuses of its refusals."""

    method: str
    path: str
    tag: str
    summary: str
    operation: Operation
    errors: tuple[int, ...]
    needs_token: bool

    @property
    def path_parameters(self) -> list[str]:
        """Their names, in order."""
        return re.findall(r"\{(\w+)\}", self.path)

    def about(self, name: str) -> str:
        """A sentence about one of them."""
        of_a_noun = "/".join(self.path.split("/")[:3])
        return PATH_PARAMETERS[of_a_noun if name == "id" else name]

    @property
    def body_name(self) -> str:
        """The name of the parameter that holds the body: `loginRequest` for a LoginRequest."""
        takes = self.operation.takes
        kind = takes.__name__ if isinstance(takes, type) else "body"
        return self.operation.body_name or kind[0].lower() + kind[1:]


@dataclass(frozen=True, slots=True)
class About:
    """What a document says about the whole."""

    title: str
    version: str
    description: str
    tags: Mapping[str, str]  # their names and what they hold


PATH_PARAMETERS = {
    "/sessions/{id}": "Id of the session.",
    "/snapshots/{id}": "Id of the snapshot.",
    "name": "Name of the service.",
    "version": "Version of the service.",
    "snapshotId": "Id of the snapshot.",
    "fileName": "Name of a file in the working directory.",
    "objectName": "Name of an object in the workspace.",
    "refreshToken": "A refresh token.",
    "user": "Name of the user.",
    "tokenId": "Id of the personal access token.",
}


def phrase(status: int) -> str:
    """A status in words: "Not Found"."""
    return HTTPStatus(status).phrase
