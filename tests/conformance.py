"""Whether an answer is one that the server's own OpenAPI document allows."""

import functools
import json
import re
from typing import Any

from jsonschema import Draft202012Validator

Json = dict[str, Any]


class Contract:
    """An OpenAPI 3.1 document, ready to hold answers against."""

    def __init__(self, document: Json) -> None:
        self._components = {"components": document["components"]}
        self._operations = [
            (method.upper(), _pattern(path), operation)
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        ]
        self.seen: set[tuple[str, int]] = set()

    def check(self, method: str, path: str, status: int, content_type: str, body: bytes) -> None:
        """Raise AssertionError if the document does not allow the answer; what it does not tell of is passed over."""
        operation = self._operation(method, path)
        if operation is None or status == 405:
            return
        self.seen.add((operation["operationId"], status))
        answer = operation["responses"].get(str(status))
        assert answer is not None, f"{method} {path}: {operation['operationId']} is not said to answer {status}"
        content = answer.get("content")
        if content is None:
            assert body == b"", f"{method} {path}: an empty body was promised, not {body[:80]!r}"
            return
        assert content_type in content, f"{method} {path}: {content_type} is not among {list(content)}"
        if content_type == "application/json":
            self._validator(json.dumps(content[content_type]["schema"])).validate(json.loads(body))

    def _operation(self, method: str, path: str) -> Json | None:
        fitting = (one for verb, pattern, one in self._operations if verb == method and pattern.fullmatch(path))
        return next(fitting, None)

    @functools.cache  # noqa: B019 - the contract lives as long as the tests
    def _validator(self, schema: str) -> Draft202012Validator:
        return Draft202012Validator({**json.loads(schema), **self._components})


def _pattern(path: str) -> re.Pattern[str]:
    """What addresses of the path look like; a refresh token may hold slashes."""
    parts = re.split(r"\{(\w+)\}", path)
    for at, name in enumerate(parts):
        parts[at] = re.escape(name) if at % 2 == 0 else ".+" if name == "refreshToken" else "[^/]+"
    return re.compile("".join(parts), re.DOTALL)
