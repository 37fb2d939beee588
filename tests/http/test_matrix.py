"""Who may do what: every route with every kind of caller, held against a table that is written here by hand.

The rows are those of the server's own registry of routes: a route without a row fails, and so does a row without one.
"""

import hmac
import json
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import FormData
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from mlhost.auth.keys import Keys
from mlhost.auth.principal import Role
from mlhost.host import Host
from mlhost.http.app import create_app
from mlhost.names import new_id
from tests.parts import PASSWORD, Api, signed_in, until

Route = tuple[str, str]

# The status each gets: none (a user without a role), Reader, Contributor whose thing it is, another one, Owner.
TABLE: dict[Route, tuple[int, int, int, int, int]] = {
    ("GET", "/status"): (403, 200, 200, 200, 200),
    ("GET", "/backup"): (403, 403, 403, 403, 200),
    ("GET", "/metrics"): (403, 200, 200, 200, 200),
    ("GET", "/metrics/history"): (403, 200, 200, 200, 200),
    ("POST", "/oauth/introspect"): (403, 400, 400, 400, 400),
    ("GET", "/users"): (403, 403, 403, 403, 200),
    ("POST", "/users"): (403, 403, 403, 403, 409),
    ("PATCH", "/users/{user}"): (403, 403, 403, 403, 200),
    ("DELETE", "/users/{user}/tokens"): (403, 403, 403, 403, 404),
    ("GET", "/tokens"): (403, 200, 200, 200, 200),
    ("POST", "/tokens"): (403, 201, 201, 201, 201),
    ("DELETE", "/tokens/{tokenId}"): (403, 404, 200, 404, 404),
    ("GET", "/sessions"): (403, 200, 200, 200, 200),
    ("POST", "/sessions"): (403, 403, 201, 201, 201),
    ("DELETE", "/sessions/{id}"): (403, 403, 200, 404, 404),
    ("DELETE", "/sessions/{id}/force"): (403, 404, 200, 404, 404),
    ("POST", "/sessions/{id}/execute"): (403, 403, 200, 404, 404),
    ("POST", "/sessions/{id}/cancel"): (403, 403, 200, 404, 404),
    ("GET", "/sessions/{id}/console-output"): (403, 404, 200, 404, 404),
    ("GET", "/sessions/{id}/history"): (403, 404, 200, 404, 404),
    ("GET", "/sessions/{id}/files"): (403, 403, 200, 404, 404),
    ("POST", "/sessions/{id}/files"): (403, 403, 201, 404, 404),
    ("GET", "/sessions/{id}/files/{fileName}"): (403, 403, 200, 404, 404),
    ("DELETE", "/sessions/{id}/files/{fileName}"): (403, 403, 200, 404, 404),
    ("GET", "/sessions/{id}/workspace"): (403, 403, 200, 404, 404),
    ("GET", "/sessions/{id}/workspace/{objectName}"): (403, 403, 200, 404, 404),
    ("GET", "/sessions/{id}/workspace/{objectName}/value"): (403, 403, 200, 404, 404),
    ("POST", "/sessions/{id}/workspace/{objectName}"): (403, 403, 200, 404, 404),
    ("DELETE", "/sessions/{id}/workspace/{objectName}"): (403, 403, 200, 404, 404),
    ("POST", "/sessions/{id}/snapshot"): (403, 403, 201, 404, 404),
    ("POST", "/sessions/{id}/loadsnapshot/{snapshotId}"): (403, 403, 200, 404, 404),
    ("GET", "/snapshots"): (403, 200, 200, 200, 200),
    ("GET", "/snapshots/{id}"): (403, 404, 200, 404, 404),
    ("DELETE", "/snapshots/{id}"): (403, 404, 200, 404, 404),
    ("GET", "/services"): (403, 200, 200, 200, 200),
    ("GET", "/services/{name}"): (403, 200, 200, 200, 200),
    ("POST", "/services/{name}"): (403, 403, 201, 201, 201),
    ("GET", "/services/{name}/{version}"): (403, 200, 200, 200, 200),
    ("POST", "/services/{name}/{version}"): (403, 403, 409, 409, 409),
    ("PATCH", "/services/{name}/{version}"): (403, 403, 200, 403, 200),
    ("DELETE", "/services/{name}/{version}"): (403, 403, 200, 403, 200),
    ("POST", "/realtime-services/{name}"): (403, 403, 400, 400, 400),
    ("POST", "/realtime-services/{name}/{version}"): (403, 403, 400, 400, 400),
    ("PATCH", "/realtime-services/{name}/{version}"): (403, 403, 400, 403, 400),
    ("GET", "/services/{name}/{version}/pool"): (403, 200, 200, 200, 200),
    ("POST", "/services/{name}/{version}/pool"): (403, 403, 200, 403, 200),
    ("DELETE", "/services/{name}/{version}/pool"): (403, 403, 200, 403, 200),
    ("GET", "/computenodes"): (403, 200, 200, 200, 200),
    ("POST", "/computenodes"): (403, 403, 403, 403, 400),
    ("PUT", "/computenodes"): (403, 403, 403, 403, 200),
    ("DELETE", "/computenodes"): (403, 403, 403, 403, 200),
    ("POST", "/api/{name}/{version}"): (403, 200, 200, 200, 200),
    ("GET", "/api/{name}/{version}/swagger.json"): (403, 200, 200, 200, 200),
    ("POST", "/api/{name}/{version}/batch"): (403, 202, 202, 202, 202),
    ("GET", "/api/{name}/{version}/batch"): (403, 200, 200, 200, 200),
    ("GET", "/api/{name}/{version}/batch/{executionId}"): (403, 404, 200, 404, 200),
    ("DELETE", "/api/{name}/{version}/batch/{executionId}"): (403, 404, 200, 404, 200),
    ("GET", "/api/{name}/{version}/batch/{executionId}/{index}/files"): (403, 404, 200, 404, 200),
    ("GET", "/api/{name}/{version}/batch/{executionId}/{index}/files/{fileName}"): (403, 404, 200, 404, 200),
    ("GET", "/console"): (403, 200, 200, 200, 200),
    ("GET", "/console/calls.json"): (403, 200, 200, 200, 200),
    ("GET", "/console/latency.json"): (403, 200, 200, 200, 200),
    ("GET", "/console/services"): (403, 200, 200, 200, 200),
    ("GET", "/console/services/{name}"): (403, 303, 303, 303, 303),
    ("GET", "/console/services/{name}/{version}"): (403, 200, 200, 200, 200),
    ("POST", "/console/services/{name}/{version}/try"): (403, 200, 200, 200, 200),
    ("GET", "/console/services/{name}/{version}/pool"): (403, 200, 200, 200, 200),
    ("GET", "/console/services/{name}/{version}/latency.json"): (403, 200, 200, 200, 200),
    ("GET", "/console/services/{name}/{version}/swagger.json"): (403, 200, 200, 200, 200),
    ("GET", "/console/services/{name}/{version}/diff"): (403, 200, 200, 200, 200),
    ("GET", "/console/services/{name}/{version}/delete"): (403, 403, 200, 403, 200),
    ("POST", "/console/services/{name}/{version}/delete"): (403, 403, 303, 403, 303),
    ("GET", "/console/sessions"): (403, 200, 200, 200, 200),
    ("POST", "/console/sessions"): (403, 403, 303, 303, 303),
    ("GET", "/console/sessions/{id}"): (403, 403, 200, 404, 404),
    ("POST", "/console/sessions/{id}/run"): (403, 403, 200, 404, 404),
    ("POST", "/console/sessions/{id}/cancel"): (403, 403, 303, 404, 404),
    ("GET", "/console/sessions/{id}/console"): (403, 403, 200, 404, 404),
    ("GET", "/console/sessions/{id}/inside"): (403, 403, 200, 404, 404),
    ("POST", "/console/sessions/{id}/objects/{objectName}/delete"): (403, 403, 303, 404, 404),
    ("POST", "/console/sessions/{id}/files"): (403, 403, 303, 404, 404),
    ("GET", "/console/sessions/{id}/files/{fileName}"): (403, 403, 200, 404, 404),
    ("POST", "/console/sessions/{id}/files/{fileName}/delete"): (403, 403, 303, 404, 404),
    ("POST", "/console/sessions/{id}/snapshot"): (403, 403, 303, 404, 404),
    ("POST", "/console/sessions/{id}/publish"): (403, 403, 303, 404, 404),
    ("POST", "/console/sessions/{id}/close"): (403, 404, 303, 404, 404),
    ("GET", "/console/snapshots"): (403, 200, 200, 200, 200),
    ("GET", "/console/snapshots/{id}"): (403, 404, 200, 404, 404),
    ("GET", "/console/snapshots/{id}/content"): (403, 404, 200, 404, 404),
    ("GET", "/console/snapshots/{id}/diff"): (403, 404, 200, 404, 404),
    ("GET", "/console/snapshots/{id}/delete"): (403, 404, 200, 404, 404),
    ("POST", "/console/snapshots/{id}/delete"): (403, 404, 303, 404, 404),
    ("GET", "/console/batches"): (403, 200, 200, 200, 200),
    ("POST", "/console/services/{name}/{version}/batch"): (403, 303, 303, 303, 303),
    ("GET", "/console/batches/{name}/{version}/{executionId}"): (403, 404, 200, 404, 200),
    ("GET", "/console/batches/{name}/{version}/{executionId}/results.json"): (403, 404, 200, 404, 200),
    ("GET", "/console/batches/{name}/{version}/{executionId}/{index}/files/{fileName}"): (403, 404, 200, 404, 200),
    ("POST", "/console/batches/{name}/{version}/{executionId}/delete"): (403, 404, 303, 404, 303),
    ("GET", "/console/users"): (403, 403, 403, 403, 200),
    ("POST", "/console/users"): (403, 403, 403, 403, 409),
    ("GET", "/console/users/{user}"): (403, 403, 403, 403, 200),
    ("POST", "/console/users/{user}"): (403, 403, 403, 403, 303),
    ("POST", "/console/users/{user}/revoke"): (403, 403, 403, 403, 404),
    ("GET", "/console/tokens"): (403, 200, 200, 200, 200),
    ("POST", "/console/tokens"): (403, 200, 200, 200, 200),
    ("POST", "/console/tokens/{tokenId}/revoke"): (403, 404, 303, 404, 404),
    ("GET", "/console/audit"): (403, 403, 403, 403, 200),
    ("GET", "/console/services/{name}/{version}/docs"): (403, 200, 200, 200, 200),
}
OPEN: dict[Route, int] = {  # to anyone; the status without a body or query
    ("GET", "/livez"): 200,
    ("GET", "/docs"): 200,
    ("GET", "/static/{path}"): 404,
    ("GET", "/readyz"): 200,
    ("GET", "/swagger.json"): 200,
    ("GET", "/openapi.json"): 200,
    ("GET", "/.well-known/oauth-authorization-server"): 200,
    ("GET", "/oauth/authorize"): 400,
    ("POST", "/oauth/authorize"): 400,
    ("POST", "/oauth/token"): 400,
    ("POST", "/oauth/device_authorization"): 400,
    ("GET", "/oauth/device"): 200,
    ("POST", "/oauth/device"): 403,
    ("POST", "/oauth/revoke"): 400,
    ("GET", "/login/oidc"): 404,  # no provider is set
    ("GET", "/login/oidc/callback"): 404,
    ("POST", "/login"): 400,
    ("POST", "/login/refreshToken"): 400,
    ("DELETE", "/login/refreshToken"): 400,
    ("DELETE", "/login/refreshToken/{refreshToken}"): 401,
    ("GET", "/"): 404,  # but for browsers
    ("GET", "/console/"): 303,
    ("GET", "/console/sign-in"): 200,
    ("POST", "/console/sign-in"): 403,
    ("POST", "/console/sign-out"): 303,
}
PUBLICATION = {
    "runtimeType": "Python",
    "code": "open('made.txt', 'w').write('1')",
    "outputFileNames": ["made.txt"],
}
BODIES: dict[Route, Any] = {
    ("POST", "/users"): {"name": "carol", "password": PASSWORD, "role": "Owner"},
    ("PATCH", "/users/{user}"): {},
    ("POST", "/tokens"): {"name": "matrix", "scope": "all"},
    ("POST", "/sessions"): {"runtimeType": "Python"},
    ("POST", "/sessions/{id}/execute"): {"code": "1"},
    ("POST", "/sessions/{id}/snapshot"): {"name": None},
    ("POST", "/services/{name}"): PUBLICATION,
    ("POST", "/services/{name}/{version}"): PUBLICATION,
    ("PATCH", "/services/{name}/{version}"): {"description": "changed"},
    ("POST", "/services/{name}/{version}/pool"): {},
    ("POST", "/computenodes"): {"entries": []},
    ("PUT", "/computenodes"): {"entries": []},
    ("DELETE", "/computenodes"): {"entries": []},
    ("POST", "/api/{name}/{version}"): {},
    ("POST", "/api/{name}/{version}/batch"): [{}],
}
FORMS: dict[Route, dict[str, str]] = {
    ("POST", "/console/users"): {"name": "carol", "password": PASSWORD, "role": "Owner"},
    ("POST", "/console/tokens"): {"name": "matrix", "scope": "all"},
    ("POST", "/console/services/{name}/{version}/batch"): {"records": "{}"},
    ("POST", "/console/sessions/{id}/publish"): {"name": "matrix", "code": "1", "with_workspace": "on"},
}


