"""Schemas of the document as types and models of the plan.

A definition with properties becomes a class under its own name, as AutoRest's did; one of `additionalProperties` alone
is a dict, one without either is any JSON. `allOf` is merged into one class; polymorphism (`discriminator`) is refused.
"""

from __future__ import annotations

import math
from typing import Any

from mlhost.codegen.document import Place
from mlhost.codegen.layout import quoted
from mlhost.codegen.naming import CLASSES, IN_CLASSES, Names, pascal, snake
from mlhost.codegen.plan import ANYTHING, TEXT, Api, Choice, Field, Listing, Mapped, Model, Named, Scalar, Type

FORMATS = {
    "date": Scalar("date"),
    "date-time": Scalar("moment"),
    "byte": Scalar("binary"),
}
SCALARS = {
    "string": TEXT,
    "integer": Scalar("integer"),
    "number": Scalar("number"),
    "boolean": Scalar("boolean"),
}
PYTHON: dict[str, type | tuple[type, ...]] = {"text": str, "integer": int, "number": (int, float), "boolean": bool}


class Schemas:
    """Collects the classes that the schemas met so far need."""

    def __init__(self, root: Place, api: Api) -> None:
        self._api = api
        self._names = Names(CLASSES)
        self._classes: dict[str, Named] = {}  # by pointer
        self._choices: dict[tuple[str, tuple[str, ...]], Named] = {}
        self._resolving: set[str] = set()
        definitions = root.get("definitions")
        self._definitions = definitions.members() if definitions else {}
        for name, place in self._definitions.items():
            if _is_model(place):
                self._classes[place.pointer] = Named(self._names.take(pascal(name)))
        for name, place in self._definitions.items():
            if place.pointer in self._classes:
                self._build(self._classes[place.pointer].name, place)
            else:
                self.type_of(place, name)

    def type_of(self, place: Place, name: str) -> Type:
        """The type of a schema; `name` is for the class it needs if it has no name of its own."""
        target = place.resolved()
        if target.pointer in self._classes:
            return self._classes[target.pointer]
        if target.pointer in self._resolving:
            raise place.fault("this schema is made of itself")
        self._resolving.add(target.pointer)
        try:
            return self._new_type(target, _own_name(target) or name)
        finally:
            self._resolving.discard(target.pointer)

    def model(self, kind: Type | None) -> Model | None:
        """The model behind a type."""
        name = kind.name if isinstance(kind, Named) and not kind.is_choice else ""
        return next((model for model in self._api.models if model.name == name), None)

    def class_name(self, wanted: str) -> str:
        """A free name for a class that is no schema's."""
        return self._names.take(wanted)

    def _new_type(self, place: Place, name: str) -> Type:
        if _is_model(place):
            made = Named(self._names.take(pascal(name)))
            self._classes[place.pointer] = made
            self._build(made.name, place)
            return made
        kind = _kind(place)
        if kind == "array":
            items = place.get("items")
            return Listing(self.type_of(items, f"{name}Item") if items else ANYTHING)
        if kind == "object":
            values = place.get("additionalProperties")
            return Mapped(_open(self, values, name)) if values and values.value is not False else ANYTHING
        return self._choice(place, name) or scalar(place, kind)

    def _choice(self, place: Place, name: str) -> Type | None:
        """A class for an enum that has a name, its own definition's or `x-ms-enum`'s; with `modelAsString` any text."""
        hint = place.get("x-ms-enum")
        name = (hint.text("name") if hint else "") or (name if _own_name(place) else "")
        if not name or place.get("enum") is None or _kind(place) != "string":
            return None
        values = tuple(place.texts("enum"))
        key = (name, values)
        if key not in self._choices:
            made = Named(self._names.take(pascal(name)), is_choice=True)
            members = Names()
            named = {members.take(_member(value)): value for value in values}
            self._api.choices.append(Choice(made.name, _about(place), named))
            self._choices[key] = made
        return TEXT if hint and hint.flag("modelAsString") else self._choices[key]

    def _build(self, name: str, place: Place) -> None:
        model = Model(name, place.text("description"))
        self._api.models.append(model)
        properties, required, rest = self._merged(place, frozenset())
        names = Names(IN_CLASSES)
        fields = [
            self._field(names.take(snake(wire)), wire, schema, name, is_required=wire in required)
            for wire, schema in properties.items()
        ]
        model.fields = sorted(fields, key=lambda field: not field.required)  # stable: the document's order
        model.rest = _open(self, rest, name) if rest is not None and rest.value is not False else None

    def _field(self, name: str, wire: str, place: Place, owner: str, *, is_required: bool) -> Field:
        kind = self.type_of(place, f"{owner}{pascal(wire)}")
        return Field(
            name, wire, kind, is_required, is_nullable(place), default_of(place.resolved(), kind), _about(place)
        )

    def _merged(self, place: Place, within: frozenset[str]) -> tuple[dict[str, Place], set[str], Place | None]:
        """Properties, names of the required ones, additional properties: of a schema and all it is made of."""
        place = place.resolved()
        if place.pointer in within:
            raise place.fault("this schema is made of itself")
        if place.get("discriminator"):
            raise place.need("discriminator").fault("polymorphic schemas are not supported")
        properties: dict[str, Place] = {}
        required = set(place.texts("required"))
        rest = place.get("additionalProperties")
        parts = place.get("allOf")
        for part in parts.items() if parts else []:
            inherited, also, further = self._merged(part, within | {place.pointer})
            properties |= inherited
            required |= also
            rest = rest or further
        own = place.get("properties")
        return properties | (own.members() if own else {}), required, rest


