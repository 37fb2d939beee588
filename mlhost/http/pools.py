"""Dedicated pools of services (contract sections 1.5 and 5)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from mlhost.errors import NotFound
from mlhost.http import nodes
from mlhost.http.exchange import WireStruct, read, record
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes
from mlhost.openapi.operations import Operation
from mlhost.pools import PoolState

routes = Routes("Services Management APIs")

SPELLINGS = {"ComputeNodeEndpoint": "computeNodeEndpoint", "Status": "status"}
ORIGINAL = {"compute_node_endpoint": "ComputeNodeEndpoint", "status": "Status"}
ADDED = {
    "initial_pool_size": "initialPoolSize",
    "max_pool_size": "maxPoolSize",
    "queue_seconds": "queueSeconds",
    "run_seconds": "runSeconds",
}


class CreateOrUpdateServicePoolRequest(WireStruct, rename="pascal"):
    """How many workers a service keeps started, and how many it may have."""

    initial_pool_size: Annotated[int | None, Meta(description="Workers kept started. 0 if it is not given.")] = None
    max_pool_size: Annotated[
        int | None, Meta(description="Workers at most. As many as the server grants by itself if it is not given or 0.")
    ] = None


class ServicePoolStatusResponse(msgspec.Struct, rename=ORIGINAL | ADDED, kw_only=True):
    """The workers of one service on a compute node; `computeNodeEndpoint` and `status` say the first two once more."""

    compute_node_endpoint: str
    status: Annotated[
        Literal["Success", "Pending", "NotFound"],
        Meta(description="NotFound: no dedicated pool. Pending: workers that are to be kept started are missing."),
    ]
    busy: Annotated[int, Meta(description="Workers that run a call. The counts are not in the original.")]
    idle: int
    starting: int
    waiting: Annotated[int, Meta(description="Calls that wait for a worker.")]
    initial_pool_size: int
    max_pool_size: int
    calls: Annotated[
        int, Meta(description="Calls that workers have run since the server started or the version was patched.")
    ]
    queue_seconds: Annotated[float, Meta(description="What all of these have waited for a worker.")]
    run_seconds: Annotated[float, Meta(description="What they have taken then.")]


@routes.post(
    "/services/{name}/{version}/pool",
    tells=Operation(
        "createOrUpdateServicePool",
        takes=CreateOrUpdateServicePoolRequest,
        gives={200: str},
        refuses=(NotFound,),
        example={"InitialPoolSize": 1, "MaxPoolSize": 4},
    ),
)
async def create(request: web.Request) -> web.Response:
    """Keep workers of a service started, and bound how many it may have."""
    wanted = await read(request, CreateOrUpdateServicePoolRequest)
    pools = request.app[HOST].pools
    await pools.set(request[WHO], **request.match_info, least=wanted.initial_pool_size or 0, most=wanted.max_pool_size)
    return record("The pool is being filled.")


@routes.delete(
    "/services/{name}/{version}/pool", tells=Operation("deleteServicePool", gives={200: str}, refuses=(NotFound,))
)
async def delete(request: web.Request) -> web.Response:
    """Go back to the bounds the server has for every service."""
    was_there = await request.app[HOST].pools.delete(request[WHO], **request.match_info)
    return record("The pool is deleted." if was_there else "There was no pool.")


@routes.get(
    "/services/{name}/{version}/pool",
    tells=Operation("getServicePoolStatus", gives={200: list[ServicePoolStatusResponse]}, refuses=(NotFound,)),
)
async def get(request: web.Request) -> web.Response:
    """How the workers of a service are."""
    state = await request.app[HOST].pools.get(**request.match_info)
    return record([_in_both_spellings(_shown(nodes.address(request), state))])


def _shown(address: str, state: PoolState) -> ServicePoolStatusResponse:
    usage = state.usage
    return ServicePoolStatusResponse(
        compute_node_endpoint=address,
        status=("Success" if state.is_filled else "Pending") if state.is_dedicated else "NotFound",
        busy=usage.busy,
        idle=usage.idle,
        starting=usage.starting,
        waiting=usage.waiting,
        initial_pool_size=state.least,
        max_pool_size=state.most,
        calls=state.times.calls,
        queue_seconds=round(state.times.queue_seconds, 6),
        run_seconds=round(state.times.run_seconds, 6),
    )


def _in_both_spellings(answer: ServicePoolStatusResponse) -> dict[str, Any]:
    """The original's documents and its recorded answers differ; a schema with both would make a class with twins."""
    told: dict[str, Any] = msgspec.to_builtins(answer)
    return told | {recorded: told[documented] for documented, recorded in SPELLINGS.items()}