@pytest.fixture(scope="module")
async def callers(host: Host, url: str) -> AsyncIterator[tuple[Api, ...]]:
    """One for each column of the table."""
    await host.users.add("cora", PASSWORD, Role.CONTRIBUTOR)
    names = ("norman", "rita", "carol", "cora", "admin")
    async with AsyncExitStack() as stack:
        yield tuple([await stack.enter_async_context(signed_in(url, name)) for name in names])


@dataclass
class Things:
    """What carol has of all that a path can name."""

    carol: Api

    async def filled(self, path: str) -> str:
        """The path with her things in the place of its parameters, made anew."""
        values = {
            "fileName": "made.txt",
            "objectName": "x",
            "index": "0",
            "refreshToken": "unheard-of",
            "path": "none.js",
        }
        values["user"] = "nobody" if path.endswith(("/tokens", "/revoke")) else "carol"
        if "/sessions/{id}" in path:
            session = await self.carol.session()
            await self.carol.execute(session, "x = open('made.txt', 'w').write('1')")
            values["id"] = session.removeprefix("/sessions/")
            if "{snapshotId}" in path:
                values["snapshotId"] = await self._snapshot(session)
        elif "{id}" in path:
            session = await self.carol.session()
            values["id"] = await self._snapshot(session)
            await self.carol("DELETE", f"{session}/force")
        elif "{name}" in path:
            values |= {"name": f"matrix-{new_id()}", "version": "1"}
            await self.carol("POST", f"/services/{values['name']}/1", 201, PUBLICATION)
        if "{tokenId}" in path:
            made = await self.carol("POST", "/tokens", 201, {"name": "matrix", "scope": "all"})
            values["tokenId"] = made["id"]
        if "{executionId}" in path:
            values["executionId"] = await self._batch(f"/api/{values['name']}/1/batch")
        return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], path)

    async def tidy(self, *others: Api) -> None:
        """Remove what is left of them, since each holds a worker, and the sessions of the others."""
        for api in (self.carol, *others):
            for session in await api("GET", "/sessions"):
                await api("DELETE", f"/sessions/{session['id']}/force")
            for token in await api("GET", "/tokens"):
                if token["name"] == "matrix":
                    await api("DELETE", f"/tokens/{token['id']}")
        for service in await self.carol("GET", "/services"):
            if service["versionPublishedBy"] == "carol":
                await self.carol("DELETE", f"/services/{service['name']}/{service['version']}")

    async def _snapshot(self, session: str) -> str:
        return str((await self.carol("POST", f"{session}/snapshot", 201, {"name": None}))["snapshotId"])

    async def _batch(self, path: str) -> str:
        execution_id = (await self.carol("POST", path, 202, [{}]))["batchExecutionId"]
        while (await self.carol("GET", f"{path}/{execution_id}"))["state"] != "Complete":
            pass
        return str(execution_id)


