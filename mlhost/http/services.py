"""Services: publish, examine, change, withdraw (contract sections 1.2 and 5)."""

from __future__ import annotations

import json
from typing import Annotated, Literal
from urllib.parse import quote

from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from mlhost import names
from mlhost.auth.principal import Principal
from mlhost.errors import Conflict, NotFound
from mlhost.http.exchange import (
    AskedRuntime,
    Placed,
    Version,
    WireStruct,
    empty,
    json_bytes,
    one_of,
    read,
    record,
    timestamp,
)
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes
from mlhost.openapi import service_document
from mlhost.openapi.operations import Operation
from mlhost.params.signature import Signature
from mlhost.services import Draft, NamedType, Service

routes = Routes("Services Management APIs")
documents = Routes("Service Consumption APIs")

EXAMPLE = {
    "runtimeType": names.RUNTIME,
    "description": "Doubles a number.",
    "code": "y = x * 2",
    "inputParameterDefinitions": [{"name": "x", "type": "numeric"}],
    "outputParameterDefinitions": [{"name": "y", "type": "numeric"}],
}
TYPES = ("logical", "numeric", "integer", "character", "vector", "matrix", "data.frame")


class ParameterDefinition(WireStruct):
    """An input or output of a service."""

    name: str
    type: Annotated[str, one_of(*TYPES, name="type", is_open=True)]


class PublishWebServiceRequest(WireStruct):
    """What a publisher sends; a patch keeps what is not given."""

    snapshot_id: str | None = None
    code: str | None = None
    description: str | None = None
    operation_id: str | None = None
    input_parameter_definitions: list[ParameterDefinition] | None = None
    output_parameter_definitions: list[ParameterDefinition] | None = None
    runtime_type: AskedRuntime | None = None
    init_code: Annotated[str | None, Meta(description="Code that runs before each call.")] = None
    output_file_names: Annotated[list[str] | None, Meta(description="Files that answers bring along.")] = None
    placement: Placed | None = None

    def draft(self) -> Draft:
        """As the domain takes it."""
        files = self.output_file_names
        return Draft(
            code=self.code,
            init_code=self.init_code,
            inputs=_named_types(self.input_parameter_definitions),
            outputs=_named_types(self.output_parameter_definitions),
            output_files=None if files is None else tuple(files),
            description=self.description,
            operation_id=self.operation_id,
            placement=self.placement,
            snapshot_id=self.snapshot_id,
        )


class WebService(WireStruct):
    """One published version; its code only for its publisher and Owners."""

    name: str
    version: str
    version_published_by: str
    creation_time: str
    snapshot_id: str | None
    runtime_type: Annotated[str, one_of("R", "Python", "Realtime", name="WebServiceRuntimeType")]
    init_code: str | None
    code: str | None
    description: str | None
    operation_id: str | None
    input_parameter_definitions: list[ParameterDefinition]
    output_parameter_definitions: list[ParameterDefinition]
    output_file_names: tuple[str, ...]
    my_permission_on_service: Annotated[str, Meta(description="read/write or read only.")]
    placement: Placed | UnsetType = UNSET
    python_version: Version | UnsetType = UNSET
    engine: Annotated[
        Literal["onnx", "worker"] | UnsetType,
        Meta(
            description="Of a realtime service: what answers, a compiled model in the server or the model in workers."
        ),
    ] = UNSET
    engine_reason: Annotated[str | UnsetType, Meta(description="Why the engine is that one.")] = UNSET


class SwaggerJsonResponse(WireStruct):
    """A service's own Swagger 2.0 document."""


@routes.get("/services", tells=Operation("getAllWebServices", gives={200: list[WebService]}))
async def list_all(request: web.Request) -> web.Response:
    """All versions of all services, oldest first."""
    who = request[WHO]
    return record([_shown(who, service) for service in await request.app[HOST].services.list(who)])


@routes.get("/services/{name}", tells=Operation("getAllWebServiceVersionsByName", gives={200: list[WebService]}))
async def list_versions(request: web.Request) -> web.Response:
    """All versions of one service, oldest first; none for an unknown name."""
    who = request[WHO]
    services = await request.app[HOST].services.list(who, request.match_info["name"])
    return record([_shown(who, service) for service in services])


@routes.get(
    "/services/{name}/{version}",
    tells=Operation("getWebServiceVersion", gives={200: list[WebService]}, refuses=(NotFound,)),
)
async def get(request: web.Request) -> web.Response:
    """One version, in a list of one."""
    who = request[WHO]
    service = await request.app[HOST].services.get(who, **request.match_info)
    return record([_shown(who, service)])


