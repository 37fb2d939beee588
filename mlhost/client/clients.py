"""The two clients, blocking and asynchronous: who is signed in at which server, and what they start from there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Generic, Self

from mlhost.client import functions
from mlhost.client import snapshots as kept
from mlhost.client.batches import AnyBatch, AsyncBatch, Batch
from mlhost.client.comparing import Difference, of_contents, of_versions
from mlhost.client.functions import Published
from mlhost.client.services import AnyService, AsyncService, Draft, Service, Told, every, found, published
from mlhost.client.sessions import AsyncSession, Opened, Options, Session
from mlhost.client.snapshots import Contents, Snapshot, Tell
from mlhost.client.steps import Awaiting, Blocking, Sink, Steps, verb
from mlhost.client.transport import Transport, path
from mlhost.client.values import NamedTypes
from mlhost.errors import NotFound
from mlhost.names import RUNTIME

if TYPE_CHECKING:
    from mlhost.client.awaiting import AwaitingWire
    from mlhost.client.blocking import BlockingWire


UNKNOWN = (
    "Objects and files were not compared: a version's snapshot was deleted, as it is when a function was published,"
    " or is somebody else's."
)


class _Verbs(Generic[AnyService, AnyBatch]):
    """What both kinds of client do."""

    wire: Any
    _service: Callable[[Any, Told, Mapping[str, Any]], AnyService]
    _batch: Callable[[Any, tuple[str, str], str, NamedTypes], AnyBatch]

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
    def compare(self, name: str, old: str, new: str) -> Steps[Difference]:
        """What differs between two versions of a service: signature, code, and what their snapshots hold.

        Snapshots that were deleted, or are somebody else's, cannot be looked into: `unknown` says so.
        """
        transport: Transport = self.wire.transport
        before = (yield from found(transport, name, old)).record
        after = (yield from found(transport, name, new)).record
        difference: Difference = of_versions(before, after)
        if before["snapshotId"] == after["snapshotId"]:
            return difference
        try:
            held: Contents = yield from self._held(before)
            holds: Contents = yield from self._held(after)
        except NotFound:
            return Difference(difference.changes, difference.code, UNKNOWN)
        return Difference([*difference.changes, *of_contents(held, holds)], difference.code)

    @verb
    def batches(self, name: str | None = None) -> Steps[list[AnyBatch]]:
        """The batches the server keeps: one's own, to Owners all; of all services or of one."""
        made: list[AnyBatch] = []
        for told in (yield from every(self.wire.transport, name)):
            batches = path("api", told.name, told.version, "batch")
            ids = (yield from self.wire.transport.ask("GET", batches)).json()
            made += [self._batch(self.wire, (told.name, told.version), each, told.outputs) for each in ids]
        return made

    @verb
    def batch(self, batch: str) -> Steps[AnyBatch]:
        """A batch by its id, whichever service it is of; NotFound if there is none."""
        for told in (yield from every(self.wire.transport, None)):
            batches = path("api", told.name, told.version, "batch")
            if batch in (yield from self.wire.transport.ask("GET", batches)).json():
                return self._batch(self.wire, (told.name, told.version), batch, told.outputs)
        raise NotFound(f"There is no batch {batch!r}.")

    @verb
    def sessions(self) -> Steps[list[Opened]]:
        """The open sessions of whoever is signed in."""
        told = (yield from self.wire.transport.ask("GET", "/sessions")).json()
        return [
            Opened(each["id"], each["name"], each.get("placement", ""), each.get("pythonVersion", "")) for each in told
        ]

    @verb
    def kill_session(self, session: str) -> Steps[None]:
        """End a session by its id, whatever it is doing; NotFound if there is none."""
        yield from self.wire.transport.ask("DELETE", path("sessions", session, "force"))

    @verb
    def snapshots(self) -> Steps[list[Snapshot]]:
        """The snapshots of whoever is signed in, the oldest first."""
        return (yield from kept.every(self.wire.transport))

    @verb
    def snapshot(self, snapshot: str) -> Steps[Snapshot]:
        """A snapshot by its id, or by its name if only one has it; NotFound if there is none."""
        return (yield from kept.found(self.wire.transport, snapshot))

    @verb
    def contents(self, snapshot: str) -> Steps[Contents]:
        """What a snapshot holds, by its id; it is downloaded, and nothing of it is opened."""
        return (yield from kept.contents(self.wire.transport, snapshot))

    @verb
    def download_snapshot(self, snapshot: str, file: IO[bytes], tell: Tell | None = None) -> Steps[None]:
        """Write a snapshot, by its id, to a file as a zip; `tell` hears how many bytes of how many are there."""
        yield from kept.downloaded(self.wire.transport, snapshot, file, tell)

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
    def backup(self, file: IO[bytes], tell: Tell | None = None) -> Steps[None]:
        """Write all that the server is to a file, for `mlhost restore`; `tell` hears how many bytes of how many.

        Forbidden unless an Owner asks who signed in with a password: whoever has the file can make any token.
        """
        into = Sink(file, tell) if tell else Sink(file)
        yield from self.wire.transport.ask("GET", "/backup", into=into)

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

    def _held(self, version: Mapping[str, Any]) -> Steps[Contents]:
        """What the workspace held that a version was published with; NotFound if its snapshot is out of reach."""
        snapshot: str | None = version["snapshotId"]
        return (yield from kept.contents(self.wire.transport, snapshot)) if snapshot else kept.NOTHING

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


class Client(_Verbs[Service, Batch], Blocking):
    """A server, as whoever is signed in sees it; made by `connect`. `close`, or the end of its `with`, signs out."""

    _service, _batch = Service, Batch

    def __init__(self, wire: BlockingWire, *, trust: bool = False) -> None:
        super().__init__(wire)
        self._trust = trust

    def session(self, name: str | None = None, *, snapshot: str | None = None, placement: str | None = None) -> Session:
        """Open a session, on a snapshot's workspace if one is named."""
        return Session(self.wire, Options(name, snapshot, placement, self._trust))

    def attach(self, session: str) -> Session:
        """A session that is open already, by its id; NotFound if there is none."""
        return Session(self.wire, Options(trust=self._trust, there=session))

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


class AsyncClient(_Verbs[AsyncService, AsyncBatch], Awaiting):
    """The same for an event loop: every verb gives something to await. Signs in with its first request."""

    _service, _batch = AsyncService, AsyncBatch

    def __init__(self, wire: AwaitingWire, *, trust: bool = False) -> None:
        super().__init__(wire)
        self._trust = trust

    def session(
        self, name: str | None = None, *, snapshot: str | None = None, placement: str | None = None
    ) -> AsyncSession:
        """A session, opened by `await` or `async with`."""
        return AsyncSession(self.wire, Options(name, snapshot, placement, self._trust))

    def attach(self, session: str) -> AsyncSession:
        """A session that is open already, by its id, for `await` or `async with`; NotFound if there is none."""
        return AsyncSession(self.wire, Options(trust=self._trust, there=session))

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