def by_hand(header: dict[str, str], payload: str, secret: bytes) -> str:
    """A token signed with what joserfc refuses to take for a secret."""
    signed = f"{urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip('=')}.{payload}"
    return f"{signed}.{urlsafe_b64encode(hmac.digest(secret, signed.encode(), 'sha256')).decode().rstrip('=')}"


async def status(api: Api, route: Route, address: str, token: str) -> int:
    method, path = route
    options: dict[str, Any] = {"json": BODIES[route]} if route in BODIES else {}
    if route in FORMS:
        options = {"data": FORMS[route]}
    elif method == "POST" and path.endswith("/sessions/{id}/files"):
        options = {"data": FormData()}
        options["data"].add_field("file", b"1", filename="up.txt")
    elif path.endswith("{objectName}") and method == "POST":
        options = {"data": b"\x80\x04K\x01."}  # the pickle of 1
    elif path.startswith("/realtime-services"):
        options = {"data": FormData(default_to_multipart=True)}
        options["data"].add_field("description", "changed")  # no model: whoever may publish one is told to send it
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with api.http.request(method, address, headers=headers, allow_redirects=False, **options) as response:
        await response.read()
        return response.status


def test_every_route_has_a_row_and_every_row_a_route(host: Host) -> None:
    routes = {(route.method, route.resource.canonical) for route in create_app(host).router.routes() if route.resource}
    assert routes == TABLE.keys() | OPEN.keys()
    assert not TABLE.keys() & OPEN.keys()


