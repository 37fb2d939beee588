"""Batches: begun with a table or JSON, watched, their results read and fetched, cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from mlhost.auth.principal import Principal
from mlhost.host import Host
from mlhost.http.batches import DEFAULT_PARALLEL, tell
from mlhost.http.console.forms import texts, whole
from mlhost.http.console.records import array
from mlhost.http.console.rendering import is_partial, lead, onward, page, segment, short
from mlhost.http.exchange import attachment
from mlhost.http.keys import HOST, WHO
from mlhost.http.query import given, whole_number
from mlhost.http.routes import Routes

routes = Routes()

PATH = "/console/batches"
ONE = "/console/batches/{name}/{version}/{executionId}"
MAX_BATCHES = 200  # that are listed: the latest
PAGE = 50  # results that are shown at once
MAX_BYTES = 1 << 20  # of a result that is read to be shown
MAX_TEXT = 500  # characters of one that are shown


class Result(msgspec.Struct, rename="camel"):
    """Of a WebServiceResult what a row shows."""

    success: bool
    error_message: str
    output_parameters: msgspec.Raw
    output_files: dict[str, Any]


@routes.get(PATH)
async def list_all(request: web.Request) -> web.Response:
    """The batches of all services; a script asks for them again and again."""
    batches = await request.app[HOST].batches.latest(request[WHO], MAX_BATCHES)
    template = "_batches.html" if is_partial(request) else "batches.html"
    return page(request, template, batches=batches, most=MAX_BATCHES, is_live=any(not b.has_ended for b, _ in batches))


@routes.post("/console/services/{name}/{version}/batch")
async def start(request: web.Request) -> web.Response:
    """Begin a batch on what was typed into the form of a version's page."""
    host, who, match = request.app[HOST], request[WHO], request.match_info
    service = await host.services.get(who, match["name"], match["version"])
    fields = await texts(request)
    records = await asyncio.to_thread(array, fields.get("records", ""), service.definition.inputs)
    parallel = whole(fields, "parallel", DEFAULT_PARALLEL)
    execution_id = await host.batches.start(who, service.name, service.version, records, parallel)
    return lead(request, f"{PATH}/{segment(service.name)}/{segment(service.version)}/{execution_id}")


@routes.get(ONE)
async def show(request: web.Request) -> web.Response:
    """How far a batch is, and some of its results; a script asks again until it has ended."""
    host, who, where = request.app[HOST], request[WHO], tuple(request.match_info.values())
    template = "_batch.html" if is_partial(request) else "batch.html"
    return page(request, template, **await _told(host, who, where, whole_number(given(request, "from"), 0)))


@routes.get(f"{ONE}/results.json")
async def results(request: web.Request) -> web.StreamResponse:
    """All results there are, as the API tells them."""
    name, version, execution_id = request.match_info.values()
    return await tell(request, name, version, execution_id, {"Content-Disposition": "attachment"})


@routes.get(f"{ONE}/{{index}}/files/{{fileName}}")
async def file(request: web.Request) -> web.Response:
    """A file that the code made for a record."""
    content = await request.app[HOST].batches.file(request[WHO], *request.match_info.values())
    return attachment(content, request.match_info["fileName"])


@routes.post(f"{ONE}/delete")
async def delete(request: web.Request) -> web.Response:
    """Cancel a batch and remove it with its results."""
    await request.app[HOST].batches.delete(request[WHO], *request.match_info.values())
    return onward(PATH)


async def _told(host: Host, who: Principal, where: tuple[str, ...], start: int) -> dict[str, Any]:
    """What a batch's page tells."""
    name, version, execution_id = where
    batch, state = await host.batches.get(who, name, version, execution_id)
    some = await host.batches.some(
        who, name, version, execution_id, start=max(0, start), most=PAGE, most_bytes=MAX_BYTES
    )
    return {
        "batch": batch,
        "state": state,
        "service": await host.services.get(who, name, version),
        "results": [(position, _result(answer)) for position, answer in some],
        "start": max(0, start),
        "after": start + PAGE if start + PAGE < batch.total else None,
        "before": max(0, start - PAGE) if start > 0 else None,
    }


def _result(answer: bytes | None) -> dict[str, Any] | None:
    """What a row shows; None for a result that is too large to be shown."""
    if answer is None:
        return None
    result = msgspec.json.decode(answer, type=Result)
    return {
        "error": "" if result.success else result.error_message or "The code failed.",
        "outputs": short(bytes(result.output_parameters).decode(), MAX_TEXT),
        "files": [name for name, content in result.output_files.items() if content is not None],
    }
