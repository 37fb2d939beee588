"""Batch executions (contract sections 1.3 and 6)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from aiohttp import web

from mlhost.batches import Progress
from mlhost.errors import Busy, Invalid, NotFound
from mlhost.http import query
from mlhost.http.exchange import attachment, body, record
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes
from mlhost.openapi.operations import Bytes, Operation
from mlhost.params import jsontext

routes = Routes("Service Consumption APIs")

DEFAULT_PARALLEL = 10


# Each service's own document tells what these take and give; here is what they may refuse.
@routes.post(
    "/api/{name}/{version}/batch",
    tells=Operation("startBatch", takes=Bytes("application/json"), refuses=(NotFound, Busy)),
)
async def start(request: web.Request) -> web.Response:
    """Begin a batch."""
    batches, match = request.app[HOST].batches, request.match_info
    parallel = query.whole_number(query.given(request, "parallelCount"), DEFAULT_PARALLEL)
    records = await body(request)
    execution_id = await batches.start(request[WHO], match["name"], match["version"], records, parallel)
    answer = {"BatchExecutionId": execution_id, "batchExecutionId": execution_id}  # the SDK's spelling, and swagger's
    return record(answer, status=202, location=quote(f"{request.path}/{execution_id}"))


@routes.get("/api/{name}/{version}/batch", tells=Operation("listBatches", refuses=(NotFound,)))
async def list_ids(request: web.Request) -> web.Response:
    """The ids of the caller's batches."""
    return record(await request.app[HOST].batches.list(request[WHO], **request.match_info))


@routes.get("/api/{name}/{version}/batch/{executionId}", tells=Operation("getBatch", refuses=(Invalid, NotFound)))
async def get(request: web.Request) -> web.StreamResponse:
    """How far a batch is, and its results: all once it has ended, those there are if partial ones are asked for."""
    name, version, execution_id = request.match_info.values()
    partial = query.boolean(query.given(request, "showPartialResults", "showPartialResult"))
    # An addition to the original: there may be a million results.
    without = query.boolean(query.given(request, "withoutResults"))
    progress = await request.app[HOST].batches.progress(request[WHO], name, version, execution_id)
    if (partial or progress.has_ended) and not without:
        return await tell(request, name, version, execution_id)
    return web.Response(body=_head(progress) + _tail(progress, progress.done), content_type="application/json")


@routes.delete("/api/{name}/{version}/batch/{executionId}", tells=Operation("deleteBatch", refuses=(NotFound,)))
async def delete(request: web.Request) -> web.Response:
    """Cancel and delete a batch."""
    name, version, execution_id = request.match_info.values()
    await request.app[HOST].batches.delete(request[WHO], name, version, execution_id)
    return record([execution_id])


@routes.get(
    "/api/{name}/{version}/batch/{executionId}/{index}/files", tells=Operation("listBatchFiles", refuses=(NotFound,))
)
async def list_files(request: web.Request) -> web.Response:
    """The names of the files a record's code made."""
    return record(list(await request.app[HOST].batches.files(request[WHO], *request.match_info.values())))


@routes.get(
    "/api/{name}/{version}/batch/{executionId}/{index}/files/{fileName}",
    tells=Operation("getBatchFile", refuses=(NotFound,)),
)
async def get_file(request: web.Request) -> web.Response:
    """One of the files a record's code made."""
    content = await request.app[HOST].batches.file(request[WHO], *request.match_info.values())
    return attachment(content, request.match_info["fileName"])


# --- the answer that may be long -----------------------------------------------------------------------------------


async def tell(
    request: web.Request, name: str, version: str, execution_id: str, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """The answer with all results there are, piece by piece, as they are read from the store.

    The count comes after them: while the batch runs it is that of the results the answer holds.
    """
    batches, who = request.app[HOST].batches, request[WHO]
    progress = await batches.progress(who, name, version, execution_id)
    response = web.StreamResponse(headers=headers)
    response.content_type = "application/json"
    await response.prepare(request)
    try:
        await response.write(_head(progress))
        sent = 0
        async for page in batches.results(who, name, version, execution_id):
            await response.write((b"," if sent else b"") + b",".join(page))
            sent += len(page)
        if progress.has_ended and sent != progress.done:
            raise NotFound("The batch was deleted while its results were sent.")  # noqa: TRY301
        await response.write_eof(_tail(progress, sent))
    except Exception:  # the status is sent: all that can still be said is that the answer is not whole
        if request.transport:
            request.transport.abort()
        raise
    return response


def _head(progress: Progress) -> bytes:
    return b'{"state":%b,"batchExecutionResults":[' % jsontext.render(progress.state)


def _tail(progress: Progress, done: int) -> bytes:
    failure = b',"errorMessage":' + jsontext.render(progress.failure) if progress.failure else b""
    return b'],"completedItemCount":%d,"totalItemCount":%d%b}' % (done, progress.total, failure)