@pytest.mark.parametrize("route", TABLE, ids=" ".join)
async def test_each_role_gets_what_the_table_says(callers: tuple[Api, ...], route: Route) -> None:
    things = Things(callers[2])
    given = []
    for caller in callers:
        given.append(await status(caller, route, await things.filled(route[1]), caller.token))
        await things.tidy(*callers[1:])
    assert tuple(given) == TABLE[route]


@pytest.fixture(scope="module")
async def personal(callers: tuple[Api, ...]) -> dict[str, str]:
    """Personal access tokens: of admin for each purpose, and of rita for more than she may do."""
    wanted = [("admin", 4, "all"), ("admin", 4, "publish"), ("admin", 4, "consume:one"), ("rita", 1, "publish")]
    return {
        f"{owner} {scope}": (await callers[at]("POST", "/tokens", 201, {"name": f"matrix {scope}", "scope": scope}))[
            "token"
        ]
        for owner, at, scope in wanted
    }


@pytest.mark.parametrize("route", TABLE, ids=" ".join)
async def test_a_personal_token_opens_no_more_than_its_scope_and_its_owner_s_role(
    callers: tuple[Api, ...], personal: dict[str, str], route: Route
) -> None:
    things, given = Things(callers[2]), {}
    for kind, token in personal.items():
        given[kind] = await status(callers[4], route, await things.filled(route[1]), token)
        await things.tidy(callers[1], callers[4])
    _, reader, _, other, owner = TABLE[route]
    if route[1].removeprefix("/console").startswith(("/tokens", "/users", "/backup")):
        reader = other = owner = 403
    assert given == {"admin all": owner, "admin publish": other, "admin consume:one": 403, "rita publish": reader}


