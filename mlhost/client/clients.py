"""The two clients, blocking and asynchronous: who is signed in at which server, and what they start from there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self

from mlhost.client import functions
from mlhost.client.functions import Published
from mlhost.client.services import AnyService, AsyncService, Draft, Service, Told, every, found, published
from mlhost.client.sessions import AsyncSession, Options, Session
from mlhost.client.steps import Awaiting, Blocking, Steps, verb
from mlhost.client.transport import Transport, path
from mlhost.names import RUNTIME

if TYPE_CHECKING:
    from mlhost.client.awaiting import AwaitingWire
    from mlhost.client.blocking import BlockingWire


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A frozen workspace."""

    id: str
    name: str
    size: int  # bytes


class _Verbs(Generic[AnyService]):
    """What both kinds of client do."""

    wire: Any
    _service: Callable[[Any, Told, Mapping[str, Any]], AnyService]

    @property
    def url(self) -> str:
        """Where the server is."""
        transport: Transport = self.wire.transport
        return transport.url

    @verb
    def get(self, name: str, version: str | None = None) -> Steps[AnyService]:
        """A service to call; the latest version if none is given. NotFound if there is none."""
        return self._service(self.wire, (yield from found(self.wire.transport, name, version)), {})

    @verb
    def services(self, name: str | None = None) -> Steps[list[AnyService]]:
        """All versions of all services, or of one, the oldest first."""
        told = yield from every(self.wire.transport, name)
        return [self._service(self.wire, each, {}) for each in told]

    @verb
    def publish(
        self,
        what: Any,
        name: str,
        version: str | None = None,
        *,
        description: str | None = None,
        replace: bool = False,
    ) -> Steps[AnyService]:
        """Publish a typed function with all it uses, or a fitted model (anything with `predict`).

        Inputs and outputs are taken from the annotations: int, float, str, bool, lists, numpy.ndarray and
        pandas.DataFrame. One that returns a TypedDict, NamedTuple or dataclass has an output for each field, else the
        output is `answer`. A model takes `rows` and answers what its `predict` says of each. Without a version the
        server makes one. Conflict if the version is there and `replace` is not set; Invalid if it cannot be pickled or
        does not load.
        """
        is_model = not callable(what) and hasattr(what, "predict")
        made = functions.of_model(what) if is_model else functions.of(what)
        snapshot = yield from self._carried(made)
        draft = Draft(made.code, made.inputs, made.outputs, made.init, description or made.description, snapshot)
        transport: Transport = self.wire.transport
        try:
            told = yield from published(transport, name, version, draft, replace=replace)
        finally:  # it is baked into the version
            yield from transport.ask("DELETE", path("snapshots", snapshot))
        return self._service(self.wire, told, made.defaults)

    @verb
    def snapshots(self) -> Steps[list[Snapshot]]:
        """The snapshots of whoever is signed in."""
        told = (yield from self.wire.transport.ask("GET", "/snapshots")).json()
        return [Snapshot(each["id"], each["name"], each["contentSize"]) for each in told]

    @verb
    def delete_snapshot(self, snapshot: str) -> Steps[None]:
        """Delete a snapshot by its id; services made of it keep what they have."""
        yield from self.wire.transport.ask("DELETE", path("snapshots", snapshot))

    @verb
    def status(self) -> Steps[dict[str, Any]]:
        """The state of the server's parts."""
        told: dict[str, Any] = (yield from self.wire.transport.ask("GET", "/status")).json()
        return told

    @verb
    def bearer(self) -> Steps[str]:
        """A token that is good now, for other programs to send: `Authorization: Bearer <token>`."""
        token: str = yield from self.wire.transport.token()
        return token

    @verb
    def create_token(self, name: str, scope: str, *, days: int = 90) -> Steps[str]:
        """A personal access token for a script: scope `all`, `publish`, `consume:NAME` or `consume:NAME/VERSION`.

        The server tells it only now. Forbidden to whoever shows a personal access token: sign in with a password.
        """
        asked = {"name": name, "scope": scope, "expiresInDays": days}
        told: str = (yield from self.wire.transport.ask("POST", "/tokens", asked)).json()["token"]
        return told

    @verb
    def revoke_token(self, token: str) -> Steps[None]:
        """End a token of any kind (RFC 7009); one that does not hold any more has ended already."""
        yield from self.wire.transport.revoke(token)

    def _carried(self, made: Published) -> Steps[str]:
        """A snapshot that holds the pickle and nothing else; as bytes, so that nobody opens it but the service."""
        transport: Transport = self.wire.transport
        asked = {"runtimeType": RUNTIME}
        session = path("sessions", (yield from transport.ask("POST", "/sessions", asked)).json()["sessionId"])
        try:
            yield from transport.ask("POST", f"{session}/workspace/{functions.PICKLED}", body=made.pickled)
            told: str = (yield from transport.ask("POST", f"{session}/snapshot", {"name": None})).json()["snapshotId"]
        finally:
            yield from transport.ask("DELETE", session)
        return told


class Client(_Verbs[Service], Blocking):
    """A server, as whoever is signed in sees it; made by `connect`. `close`, or the end of its `with`, signs out."""

    _service = Service

    def __init__(self, wire: BlockingWire, *, trust: bool = False) -> None:
        super().__init__(wire)
        self._trust = trust

    def session(self, name: str | None = None, *, snapshot: str | None = None, placement: str | None = None) -> Session:
        """Open a session, on a snapshot's workspace if one is named."""
        return Session(self.wire, Options(name, snapshot, placement, self._trust))

    def service(
        self, name: str, version: str | None = None, *, description: str | None = None, replace: bool = False
    ) -> Callable[[Callable[..., Any]], Service]:
        """Publish the function below as a service, which takes its name; see `publish`.

        Calling it asks the server; the function itself is its `__wrapped__`.
        """

        def decorated(function: Callable[..., Any]) -> Service:
            service = self.publish(function, name, version, description=description, replace=replace)
            functools.update_wrapper(service, function)
            return service

        return decorated

    def close(self) -> None:
        """Sign out, if `connect` signed in, and close the connections."""
        try:
            self.wire.run(self.wire.transport.sign_out())
        finally:
            self.wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(_Verbs[AsyncService], Awaiting):
    """The same for an event loop: every verb gives something to await. Signs in with its first request."""

    _service = AsyncService

    def __init__(self, wire: AwaitingWire, *, trust: bool = False) -> None:
        super().__init__(wire)
        self._trust = trust

    def session(
        self, name: str | None = None, *, snapshot: str | None = None, placement: str | None = None
    ) -> AsyncSession:
        """A session, opened by `await` or `async with`."""
        return AsyncSession(self.wire, Options(name, snapshot, placement, self._trust))

    async def close(self) -> None:
        """Sign out, if a password was given, and close the connections."""
        try:
            await self.wire.run(self.wire.transport.sign_out())
        finally:
            await self.wire.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
