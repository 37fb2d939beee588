"""Services: found or published, then called like functions; many records at once are `batches`."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mlhost.client import batches, values
from mlhost.client.batches import AnyBatch, AsyncBatch, Batch
from mlhost.client.steps import Awaiting, Blocking, Steps, verb
from mlhost.client.transport import Transport, path
from mlhost.client.values import NamedTypes
from mlhost.errors import CodeFailed, Conflict, NotFound
from mlhost.names import RUNTIME

if TYPE_CHECKING:
    from mlhost.client.awaiting import AwaitingWire
    from mlhost.client.blocking import BlockingWire

Definition = dict[str, str]


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be published."""

    code: str
    inputs: NamedTypes
    outputs: NamedTypes
    init: str = ""
    description: str | None = None
    snapshot: str | None = None  # its id

    def body(self) -> dict[str, Any]:
        """As the server reads it."""
        return {
            "runtimeType": RUNTIME,
            "code": self.code,
            "initCode": self.init,
            "description": self.description,
            "snapshotId": self.snapshot,
            "inputParameterDefinitions": _definitions(self.inputs),
            "outputParameterDefinitions": _definitions(self.outputs),
        }


@dataclass(frozen=True, slots=True)
class Told:
    """A version as the server tells of it."""

    name: str
    version: str
    inputs: NamedTypes
    outputs: NamedTypes
    description: str | None
    published_by: str
    record: Mapping[str, Any] = field(repr=False, compare=False)  # all of it, as it came


@dataclass(frozen=True, slots=True)
class Reply:
    """All that one call of a service came to."""

    outputs: dict[str, Any]
    console: str
    files: dict[str, bytes | None] = field(repr=False)  # those the service declares; None: not made by this call

    @property
    def made(self) -> list[str]:
        """The names of the files that this call made."""
        return [name for name, content in self.files.items() if content is not None]


def found(transport: Transport, name: str, version: str | None) -> Steps[Told]:
    """A version, or the latest; NotFound if there is none."""
    if version is not None:
        return _told((yield from transport.ask("GET", path("services", name, version))).json()[0])
    versions = yield from every(transport, name)
    if not versions:
        raise NotFound(f"There is no service {name!r}.")
    return versions[-1]


def every(transport: Transport, name: str | None) -> Steps[list[Told]]:
    """All versions of all services, or of one, the oldest first."""
    answer = yield from transport.ask("GET", "/services" if name is None else path("services", name))
    return [_told(each) for each in answer.json()]


def published(
    transport: Transport, name: str, version: str | None, draft: Draft, *, replace: bool = False
) -> Steps[Told]:
    """Publish, or change the version there is if it is to be replaced; Conflict if it is not."""
    body = draft.body()
    if version is None:
        answer = yield from transport.ask("POST", path("services", name), body)
        return (yield from found(transport, name, answer.json().rpartition("/")[2]))
    where = path("services", name, version)
    try:
        yield from transport.ask("POST", where, body)
    except Conflict:
        if not replace:
            raise
        yield from transport.ask("PATCH", where, body)
    return (yield from found(transport, name, version))


