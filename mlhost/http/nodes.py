"""Compute nodes (contract section 1.5): there is one, the server itself, and no list to be changed."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from mlhost.errors import Invalid
from mlhost.http.exchange import WireStruct, empty, read, record
from mlhost.http.routes import Routes
from mlhost.openapi.operations import Operation

routes = Routes("Centralized Configuration APIs")

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
NOTE = "Entries must name the server itself, its only node; then there is nothing to do."


class GetComputeNodesResponse(WireStruct):
    """The compute nodes."""

    compute_nodes: list[str]


class UpdateComputeNodesRequest(WireStruct):
    """Addresses of compute nodes, or ranges of them."""

    entries: list[str]


def address(request: web.Request) -> str:
    """The server, as this request reached it: the one compute node."""
    host, port = _socket(request)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


@routes.get("/computenodes", tells=Operation("getComputeNodes", gives={200: GetComputeNodesResponse}))
async def list_all(request: web.Request) -> web.Response:
    """The one compute node there is."""
    return record(GetComputeNodesResponse(compute_nodes=[address(request)]))


@routes.post(
    "/computenodes",
    tells=Operation(
        "setComputeNodes", takes=UpdateComputeNodesRequest, gives={200: None}, body_name="entries", note=NOTE
    ),
)
async def replace(request: web.Request) -> web.Response:
    """Set the list of compute nodes."""
    if not await _read_own(request):
        raise Invalid("entries: this server is its own compute node; a list without it cannot be set", field="entries")
    return empty()


@routes.put(
    "/computenodes",
    tells=Operation(
        "addComputeNode",
        takes=UpdateComputeNodesRequest,
        gives={200: None},
        summary="Add to the list of compute nodes.",
        body_name="entries",
        note=NOTE,
    ),
)
@routes.delete(
    "/computenodes",
    tells=Operation(
        "removeComputeNode",
        takes=UpdateComputeNodesRequest,
        gives={200: None},
        summary="Remove from the list of compute nodes.",
        body_name="entries",
        note=NOTE,
    ),
)
async def change(request: web.Request) -> web.Response:
    """Add to the list of compute nodes, or remove from it."""
    await _read_own(request)
    return empty()


async def _read_own(request: web.Request) -> list[str]:
    """The entries of the body; Invalid naming the first that is not this server."""
    entries = (await read(request, UpdateComputeNodesRequest)).entries
    for entry in entries:
        if not _is_own(entry, request):
            raise Invalid(
                f"entries: {entry!r} is not {address(request)}, this server itself, which is its only compute node;"
                " there can be no others",
                field="entries",
            )
    return entries


def _is_own(entry: str, request: web.Request) -> bool:
    host, port = _socket(request)
    try:
        parts = urlsplit(entry)
        named = (parts.hostname, parts.port)
    except ValueError:  # not an address, or a range of ports
        return False
    is_here = named[0] in {host, *LOOPBACK} and named[1] == port
    return parts.scheme == "http" and (is_here or parts.netloc == request.host)


def _socket(request: web.Request) -> tuple[str, int]:
    name = request.transport.get_extra_info("sockname") if request.transport else None
    host, port = (name or ("localhost", 0))[:2]
    return host, port