@pytest.mark.parametrize("route", OPEN, ids=" ".join)
async def test_what_is_open_is_open_whatever_the_header_says(anonymous: Api, norman: Api, route: Route) -> None:
    address = await Things(anonymous).filled(route[1])
    assert {await status(anonymous, route, address, token) for token in ("", norman.token, "a.b.c")} == {OPEN[route]}


@pytest.fixture(scope="module")
async def unsound(host: Host, url: str) -> dict[str, str]:
    """Tokens that an Owner's is the model of, each with one thing wrong."""
    keys = Keys(host.store, host.folder.key("tokens"), 3600, time.time)
    await keys.load()
    key = await keys.current()
    async with aiohttp.ClientSession(url) as http:
        real = await Api(http).login("admin")
        revoked = await Api(http).login("admin")
        await revoked("DELETE", "/login/refreshToken", params={"refreshToken": revoked.refresh})
    claims = jwt.decode(real.token, key.secret).claims
    header = {"alg": "HS256", "typ": "at+jwt", "kid": key.id}
    forger, pair = OctKey.generate_key(256), RSAKey.generate_key(2048)
    assert jwt.encode(header, claims, key.secret) == real.token

    def signed(secret: OctKey | RSAKey, **changes: Any) -> str:
        made = header | changes
        return jwt.encode(made, claims, secret, algorithms=["HS256", "HS512", "RS256"])

    payload, signature = real.token.split(".")[1:]
    return {
        "anonymous": "",
        "expired": jwt.encode(header, claims | {"exp": int(time.time()) - 31}, key.secret),
        "revoked": revoked.token,
        "of a grant that never was": jwt.encode(header, claims | {"sid": new_id()}, key.secret),
        "alg none": f"eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{payload}.",
        "alg none with the real signature": f"eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{payload}.{signature}",
        "another key under the real kid": signed(forger),
        "an unknown kid": signed(key.secret, kid=new_id()),
        "a kid that is no text": signed(key.secret, kid=""),
        "another algorithm": signed(key.secret, alg="HS512"),
        "RS256": signed(pair, alg="RS256"),
        "HS256 with a public key for a secret": by_hand(header, payload, pair.as_pem(private=False)),
        "its own key in jwk": signed(forger, jwk=forger.as_dict(private=True)),
        "another type": signed(key.secret, typ="JWT"),
        "for another audience": jwt.encode(header, claims | {"aud": "other"}, key.secret),
        "from another issuer": jwt.encode(header, claims | {"iss": "other"}, key.secret),
        "cut short": real.token[:-4],
        "an unknown personal token": "mlh_" + "a" * 43,
    }