class _Verbs(Generic[AnyBatch]):
    """What both kinds of service do."""

    wire: Any
    _batch: Callable[[Any, tuple[str, str], str, NamedTypes], AnyBatch]
    told: Told
    defaults: Mapping[str, Any]  # of inputs, if the service was published from a function here

    @property
    def name(self) -> str:
        """The service's name."""
        return self.told.name

    @property
    def version(self) -> str:
        """Which version of it this is."""
        return self.told.version

    @property
    def record(self) -> Mapping[str, Any]:
        """All that the server tells of it: its code (to its publisher and Owners), where it runs, since when."""
        return self.told.record

    @property
    def inputs(self) -> dict[str, str]:
        """Names and types of the inputs, in their order."""
        return dict(self.told.inputs)

    @property
    def outputs(self) -> dict[str, str]:
        """Names and types of the outputs, in their order."""
        return dict(self.told.outputs)

    @property
    def url(self) -> str:
        """Where it is called by POST, with a bearer token and a JSON object of the inputs."""
        transport: Transport = self.wire.transport
        return transport.url + self._path()

    @verb
    def __call__(self, *values: Any, **named: Any) -> Steps[Any]:
        """Call it: its output, or a dict of them if there are several; types are those the service declares.

        CodeFailed if its code raises; Busy when too many calls wait; TypeError if the inputs are not those it takes.
        """
        outputs = (yield from self._answered(values, named)).outputs
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    @verb
    def ask(self, *values: Any, **named: Any) -> Steps[Reply]:
        """Call it: outputs, console output and files of the call."""
        return (yield from self._answered(values, named))

    @verb
    def ask_plainly(self, inputs: Mapping[str, Any]) -> Steps[Reply]:
        """Call it with inputs as JSON has them; so are the outputs then."""
        return (yield from self._told_of(inputs))

    @verb
    def batch(self, rows: Any, *, parallel: int = 10, progress: bool = True) -> Steps[Any]:
        """Score many records under one id: a data frame with a column for each input, or an iterable of mappings.

        A frame whose rows are themselves what the only input, a vector, takes will do as well. Back comes, for a frame,
        a data frame with its index and a column for each output; else a list of dicts. Where a record failed, the
        outputs are missing and `error` says why. `progress` shows a bar on stderr if tqdm is installed.
        """
        transport: Transport = self.wire.transport
        records = self._records(rows)
        title = self.told.name if progress else ""
        results = yield from batches.scored(transport, self._path(), records, parallel, title)
        return batches.gathered(rows, results, self.told.outputs)

    @verb
    def start(self, rows: Any, *, parallel: int = 10) -> Steps[AnyBatch]:
        """Begin what `batch` does and leave it to the server, which keeps the results for a while; see `Batch`."""
        transport: Transport = self.wire.transport
        return self._begun((yield from batches.begun(transport, self._path(), self._records(rows), parallel)))

    @verb
    def batches(self) -> Steps[list[AnyBatch]]:
        """The batches of this version that the server keeps: one's own, to Owners all; the oldest first."""
        told = (yield from self.wire.transport.ask("GET", f"{self._path()}/batch")).json()
        return [self._begun(each) for each in told]

    @verb
    def swagger(self) -> Steps[dict[str, Any]]:
        """Its own Swagger 2.0 document."""
        transport: Transport = self.wire.transport
        told: dict[str, Any] = (yield from transport.ask("GET", f"{self._path()}/swagger.json")).json()
        return told

    @verb
    def delete(self) -> Steps[None]:
        """Withdraw this version; Forbidden if somebody else published it."""
        transport: Transport = self.wire.transport
        yield from transport.ask("DELETE", path("services", self.told.name, self.told.version))

    def _path(self) -> str:
        return path("api", self.told.name, self.told.version)

    def _begun(self, batch: str) -> AnyBatch:
        return self._batch(self.wire, (self.told.name, self.told.version), batch, self.told.outputs)

    def _records(self, rows: Any) -> list[dict[str, Any]]:
        types = self.told.inputs
        inputs = values.records(rows, types)
        return [values.encoded(values.bound(types, self.defaults, (), each), types) for each in inputs]

    def _answered(self, given: tuple[Any, ...], named: dict[str, Any]) -> Steps[Reply]:
        types = self.told.inputs
        inputs = values.encoded(values.bound(types, self.defaults, given, named), types)
        reply = yield from self._told_of(inputs)
        return replace(reply, outputs=values.decoded(reply.outputs, self.told.outputs))

    def _told_of(self, inputs: Mapping[str, Any]) -> Steps[Reply]:
        transport: Transport = self.wire.transport
        told = (yield from transport.ask("POST", self._path(), inputs)).json()
        if not told["success"]:
            raise CodeFailed(told["errorMessage"], console=told["consoleOutput"])
        files = {name: None if text is None else b64decode(text) for name, text in told["outputFiles"].items()}
        return Reply(told["outputParameters"], told["consoleOutput"], files)

    def __repr__(self) -> str:
        takes, gives = (
            ", ".join(f"{name}: {kind}" for name, kind in each.items()) for each in (self.inputs, self.outputs)
        )
        return f"<{type(self).__name__} {self.name} {self.version} ({takes}) -> ({gives})>"


class Service(_Verbs[Batch], Blocking):
    """A published version, called like a function."""

    _batch = Batch

    def __init__(self, wire: BlockingWire, told: Told, defaults: Mapping[str, Any] | None = None) -> None:
        super().__init__(wire)
        self.told, self.defaults = told, defaults or {}


class AsyncService(_Verbs[AsyncBatch], Awaiting):
    """A published version; calling it gives something to await."""

    _batch = AsyncBatch

    def __init__(self, wire: AwaitingWire, told: Told, defaults: Mapping[str, Any] | None = None) -> None:
        super().__init__(wire)
        self.told, self.defaults = told, defaults or {}


AnyService = TypeVar("AnyService", Service, AsyncService)


def _definitions(types: NamedTypes) -> list[Definition]:
    return [{"name": name, "type": kind} for name, kind in types]


def _named(definitions: list[Definition]) -> NamedTypes:
    return tuple((each["name"], each["type"]) for each in definitions)


def _told(service: dict[str, Any]) -> Told:
    return Told(
        name=service["name"],
        version=service["version"],
        inputs=_named(service["inputParameterDefinitions"]),
        outputs=_named(service["outputParameterDefinitions"]),
        description=service["description"],
        published_by=service["versionPublishedBy"],
        record=service,
    )