def scalar(place: Place, kind: str) -> Scalar:
    """The type of a schema or parameter without parts."""
    if kind not in SCALARS:
        known = ", ".join([*SCALARS, "array", "object"])
        raise place.fault(f'the type "{kind}" is none of {known}' if kind else 'a "type" is missing')
    form = place.get("format")
    return FORMATS.get(str(form.value), SCALARS[kind]) if kind == "string" and form else SCALARS[kind]


def default_of(place: Place, kind: Type) -> str:
    """The default as Python source; `None` where there is none, or none that fits the type."""
    default = place.get("default")
    value: Any = default.value if default else None
    is_text = isinstance(kind, Named) and kind.is_choice
    expected = str if is_text else PYTHON.get(kind.kind) if isinstance(kind, Scalar) else None
    if expected is None or not isinstance(value, expected) or isinstance(value, bool) != (expected is bool):
        return "None"
    if isinstance(value, float) and not math.isfinite(value):
        return "None"
    return quoted(value) if isinstance(value, str) else repr(value)


def is_nullable(place: Place) -> bool:
    """Whether null is a value of this schema."""
    target = place.resolved()
    kind = target.get("type")
    return target.flag("x-nullable") or (kind is not None and isinstance(kind.value, list) and "null" in kind.value)


def _open(schemas: Schemas, values: Place, name: str) -> Type:
    return ANYTHING if values.value is True else schemas.type_of(values, f"{name}Value")


def _is_model(place: Place) -> bool:
    """Whether a class is made of it. What has `type: object` and nothing more is any JSON."""
    if "$ref" in place.members():
        return False
    return bool(place.get("properties") or place.get("allOf")) and _kind(place) in ("object", "")


def _kind(place: Place) -> str:
    kind = place.get("type")
    if kind is not None and isinstance(kind.value, list):
        kinds = [each for each in kind.value if each != "null"]
        return str(kinds[0]) if len(kinds) == 1 else "object"
    if kind is None:
        return "array" if place.get("items") else "object"
    return place.text("type")


def _own_name(place: Place) -> str:
    head, _, name = place.pointer.rpartition("/")
    return name.replace("~1", "/").replace("~0", "~") if head == "#/definitions" else ""


def _about(place: Place) -> str:
    """The description; an enum's values with it."""
    target = place.resolved()
    about = place.text("description") or target.text("description")
    values = target.get("enum")
    if values is None:
        return about
    listed = ", ".join(str(item.value) for item in values.items())
    return f"{about} One of: {listed}.".strip()


def _member(value: str) -> str:
    return snake(value or "empty").upper()
