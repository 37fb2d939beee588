"""The Python client: sessions, services and batches of a server, blocking (`connect`) or awaited (`connect_async`).

    from mlhost.client import connect

    ml = connect()

    @ml.service("doubled", "1.0")
    def doubled(x: float) -> float:
        return 2 * x

    doubled(21)

Its errors are those of `mlhost.errors`, with the server's message. Importing it opens nothing and loads neither numpy
nor pandas nor aiohttp; what comes from a server is opened as data, never run (see `mlhost.client.pickles`).
"""

from __future__ import annotations

import os
import ssl

from mlhost.client.batches import AsyncBatch, Batch
from mlhost.client.blocking import BlockingWire
from mlhost.client.clients import AsyncClient, Client
from mlhost.client.comparing import Difference
from mlhost.client.services import AsyncService, Reply, Service
from mlhost.client.sessions import AsyncSession, Opened, Run, Session
from mlhost.client.snapshots import Contents, Snapshot
from mlhost.client.transport import Credentials, Transport
from mlhost.errors import Invalid, Unavailable
from mlhost.places import ADMIN, DEFAULT_URL, Logins, data_folder, local_server

__all__ = [
    "AsyncBatch",
    "AsyncClient",
    "AsyncService",
    "AsyncSession",
    "Batch",
    "Client",
    "Contents",
    "Difference",
    "Opened",
    "Reply",
    "Run",
    "Service",
    "Session",
    "Snapshot",
    "connect",
    "connect_async",
]


def connect(
    url: str | None = None,
    *,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    ca: str | None = None,
    timeout_seconds: float | None = None,
    trust: bool = False,
) -> Client:
    """A client that is signed in.

    Without a URL: MLHOST_URL, else where `mlhost login` was last, else the server of this user that runs on this
    machine with its default data folder. Without token or password: MLHOST_TOKEN, MLHOST_USER and MLHOST_PASSWORD, else
    the login that `mlhost login` saved for the URL, else, at this user's own server, the password its first start left
    in its data folder.

    `ca` is a file of certificates to trust (MLHOST_CA), a server's self-signed one, say. `timeout_seconds` is the
    longest silence of the server that is borne. `trust` opens objects of sessions whatever they are, which lets the
    server run code here. Unavailable if nobody answers, Unauthenticated if name or password is wrong.
    """
    transport = Transport(*_found(url, Credentials(token or "", user or "", password or "")))
    wire = BlockingWire(transport, _tls(transport.url, ca), timeout_seconds)
    try:
        wire.run(transport.sign_in())
    except BaseException:
        wire.close()
        raise
    return Client(wire, trust=trust)


def connect_async(
    url: str | None = None,
    *,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    ca: str | None = None,
    timeout_seconds: float | None = None,
    trust: bool = False,
) -> AsyncClient:
    """A client whose verbs are awaited, for `async with`; it signs in with its first request. See `connect`."""
    from mlhost.client.awaiting import AwaitingWire

    transport = Transport(*_found(url, Credentials(token or "", user or "", password or "")))
    return AsyncClient(AwaitingWire(transport, _tls(transport.url, ca), timeout_seconds), trust=trust)


def _found(url: str | None, given: Credentials) -> tuple[str, Credentials]:
    """Where the server is and as whom to ask it."""
    logins = Logins.here()
    local = local_server(data_folder())
    saved = logins.find(url or os.environ.get("MLHOST_URL"))
    at = url or os.environ.get("MLHOST_URL") or (saved and saved.url) or (local and local[0]) or DEFAULT_URL
    if not at.startswith(("http://", "https://")):
        raise Invalid(f"{at!r} is no address of a server, such as {DEFAULT_URL}.", field="url")
    user = given.user or os.environ.get("MLHOST_USER") or ADMIN
    if given.token or given.password:
        return at, Credentials(given.token, user, given.password)
    token, password = os.environ.get("MLHOST_TOKEN", ""), os.environ.get("MLHOST_PASSWORD", "")
    if token or password:
        return at, Credentials(token, user, password)
    if saved is not None and given.user in ("", saved.user):
        return at, Credentials(saved.token)
    first = local[1] if local is not None and local[0] == at.rstrip("/") and user == ADMIN else ""
    return at, Credentials("", user, first)


def _tls(url: str, ca: str | None) -> ssl.SSLContext | None:
    if not url.startswith("https://"):
        return None
    file = ca or os.environ.get("MLHOST_CA") or None
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as fault:
        raise Unavailable(f"The certificates in {file} cannot be read: {fault}") from fault