@routes.post(
    "/services/{name}",
    tells=Operation(
        "publishWebService",
        takes=PublishWebServiceRequest,
        gives={201: str},
        refuses=(Conflict,),
        example=EXAMPLE,
        summary="Publish a version that the server names; the answer is its address.",
        body_name="publishRequest",
    ),
)
@routes.post(
    "/services/{name}/{version}",
    tells=Operation(
        "publishWebServiceVersion",
        takes=PublishWebServiceRequest,
        gives={201: str},
        refuses=(Conflict,),
        example=EXAMPLE,
        summary="Publish a version; the answer is its address.",
        body_name="publishRequest",
    ),
)
async def publish(request: web.Request) -> web.Response:
    """Publish a version; without one in the path the server makes it."""
    host, who = request.app[HOST], request[WHO]
    wanted = await read(request, PublishWebServiceRequest)
    names.runtime_type(wanted.runtime_type)
    name, version = request.match_info["name"], request.match_info.get("version")
    service = await host.services.publish(who, name, version, wanted.draft())
    path = address(service)
    return record(path, status=201, location=quote(path))


@routes.patch(
    "/services/{name}/{version}",
    tells=Operation(
        "patchWebServiceVersion",
        takes=PublishWebServiceRequest,
        example={"description": "Doubles any number."},
        gives={200: str},
        refuses=(NotFound,),
        body_name="patchRequest",
    ),
)
async def patch(request: web.Request) -> web.Response:
    """Change what the body gives, keep the rest."""
    host, who = request.app[HOST], request[WHO]
    wanted = await read(request, PublishWebServiceRequest)
    if wanted.runtime_type is not None:
        names.runtime_type(wanted.runtime_type)
    service = await host.services.patch(who, **request.match_info, draft=wanted.draft())
    return record(address(service))


@routes.delete(
    "/services/{name}/{version}",
    tells=Operation("deleteWebServiceVersion", gives={200: None}, refuses=(NotFound,)),
)
async def delete(request: web.Request) -> web.Response:
    """Withdraw a version."""
    await request.app[HOST].services.delete(request[WHO], **request.match_info)
    return empty()


@documents.get(
    "/api/{name}/{version}/swagger.json",
    tells=Operation("GetWebServiceSwagger", gives={200: SwaggerJsonResponse}, refuses=(NotFound,)),
)
async def swagger(request: web.Request) -> web.Response:
    """The version's own Swagger document, indented: clients print it as it comes."""
    return described(await request.app[HOST].services.get(request[WHO], **request.match_info))


def described(service: Service) -> web.Response:
    """A version as its Swagger document."""
    definition = service.definition
    document = service_document(
        service.name,
        service.version,
        definition.description,
        definition.operation_id,
        Signature.of(definition.inputs, definition.outputs),
        definition.output_files,
    )
    return json_bytes(json.dumps(document, indent=2, ensure_ascii=False).encode())


def _shown(who: Principal, service: Service) -> WebService:
    definition = service.definition
    return WebService(
        name=service.name,
        version=service.version,
        version_published_by=service.published_by,
        creation_time=timestamp(service.created_at),
        snapshot_id=service.snapshot_id,
        runtime_type=definition.runtime,
        init_code=definition.init_code,
        code=definition.code,
        description=definition.description,
        operation_id=definition.operation_id,
        input_parameter_definitions=_definitions(definition.inputs),
        output_parameter_definitions=_definitions(definition.outputs),
        output_file_names=definition.output_files,
        my_permission_on_service="read/write" if service.is_editable_by(who) else "read only",
        placement=definition.placement or UNSET,
        python_version=definition.python or UNSET,
        engine=definition.engine.name if definition.engine else UNSET,
        engine_reason=definition.engine.why if definition.engine else UNSET,
    )


def _definitions(types: tuple[NamedType, ...]) -> list[ParameterDefinition]:
    return [ParameterDefinition(name=name, type=kind) for name, kind in types]


def address(service: Service) -> str:
    """Where the version is called."""
    return f"/api/{service.name}/{service.version}"


def _named_types(definitions: list[ParameterDefinition] | None) -> tuple[NamedType, ...] | None:
    if definitions is None:
        return None
    return tuple((definition.name, definition.type) for definition in definitions)
