"""The door: one table, route -> permission, and the check of every request against it.

A route without a row here stops the start, so that none is ever open by oversight.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable

from aiohttp import web

from mlhost.auth.personal import PREFIX
from mlhost.auth.principal import Principal, Role, Scope
from mlhost.errors import Forbidden, Unauthenticated
from mlhost.host import Host
from mlhost.http import browser
from mlhost.http.errors import Handler
from mlhost.http.keys import HOST, WHO
from mlhost.http.trail import SCORING


class Permission(enum.Enum):
    """Who may call a route; the verbs themselves decide about a particular thing."""

    ANYONE = None
    ANY_ROLE = Role.READER
    PUBLISH = Role.CONTRIBUTOR
    ADMINISTER = Role.OWNER


ANYONE, ANY_ROLE, PUBLISH, ADMINISTER = Permission
# The original let Readers use sessions. Here they never cause a line of their own code or a pickle of theirs to run, so
# whatever reaches a worker of a session asks for the role that may publish; one who was made Reader may still see which
# sessions and snapshots they have and end them.
RUN_CODE = PUBLISH

PERMISSIONS: dict[tuple[str, str], Permission] = {
    ("GET", "/"): ANYONE,  # leads browsers to the console
    ("GET", "/livez"): ANYONE,
    ("GET", "/readyz"): ANYONE,
    ("GET", "/swagger.json"): ANYONE,  # generators come without a token, and there is nothing in it but the API
    ("GET", "/openapi.json"): ANYONE,
    ("GET", "/static/{path}"): ANYONE,  # scripts and styles, the same for everybody
    ("GET", "/status"): ANY_ROLE,
    ("GET", "/backup"): ADMINISTER,
    ("GET", "/metrics"): ANY_ROLE,
    ("GET", "/metrics/history"): ANY_ROLE,
    ("POST", "/login"): ANYONE,
    ("POST", "/login/refreshToken"): ANYONE,
    ("DELETE", "/login/refreshToken"): ANYONE,
    ("DELETE", "/login/refreshToken/{refreshToken}"): ANYONE,
    ("GET", "/login/oidc"): ANYONE,
    ("GET", "/login/oidc/callback"): ANYONE,
    ("GET", "/.well-known/oauth-authorization-server"): ANYONE,
    ("GET", "/oauth/authorize"): ANYONE,
    ("POST", "/oauth/authorize"): ANYONE,
    ("POST", "/oauth/token"): ANYONE,
    ("POST", "/oauth/device_authorization"): ANYONE,
    ("GET", "/oauth/device"): ANYONE,
    ("POST", "/oauth/device"): ANYONE,
    ("POST", "/oauth/revoke"): ANYONE,
    ("POST", "/oauth/introspect"): ANY_ROLE,
    ("GET", "/users"): ADMINISTER,
    ("POST", "/users"): ADMINISTER,
    ("PATCH", "/users/{user}"): ADMINISTER,
    ("DELETE", "/users/{user}/tokens"): ADMINISTER,
    ("GET", "/tokens"): ANY_ROLE,
    ("POST", "/tokens"): ANY_ROLE,
    ("DELETE", "/tokens/{tokenId}"): ANY_ROLE,
    ("GET", "/sessions"): ANY_ROLE,
    ("POST", "/sessions"): RUN_CODE,
    ("DELETE", "/sessions/{id}"): RUN_CODE,
    ("DELETE", "/sessions/{id}/force"): ANY_ROLE,
    ("POST", "/sessions/{id}/execute"): RUN_CODE,
    ("POST", "/sessions/{id}/cancel"): RUN_CODE,
    ("GET", "/sessions/{id}/console-output"): ANY_ROLE,
    ("GET", "/sessions/{id}/history"): ANY_ROLE,
    ("GET", "/sessions/{id}/files"): RUN_CODE,
    ("POST", "/sessions/{id}/files"): RUN_CODE,
    ("GET", "/sessions/{id}/files/{fileName}"): RUN_CODE,
    ("DELETE", "/sessions/{id}/files/{fileName}"): RUN_CODE,
    ("GET", "/sessions/{id}/workspace"): RUN_CODE,
    ("GET", "/sessions/{id}/workspace/{objectName}"): RUN_CODE,
    ("GET", "/sessions/{id}/workspace/{objectName}/value"): RUN_CODE,
    ("POST", "/sessions/{id}/workspace/{objectName}"): RUN_CODE,
    ("DELETE", "/sessions/{id}/workspace/{objectName}"): RUN_CODE,
    ("POST", "/sessions/{id}/snapshot"): RUN_CODE,
    ("POST", "/sessions/{id}/loadsnapshot/{snapshotId}"): RUN_CODE,
    ("GET", "/snapshots"): ANY_ROLE,
    ("GET", "/snapshots/{id}"): ANY_ROLE,
    ("DELETE", "/snapshots/{id}"): ANY_ROLE,
    ("GET", "/services"): ANY_ROLE,
    ("GET", "/services/{name}"): ANY_ROLE,
    ("POST", "/services/{name}"): PUBLISH,
    ("GET", "/services/{name}/{version}"): ANY_ROLE,
    ("POST", "/services/{name}/{version}"): PUBLISH,
    ("PATCH", "/services/{name}/{version}"): PUBLISH,
    ("DELETE", "/services/{name}/{version}"): PUBLISH,
    ("POST", "/realtime-services/{name}"): PUBLISH,
    ("POST", "/realtime-services/{name}/{version}"): PUBLISH,
    ("PATCH", "/realtime-services/{name}/{version}"): PUBLISH,
    ("GET", "/services/{name}/{version}/pool"): ANY_ROLE,
    ("POST", "/services/{name}/{version}/pool"): PUBLISH,
    ("DELETE", "/services/{name}/{version}/pool"): PUBLISH,
    ("GET", "/computenodes"): ANY_ROLE,
    ("POST", "/computenodes"): ADMINISTER,
    ("PUT", "/computenodes"): ADMINISTER,
    ("DELETE", "/computenodes"): ADMINISTER,
    SCORING: ANY_ROLE,
    ("GET", "/api/{name}/{version}/swagger.json"): ANY_ROLE,
    ("POST", "/api/{name}/{version}/batch"): ANY_ROLE,
    ("GET", "/api/{name}/{version}/batch"): ANY_ROLE,
    ("GET", "/api/{name}/{version}/batch/{executionId}"): ANY_ROLE,
    ("DELETE", "/api/{name}/{version}/batch/{executionId}"): ANY_ROLE,
    ("GET", "/api/{name}/{version}/batch/{executionId}/{index}/files"): ANY_ROLE,
    ("GET", "/api/{name}/{version}/batch/{executionId}/{index}/files/{fileName}"): ANY_ROLE,
    ("GET", "/console/sign-in"): ANYONE,
    ("POST", "/console/sign-in"): ANYONE,
    ("POST", "/console/sign-out"): ANYONE,
    ("GET", "/console/"): ANYONE,  # leads to the one without the slash
    ("GET", "/console"): ANY_ROLE,
    ("GET", "/console/calls.json"): ANY_ROLE,
    ("GET", "/console/latency.json"): ANY_ROLE,
    ("GET", "/console/services"): ANY_ROLE,
    ("GET", "/console/services/{name}"): ANY_ROLE,
    ("GET", "/console/services/{name}/{version}"): ANY_ROLE,
    ("POST", "/console/services/{name}/{version}/try"): ANY_ROLE,
    ("GET", "/console/services/{name}/{version}/pool"): ANY_ROLE,
    ("GET", "/console/services/{name}/{version}/latency.json"): ANY_ROLE,
    ("GET", "/console/services/{name}/{version}/swagger.json"): ANY_ROLE,
    ("GET", "/console/services/{name}/{version}/diff"): ANY_ROLE,
    ("GET", "/console/services/{name}/{version}/delete"): PUBLISH,
    ("POST", "/console/services/{name}/{version}/delete"): PUBLISH,
    ("GET", "/console/sessions"): ANY_ROLE,
    ("POST", "/console/sessions"): RUN_CODE,
    ("GET", "/console/sessions/{id}"): RUN_CODE,
    ("POST", "/console/sessions/{id}/run"): RUN_CODE,
    ("POST", "/console/sessions/{id}/cancel"): RUN_CODE,
    ("GET", "/console/sessions/{id}/console"): RUN_CODE,
    ("GET", "/console/sessions/{id}/inside"): RUN_CODE,
    ("POST", "/console/sessions/{id}/objects/{objectName}/delete"): RUN_CODE,
    ("POST", "/console/sessions/{id}/files"): RUN_CODE,
    ("GET", "/console/sessions/{id}/files/{fileName}"): RUN_CODE,
    ("POST", "/console/sessions/{id}/files/{fileName}/delete"): RUN_CODE,
    ("POST", "/console/sessions/{id}/snapshot"): RUN_CODE,
    ("POST", "/console/sessions/{id}/publish"): PUBLISH,
    ("POST", "/console/sessions/{id}/close"): ANY_ROLE,
    ("GET", "/console/snapshots"): ANY_ROLE,
    ("GET", "/console/snapshots/{id}"): ANY_ROLE,
    ("GET", "/console/snapshots/{id}/content"): ANY_ROLE,
    ("GET", "/console/snapshots/{id}/diff"): ANY_ROLE,
    ("GET", "/console/snapshots/{id}/delete"): ANY_ROLE,
    ("POST", "/console/snapshots/{id}/delete"): ANY_ROLE,
    ("GET", "/console/batches"): ANY_ROLE,
    ("POST", "/console/services/{name}/{version}/batch"): ANY_ROLE,
    ("GET", "/console/batches/{name}/{version}/{executionId}"): ANY_ROLE,
    ("GET", "/console/batches/{name}/{version}/{executionId}/results.json"): ANY_ROLE,
    ("GET", "/console/batches/{name}/{version}/{executionId}/{index}/files/{fileName}"): ANY_ROLE,
    ("POST", "/console/batches/{name}/{version}/{executionId}/delete"): ANY_ROLE,
    ("GET", "/console/users"): ADMINISTER,
    ("POST", "/console/users"): ADMINISTER,
    ("GET", "/console/users/{user}"): ADMINISTER,
    ("POST", "/console/users/{user}"): ADMINISTER,
    ("POST", "/console/users/{user}/revoke"): ADMINISTER,
    ("GET", "/console/tokens"): ANY_ROLE,
    ("POST", "/console/tokens"): ANY_ROLE,
    ("POST", "/console/tokens/{tokenId}/revoke"): ANY_ROLE,
    ("GET", "/console/audit"): ADMINISTER,
}


CONSUMPTION = "/api/"  # all that a personal token for one service opens
# Shut to personal tokens: one must not make another, nor a login to outlive it, nor get at the key that tokens come of.
FOR_PEOPLE = ("/tokens", "/users", "/console/tokens", "/console/users", "/backup")


def check_complete(app: web.Application) -> None:
    """Stop the start if a route has no row in the table, or a row no route."""
    routes = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}
    if routes != PERMISSIONS.keys():
        faults = sorted(" ".join(row) for row in routes ^ PERMISSIONS.keys())
        raise RuntimeError(f"routes and their permissions do not match: {', '.join(faults)}")


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let the request through if its token's owner has the role the route asks for."""
    resource = request.match_info.route.resource
    if resource is None:  # no such route: there is nothing to guard, and the handler says so
        return await handler(request)
    permission = PERMISSIONS[request.method, resource.canonical]
    if permission is not ANYONE:
        request[WHO] = who = await _who(request)
        if who.role < permission.value:
            raise Forbidden(f"Your role, {who.role.title}, does not allow this.")
        if who.scope is not None:
            _check_scope(who.scope, request, resource.canonical)
    return await handler(request)


