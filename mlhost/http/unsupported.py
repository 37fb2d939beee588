"""Routes of the contract that this server knows and does not serve: 501 with words instead of a bare 404."""

from __future__ import annotations

from aiohttp import web

from mlhost.http.errors import Handler, answer

ROUTES = {
    "Service pools": [(method, "/services/{name}/{version}/pool") for method in ("GET", "POST", "DELETE")],
    "Compute nodes": [(method, "/computenodes") for method in ("GET", "POST", "PUT", "DELETE")],
    "Batch executions": [
        ("POST", "/api/{name}/{version}/batch"),
        ("GET", "/api/{name}/{version}/batch"),
        ("GET", "/api/{name}/{version}/batch/{executionId}"),
        ("DELETE", "/api/{name}/{version}/batch/{executionId}"),
        ("GET", "/api/{name}/{version}/batch/{executionId}/{index}/files"),
        ("GET", "/api/{name}/{version}/batch/{executionId}/{index}/files/{fileName}"),
    ],
}


def _refusal(feature: str) -> Handler:
    async def refuse(request: web.Request) -> web.Response:
        del request
        return answer(501, f"{feature} are not offered by this version of mlhost.", "NotImplemented")

    return refuse


def _route(method: str, path: str, feature: str) -> web.RouteDef:
    options = {"allow_head": False} if method == "GET" else {}
    return web.route(method, path, _refusal(feature), **options)


routes = [_route(method, path, feature) for feature, rows in ROUTES.items() for method, path in rows]
