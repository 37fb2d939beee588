"""The module of the models: enums, classes with fields, and the exceptions."""

from __future__ import annotations

from mlhost.codegen.layout import Call, Expression, docstring, kept, quoted, statement
from mlhost.codegen.plan import Api, Choice, Field, Model
from mlhost.codegen.rendering_types import annotation, optional, reader


def render(api: Api) -> str:
    """The text of models.py."""
    classes = [
        *(_choice(choice) for choice in api.choices),
        *(_model(model) for model in api.models),
        *(_exception(name, model) for name, model in api.exceptions.items()),
    ]
    body = "".join("\n\n" + "\n".join(lines) + "\n" for lines in classes)
    standard = [f"import {name}" for name in ("dataclasses", "datetime") if f"{name}." in body]
    standard += ["from typing import Any"] if "Any" in body else []
    paragraphs = [
        docstring("What the requests and answers are made of.", 0),
        ["from __future__ import annotations"],
        standard,
        ["import requests"] if api.exceptions else [],
        ["from . import support"],
    ]
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines) + "\n" + body


def _choice(choice: Choice) -> list[str]:
    lines = [
        *statement(Call(f"class {choice.name}", ["support.Choice"]), 0, ":"),
        *docstring(choice.about or choice.name, 1),
        "",
    ]
    for member, value in choice.values.items():
        lines += statement(f"{member} = {quoted(value)}", 1)
    return lines


def _model(model: Model) -> list[str]:
    lines = [
        "@dataclasses.dataclass",
        *statement(Call(f"class {model.name}", ["support.Model"]), 0, ":"),
        *docstring(_about(model), 1),
    ]
    fields = [line for field in model.fields for line in _field(field)]
    if model.rest is not None:
        told = f"additional_properties: dict[str, {annotation(model.rest)}] = "
        fields += statement(Call(f"{told}dataclasses.field", ["default_factory=dict"]), 1)
    if fields:
        lines += ["", *fields]
    return [*lines, "", *_to_json(model), "", *_from_json(model)]


def _about(model: Model) -> str:
    told = [f"- {field.name}: {' '.join(field.about.split())}" for field in model.fields if field.about]
    return "\n\n".join(part for part in (model.about or f"{model.name}.", "\n".join(told)) if part)


def _field(field: Field) -> list[str]:
    told = annotation(field.type)
    if field.required:
        return statement(f"{field.name}: {optional(told) if field.nullable else told}", 1)
    return statement(f"{field.name}: {optional(told)} = {field.default}", 1)


def _to_json(model: Model) -> list[str]:
    pairs: list[Expression] = [f"{quoted(field.wire)}: self.{field.name}" for field in model.fields]
    nullable = ", ".join(quoted(field.wire) for field in model.fields if field.required and field.nullable)
    arguments: list[Expression] = [Call("", pairs, "{}", is_open=bool(pairs))]
    if model.rest is not None:
        arguments.append("self.additional_properties")
    if nullable:
        arguments.append(f"nullable=[{nullable}]")
    return [
        "    def to_json(self) -> dict[str, Any]:",
        *docstring("Itself as JSON; what is None is left out.", 2),
        *statement(Call("return support.to_object", arguments), 2),
    ]


def _from_json(model: Model) -> list[str]:
    read: list[Expression] = [
        Call(
            f"{field.name}=read.{'required' if field.required and not field.nullable else 'optional'}",
            [quoted(field.wire), reader(field.type)],
        )
        for field in model.fields
    ]
    if model.rest is not None:
        read.append(Call("additional_properties=read.rest", [reader(model.rest)]))
    return [
        "    @classmethod",
        *kept([f"    def from_json(cls, value: Any) -> {model.name}:"]),
        *docstring("One as read from JSON; ValueError if it is not one.", 2),
        *statement(Call("read = support.Reader" if read else "support.Reader", ["value", quoted(model.name)]), 2),
        *statement(Call("return cls", read, is_open=bool(read)), 2),
    ]


def _exception(name: str, model: Model) -> list[str]:
    told = model.name if model.may_be_empty else f"{model.name} | None"
    otherwise = f"{model.name}() if error is None else error" if model.may_be_empty else "error"
    return [
        *statement(Call(f"class {name}", ["support.HttpOperationError"]), 0, ":"),
        *docstring(f"The server answered with an error. `error` is its {model.name}, `response` the answer itself.", 1),
        "",
        *statement(f"error: {told}", 1),
        "",
        "    def __init__(self, response: requests.Response) -> None:",
        "        super().__init__(response)",
        *statement(Call("error = support.error_of", ["response", f"{model.name}.from_json"]), 2),
        *statement(f"self.error = {otherwise}", 2),
        "        self.explain(self.error)",
    ]