def may(who: Principal, method: str, route: str) -> bool:
    """Whether a role is let in by a route, as `middleware` would have it: what a page offers."""
    least = PERMISSIONS[method, route].value
    return least is None or who.role >= least


def may_score(who: Principal, name: str, version: str) -> bool:
    """Whether a service may be consumed by somebody, as `middleware` would have it."""
    return who.role >= PERMISSIONS[SCORING].value and (who.scope is None or who.scope.covers(name, version))


async def _who(request: web.Request) -> Principal:
    if "Authorization" not in request.headers and browser.is_at_home(request.path):
        return await browser.who(request)
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Log in with POST /login and send the header Authorization: Bearer <access_token>.")
    host = request.app[HOST]
    return host.tokens.remembered(token) or await _checker(host, token)(token)


def _checker(host: Host, token: str) -> Callable[[str], Awaitable[Principal]]:
    """Who is to check a token, by what it looks like."""
    if token.startswith(PREFIX):
        return host.personal.check
    if host.openid is not None and host.openid.is_from_here(token):
        return host.openid.check
    return host.tokens.check


def _check_scope(scope: Scope, request: web.Request, path: str) -> None:
    """Forbidden if a personal token is not for this."""
    if path.startswith(FOR_PEOPLE):
        raise Forbidden("This asks for the token of a login; a personal access token does not do.")
    match = request.match_info
    if scope.name is not None and not (
        path.startswith(CONSUMPTION) and scope.covers(match.get("name"), match.get("version"))
    ):
        raise Forbidden(f"This personal access token is for {scope} only.")
