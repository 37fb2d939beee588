"""The operations of the document as methods of the plan.

An operation id such as `Pets_list`, with a capital before its first underscore, is the method `list` of the client's
group `pets`, as AutoRest had it; every other id is a method of the client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from mlhost.codegen.document import Place
from mlhost.codegen.layout import comment
from mlhost.codegen.naming import IN_CALLS, IN_CLIENT, Names, pascal, snake
from mlhost.codegen.plan import CONTENT, Answer, Api, Listing, Operation, Parameter, Type, Where
from mlhost.codegen.schemas import Schemas, default_of, scalar

METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
WHERE: dict[str, Where] = {"path": "path", "query": "query", "header": "header", "formData": "form", "body": "body"}
SEPARATORS = {"csv": ",", "ssv": " ", "tsv": "\t", "pipes": "|", "multi": ""}
JSON = "application/json"
IN_URLS = "/%:@!$&'()*+,;=~"  # what may stand in a path as it is; quotes and braces may not


def read_api(root: Place, client: str) -> Api:
    """The plan of the whole document."""
    info = root.get("info")
    title = info.text("title") if info else ""
    api = Api(
        title=comment(f"{title} {info.text('version') if info else ''}"),
        about=(info.text("description") if info else "") or title,
        client=client,
        base_url=_base_url(root),
    )
    Operations(root, api, Schemas(root, api)).read()
    return api


class Operations:
    """Reads all paths."""

    def __init__(self, root: Place, api: Api, schemas: Schemas) -> None:
        self._root = root
        self._api = api
        self._schemas = schemas
        self._names = {"": Names(frozenset(IN_CLIENT))}
        self._groups: dict[str, str] = {}  # word -> class
        self._exceptions: dict[str, str] = {}  # model -> exception

    def read(self) -> None:
        """Put every operation into the plan."""
        for path, place in self._root.need("paths").members().items():
            if path.startswith("x-"):
                continue
            item = place.resolved()
            if not path.startswith("/"):
                raise item.fault("a path starts with a slash")
            for method in item.members():
                if method in METHODS:
                    self._api.operations.append(self._operation(path, method, item))

    def _operation(self, path: str, method: str, item: Place) -> Operation:
        place = item.need(method)
        wire_id = place.text("operationId") or f"{method}{re.sub(r'[^0-9A-Za-z]+', '_', path)}".rstrip("_")
        group, name = self._named(wire_id, has_id=bool(place.text("operationId")))
        wire_type = _preferred(place.texts("consumes") or self._root.texts("consumes"))[0]
        parameters = self._parameters(place, item, pascal(wire_id), wire_type)
        answers, failures = self._responses(place, pascal(wire_id))
        has_file = any(answer.is_file for answer in answers)
        produces = _preferred(place.texts("produces") or self._root.texts("produces"))
        return Operation(
            name=name,
            group=group,
            method=method.upper(),
            path=_url_path(path, parameters, place),
            parameters=tuple(sorted(parameters, key=lambda each: not each.required)),
            answers=answers,
            failures=failures,
            content_type=_content_type(wire_type, parameters),
            accept="*/*" if has_file else ", ".join(produces),
            about=_about(place, method, path, parameters),
        )

    def _named(self, wire_id: str, *, has_id: bool) -> tuple[str, str]:
        """The class name of the operation's group, or "", and its method's name."""
        word, _, rest = wire_id.partition("_")
        if not (has_id and rest.strip("_") and word[:1].isupper()):
            return "", self._names[""].take(snake(wire_id))
        if word not in self._groups:
            made = self._schemas.class_name(f"{pascal(word)}Operations")
            self._groups[word] = made
            self._names[made] = Names(frozenset(IN_CLIENT))
            self._api.groups[made] = self._names[""].take(snake(word))
        made = self._groups[word]
        return made, self._names[made].take(snake(rest))

    def _parameters(self, place: Place, item: Place, owner: str, wire_type: str) -> list[Parameter]:
        names = Names(IN_CALLS)
        found: dict[tuple[str, str], Place] = {}
        for holder in (item, place):
            listed = holder.get("parameters")
            for parameter in listed.items() if listed else []:
                target = parameter.resolved()
                found[target.need("in").value, target.need("name").value] = target
        return [self._parameter(each, names, owner, wire_type) for each in found.values()]

    def _parameter(self, place: Place, names: Names, owner: str, wire_type: str) -> Parameter:
        wire, where = place.text("name"), place.text("in")
        if where not in WHERE:
            raise place.need("in").fault(f'"{where}" is none of {", ".join(WHERE)}')
        name = names.take(snake(wire))
        is_file = where == "formData" and place.text("type") == "file"
        kind = CONTENT if is_file else self._type_of(place, where, f"{owner}{pascal(wire)}", wire_type)
        form = place.text("collectionFormat", "csv")
        if form not in SEPARATORS:
            raise place.need("collectionFormat").fault(f'"{form}" is none of {", ".join(SEPARATORS)}')
        return Parameter(
            name=name,
            wire=wire,
            where="file" if is_file else WHERE[where],
            type=kind,
            required=where == "path" or place.flag("required"),
            default=default_of(place, kind),
            separator=SEPARATORS[form],
            about=place.text("description"),
        )

    def _type_of(self, place: Place, where: str, name: str, wire_type: str) -> Type:
        if where != "body":
            if place.text("type") == "array":
                return Listing(self._type_of(place.need("items"), "items", name, wire_type))
            return self._schemas.type_of(place, name) if place.get("x-ms-enum") else scalar(place, place.text("type"))
        schema = place.need("schema").resolved()
        if not _is_json(wire_type):
            if schema.text("type") == "string":
                return CONTENT
            raise place.fault(f"a body of {wire_type} that is no string is not supported")
        return self._schemas.type_of(place.need("schema"), name)

    def _responses(self, place: Place, owner: str) -> tuple[tuple[Answer, ...], Mapping[int, str]]:
        answers, failures = [], {}
        for status, response in place.need("responses").members().items():
            if status.startswith("x-"):
                continue
            if status != "default" and not re.fullmatch("[1-5][0-9][0-9]", status):
                raise response.fault("a response is under its status or under default")
            schema = response.resolved().get("schema")
            if status != "default" and int(status) < 400:
                answers.append(self._answer(int(status), schema, owner))
            elif schema is not None:
                failures[0 if status == "default" else int(status)] = self._exception(schema, owner)
        if not answers and 0 in failures:  # an operation with a default alone: it is what success brings as well
            default = place.need("responses").need("default").resolved()
            answers, failures = [self._answer(0, default.get("schema"), owner)], {}
        return tuple(answers), failures

    def _answer(self, status: int, schema: Place | None, owner: str) -> Answer:
        if schema is None:
            return Answer(status, None)
        if schema.resolved().text("type") == "file":
            return Answer(status, None, is_file=True)
        kind = self._schemas.type_of(schema, f"{owner}Response")
        return Answer(status, kind)

    def _exception(self, schema: Place, owner: str) -> str:
        """The class of the errors with this body."""
        model = self._schemas.model(self._schemas.type_of(schema, f"{owner}Error"))
        if model is None:
            return "HttpOperationError"
        if model.name not in self._exceptions:
            made = self._schemas.class_name(f"{model.name}Exception")
            self._exceptions[model.name] = made
            self._api.exceptions[made] = model
        return self._exceptions[model.name]


def _base_url(root: Place) -> str:
    schemes = root.texts("schemes")
    scheme = "https" if schemes == ["https"] else "http"
    return f"{scheme}://{root.text('host', 'localhost')}{root.text('basePath').rstrip('/')}"


def _url_path(path: str, parameters: list[Parameter], place: Place) -> str:
    names = {each.wire for each in parameters if each.where == "path"}
    found = set(re.findall(r"\{(.*?)\}", path))
    for name in sorted(found ^ names):
        why = 'is no parameter "in": "path"' if name in found else "is not in the path"
        raise place.fault(f"{{{name}}} {why}")
    return re.sub(r"[^{}]+(?![^{]*\})", lambda literal: quote(literal.group(), safe=IN_URLS), path)


def _content_type(wire_type: str, parameters: list[Parameter]) -> str:
    where = {each.where for each in parameters}
    if "body" in where:
        return "" if wire_type == JSON else wire_type
    if "file" in where or ("form" in where and wire_type == "multipart/form-data"):
        return "multipart/form-data"
    return "application/x-www-form-urlencoded" if "form" in where else ""


def _preferred(types: list[str]) -> list[str]:
    """JSON, if it is among the types that may be sent or asked for: all others come as text or bytes."""
    return [each for each in types if _is_json(each)] or types or [JSON]


def _is_json(wire_type: str) -> bool:
    return "json" in wire_type


def _about(place: Place, method: str, path: str, parameters: list[Parameter]) -> str:
    parts = [place.text("summary"), place.text("description"), f"{method.upper()} {path}"]
    told = [f"- {each.name}: {comment(each.about)}" for each in parameters if each.about]
    return "\n\n".join(dict.fromkeys(part for part in [*parts, "\n".join(told)] if part))