@pytest.mark.parametrize("route", TABLE, ids=" ".join)
async def test_no_route_takes_a_token_that_does_not_hold(anonymous: Api, unsound: dict[str, str], route: Route) -> None:
    address = re.sub(r"\{\w+\}", "x", route[1])
    answers = {kind: await status(anonymous, route, address, token) for kind, token in unsound.items()}
    assert answers == dict.fromkeys(unsound, 401)


async def test_a_demotion_counts_from_the_next_request_on(anonymous: Api, host: Host, callers: tuple[Api, ...]) -> None:
    await host.users.add("dana", PASSWORD, Role.CONTRIBUTOR)
    await anonymous.login("dana")
    name = f"matrix-{new_id()}"
    await anonymous("POST", f"/services/{name}/1", 201, PUBLICATION)
    session = await anonymous.session()
    await anonymous.execute(session, "x = 1")
    await host.users.set_role("dana", Role.READER)
    await anonymous("GET", "/services", 401)
    await anonymous.login("dana")
    for method, path, body in (
        ("PATCH", f"/services/{name}/1", {"description": "mine"}),
        ("DELETE", f"/services/{name}/1", None),
        ("POST", f"{session}/execute", {"code": "1"}),
        ("GET", f"{session}/workspace/x", None),
        ("DELETE", session, None),
    ):
        await anonymous(method, path, 403, body)
    [seen] = await anonymous("GET", f"/services/{name}/1")
    assert (seen["myPermissionOnService"], seen["code"]) == ("read only", PUBLICATION["code"])  # they published it
    assert len(await anonymous("GET", "/sessions")) == 1
    await anonymous("DELETE", f"{session}/force")
    await callers[4]("DELETE", f"/services/{name}/1")


async def test_a_readers_pickle_is_never_opened(rita: Api, carol: Api, tmp_path: Any) -> None:
    """In every route, field and content type a Reader can send; the canary writes a file when it is opened."""
    canary = f"cposix\nsystem\n(S'touch {tmp_path}/hit'\ntR.".encode()
    things = Things(carol)
    for route in TABLE:
        address = await things.filled(route[1])
        for kind in ("application/octet-stream", "application/json", "application/vnd.python.pickle", "text/plain"):
            headers = {"Authorization": f"Bearer {rita.token}", "Content-Type": kind, "X-Object": canary.hex()}
            async with rita.http.request(route[0], address, data=canary, headers=headers) as response:
                await response.read()
        await things.tidy()
    assert not (tmp_path / "hit").exists()
    session = await carol.session()  # and the canary does sing
    await carol("POST", f"{session}/workspace/y", data=canary)
    await until((tmp_path / "hit").exists)
    await carol("DELETE", session)
