"""The module of the client: one class, and one more for every group of operations."""

from __future__ import annotations

from mlhost.codegen.layout import Call, Expression, docstring, flat, kept, lines, quoted, statement
from mlhost.codegen.plan import CONTENT, Api, Listing, Operation, Parameter
from mlhost.codegen.rendering_types import annotation, optional, reader

WITHIN = "models."


def render(api: Api) -> str:
    """The text of the client's module."""
    groups = [_group(api, name) for name in api.groups]
    body = "".join("\n\n" + "\n".join(each) + "\n" for each in [*groups, _client(api)])
    standard = ["import datetime"] if "datetime." in body else []
    standard += ["from collections.abc import Iterator"] if "Iterator[" in body else []
    standard += ["from typing import Any"] if "Any" in body else []
    paragraphs = [
        docstring(f"The operations of {api.title or api.client} as methods.", 0),
        ["from __future__ import annotations"],
        standard,
        ["import requests"],
        [f"from . import {'models, ' if WITHIN in body else ''}support"],
    ]
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines) + "\n" + body


def _client(api: Api) -> list[str]:
    about = [
        api.about,
        "Every method takes `custom_headers` last: the header fields that go with the request, such as\n"
        '`{"Authorization": "Bearer ..."}`. `session` is the requests.Session that sends them.',
    ]
    text = [f"class {api.client}:", *docstring("\n\n".join(part for part in about if part), 1), ""]
    text += [
        "    def __init__(",
        "        self,",
        *lines(f"base_url: str = {quoted(api.base_url)},", 2),
        "        session: requests.Session | None = None,",
        "        timeout_seconds: float | None = None,",
        "    ) -> None:",
        "        self._transport = support.Transport(base_url, session, timeout_seconds)",
        "        self.session = self._transport.session",
    ]
    text = kept_from(text, "    def __init__(")
    for name, attribute in api.groups.items():
        text += statement(Call(f"self.{attribute} = {name}", ["self._transport"]), 2)
    text += [
        "",
        "    def close(self) -> None:",
        *docstring("Close the connections.", 2),
        "        self.session.close()",
    ]
    return text + _operations(api, "")


def kept_from(text: list[str], start: str) -> list[str]:
    """The function header that starts at a line, marked if it has become too long."""
    first = text.index(start)
    last = next(number for number in range(first, len(text)) if text[number].startswith("    )"))
    return [*text[:first], *kept(text[first : last + 1]), *text[last + 1 :]]


def _group(api: Api, name: str) -> list[str]:
    text = [f"class {name}:", *docstring(f"The operations under `{api.groups[name]}`.", 1), ""]
    text += [
        "    def __init__(self, transport: support.Transport) -> None:",
        "        self._transport = transport",
    ]
    return text + _operations(api, name)


def _operations(api: Api, group: str) -> list[str]:
    return [
        line
        for operation in api.operations
        if operation.group == group
        for line in ["", *_header(operation), *docstring(operation.about, 2), *_body(operation)]
    ]


def _header(operation: Operation) -> list[str]:
    arguments = [f"        {_argument(each)}," for each in operation.parameters]
    return kept(
        [
            f"    def {operation.name}(",
            "        self,",
            *arguments,
            "        custom_headers: support.Headers | None = None,",
            f"    ) -> {_returned(operation)}:",
        ]
    )


def _argument(parameter: Parameter) -> str:
    if parameter.where == "file":
        told = "support.File"
    elif parameter.where == "body" and parameter.type == CONTENT:
        told = "support.Content"
    else:
        told = annotation(parameter.type, WITHIN)
    if parameter.required:
        return f"{parameter.name}: {told}"
    return f"{parameter.name}: {optional(told)} = {parameter.default}"


def _returned(operation: Operation) -> str:
    told = []
    for answer in operation.answers:
        if answer.is_file:
            told.append("Iterator[bytes]")
        else:
            told.append(annotation(answer.type, WITHIN) if answer.type else "None")
    return "Any" if "Any" in told else " | ".join(dict.fromkeys(told)) or "None"


def _body(operation: Operation) -> list[str]:
    sent = Call("self._transport.send", _sent(operation), is_open=True)
    brings = [answer for answer in operation.answers if answer.type or answer.is_file]
    if not brings:
        return statement(sent, 2)
    text = statement(Call(f"response = {sent.head}", sent.arguments, is_open=True), 2)
    last = operation.answers[-1]
    for answer in operation.answers:
        value: Expression = "None"
        if answer.is_file:
            value = Call("support.chunks", ["response"])
        elif answer.type is not None:
            value = Call("support.answer", ["response", reader(answer.type, WITHIN)])
        returned = Call(f"return {value.head}", value.arguments) if isinstance(value, Call) else "return None"
        if answer is last:
            text += statement(returned, 2)
        else:
            text += [f"        if response.status_code == {answer.status}:", *statement(returned, 3)]
    return text


def _sent(operation: Operation) -> list[Expression]:
    """The arguments of Transport.send."""
    sent: list[Expression] = [quoted(operation.method), quoted(operation.path)]
    statuses = [str(answer.status) for answer in operation.answers if answer.status]
    if statuses:
        sent.append(f"success=({', '.join(statuses)}{',' if len(statuses) == 1 else ''})")
    failures = {status: _exception(name) for status, name in operation.failures.items()}
    if 0 in failures:
        sent.append(f"failure={failures.pop(0)}")
    if failures:
        pairs: list[Expression] = [f"{status}: {name}" for status, name in failures.items()]
        sent.append(Call("failures=", pairs, "{}", is_open=True))
    sent += _filled(operation)
    if operation.accept != "application/json":
        sent.append(f"accept={quoted(operation.accept)}")
    if any(answer.is_file for answer in operation.answers):
        sent.append("stream=True")
    return [*sent, "custom_headers=custom_headers"]


def _filled(operation: Operation) -> list[Expression]:
    """Those that carry the method's own arguments."""
    filled: list[Expression] = []
    for where, name in (("path", "path_values"), ("query", "query"), ("header", "headers")):
        pairs: list[Expression] = [_pair(each) for each in operation.parameters if each.where == where]
        if pairs:
            filled.append(Call(f"{name}=", pairs, "{}", is_open=where != "path"))
    form: list[Expression] = [_pair(each) for each in operation.parameters if each.where in ("form", "file")]
    if form:
        name = "multipart=" if operation.content_type == "multipart/form-data" else "form="
        filled.append(Call(name, form, "{}", is_open=True))
    for each in operation.parameters:
        if each.where == "body":
            filled.append(f"{'content' if each.type == CONTENT else 'json'}={each.name}")
            filled += [f"content_type={quoted(operation.content_type)}"] if operation.content_type else []
    return filled


def _pair(parameter: Parameter) -> str:
    value = parameter.name
    if isinstance(parameter.type, Listing) and parameter.separator:
        value = flat(Call("support.joined", [value, quoted(parameter.separator)]))
    return f"{quoted(parameter.wire)}: {value}"


def _exception(name: str) -> str:
    return f"support.{name}" if name == "HttpOperationError" else f"{WITHIN}{name}"
