"""Services: publish, examine, change, withdraw (contract sections 1.2 and 5)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from aiohttp import web

from mlhost import names
from mlhost.auth.principal import Principal
from mlhost.http.exchange import WireStruct, empty, json_bytes, read, record, timestamp
from mlhost.http.keys import HOST, WHO
from mlhost.openapi import service_document
from mlhost.params.signature import Signature
from mlhost.services import Draft, NamedType, Service

routes = web.RouteTableDef()


class ParameterDefinition(WireStruct):
    """An input or output."""

    name: str
    type: str


class PublishWebServiceRequest(WireStruct):
    """POST and PATCH /services/..."""

    snapshot_id: str | None = None
    code: str | None = None
    description: str | None = None
    operation_id: str | None = None
    input_parameter_definitions: list[ParameterDefinition] | None = None
    output_parameter_definitions: list[ParameterDefinition] | None = None
    runtime_type: str | None = None
    init_code: str | None = None
    output_file_names: list[str] | None = None
    placement: str | None = None  # ours: where the service's workers live

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


@routes.get("/services", allow_head=False)
async def list_all(request: web.Request) -> web.Response:
    """All versions of all services, oldest first."""
    who = request[WHO]
    return record([_shown(who, service) for service in await request.app[HOST].services.list(who)])


@routes.get("/services/{name}", allow_head=False)
async def list_versions(request: web.Request) -> web.Response:
    """All versions of one service, oldest first; none for an unknown name."""
    who = request[WHO]
    services = await request.app[HOST].services.list(who, request.match_info["name"])
    return record([_shown(who, service) for service in services])


@routes.get("/services/{name}/{version}", allow_head=False)
async def get(request: web.Request) -> web.Response:
    """One version, in a list of one."""
    who = request[WHO]
    service = await request.app[HOST].services.get(who, **request.match_info)
    return record([_shown(who, service)])


@routes.post("/services/{name}")
@routes.post("/services/{name}/{version}")
async def publish(request: web.Request) -> web.Response:
    """Publish a version; without one in the path the server makes it."""
    host, who = request.app[HOST], request[WHO]
    wanted = await read(request, PublishWebServiceRequest)
    names.runtime_type(wanted.runtime_type)
    name, version = request.match_info["name"], request.match_info.get("version")
    service = await host.services.publish(who, name, version, wanted.draft())
    path = address(service)
    return record(path, status=201, location=quote(path))


@routes.patch("/services/{name}/{version}")
async def patch(request: web.Request) -> web.Response:
    """Change what the body gives, keep the rest."""
    host, who = request.app[HOST], request[WHO]
    wanted = await read(request, PublishWebServiceRequest)
    if wanted.runtime_type is not None:
        names.runtime_type(wanted.runtime_type)
    service = await host.services.patch(who, **request.match_info, draft=wanted.draft())
    return record(address(service))


@routes.delete("/services/{name}/{version}")
async def delete(request: web.Request) -> web.Response:
    """Withdraw a version."""
    await request.app[HOST].services.delete(request[WHO], **request.match_info)
    return empty()


@routes.get("/api/{name}/{version}/swagger.json", allow_head=False)
async def swagger(request: web.Request) -> web.Response:
    """The version's own Swagger document, indented: clients print it as it comes."""
    service = await request.app[HOST].services.get(request[WHO], **request.match_info)
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


def _shown(who: Principal, service: Service) -> dict[str, Any]:
    definition = service.definition
    placement = {} if definition.placement is None else {"placement": definition.placement}
    return placement | {
        "name": service.name,
        "version": service.version,
        "versionPublishedBy": service.published_by,
        "creationTime": timestamp(service.created_at),
        "snapshotId": service.snapshot_id,
        "runtimeType": definition.runtime,
        "initCode": definition.init_code,
        "code": definition.code,
        "description": definition.description,
        "operationId": definition.operation_id,
        "inputParameterDefinitions": [{"name": name, "type": kind} for name, kind in definition.inputs],
        "outputParameterDefinitions": [{"name": name, "type": kind} for name, kind in definition.outputs],
        "outputFileNames": definition.output_files,
        "myPermissionOnService": "read/write" if service.is_editable_by(who) else "read only",
    }


def address(service: Service) -> str:
    """Where the version is called."""
    return f"/api/{service.name}/{service.version}"


def _named_types(definitions: list[ParameterDefinition] | None) -> tuple[NamedType, ...] | None:
    if definitions is None:
        return None
    return tuple((definition.name, definition.type) for definition in definitions)
