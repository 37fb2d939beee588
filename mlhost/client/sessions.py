"""Sessions: run code, set and fetch objects, move files, freeze and publish the workspace (contract section 4)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self

from mlhost.client import functions
from mlhost.client.pickles import dumped, trusted
from mlhost.client.services import AnyService, AsyncService, Draft, Service, Told, published
from mlhost.client.steps import Awaiting, Blocking, Pause, Steps, verb
from mlhost.client.transport import Transport, path
from mlhost.client.values import decoded
from mlhost.errors import CodeFailed, Forbidden, Gone, NotFound
from mlhost.names import RUNTIME

if TYPE_CHECKING:
    from mlhost.client.awaiting import AwaitingWire
    from mlhost.client.blocking import BlockingWire


LOOK_SECONDS = 0.2  # between two looks at a console that is followed


@dataclass(frozen=True, slots=True)
class Run:
    """What running a block of code came to; as text it is what the code printed."""

    console: str
    outputs: dict[str, Any]  # those that were asked for, as JSON has them
    changed_files: list[str]

    def __str__(self) -> str:
        return self.console


@dataclass(frozen=True, slots=True)
class Options:
    """How a session is to be opened, and whether its objects are trusted."""

    name: str | None = None
    snapshot: str | None = None
    placement: str | None = None
    trust: bool = False
    there: str | None = None  # the id of one that is open already


@dataclass(frozen=True, slots=True)
class Opened:
    """An open session, as the server lists it."""

    id: str
    name: str
    placement: str  # process, interpreter or inline
    python: str  # "3.11.7"


class _Verbs(Generic[AnyService]):
    """What both kinds of session do."""

    wire: Any
    id: str  # "" unless it is open
    _options: Options
    _service: Callable[[Any, Told], AnyService]

    @verb
    def run(self, code: str, *, inputs: Mapping[str, Any] | None = None, outputs: Iterable[str] = ()) -> Steps[Run]:
        """Run a block of code in the workspace; `inputs` are bound before it, `outputs` read after it, both as JSON.

        CodeFailed if it raises; its `details["console"]` has what was printed, the traceback included. Whoever is
        interrupted or cancelled while it runs interrupts it, and the session stays.
        """
        bound = [{"name": name, "value": value} for name, value in (inputs or {}).items()]
        asked = {"code": code, "inputParameters": bound, "outputParameters": list(outputs)}
        try:
            told = (yield from self._ask("POST", "execute", json=asked)).json()
        except BaseException as fault:
            if not isinstance(fault, Exception | GeneratorExit):  # KeyboardInterrupt, or asyncio's CancelledError
                yield from self._ask("POST", "cancel")
            raise
        if not told["success"]:
            raise CodeFailed(told["errorMessage"], console=told["consoleOutput"])
        values = {each["name"]: each["value"] for each in told["outputParameters"]}
        return Run(told["consoleOutput"], values, told["changedFiles"])

    @verb
    def put(self, name: str, value: Any) -> Steps[None]:
        """Set an object of the workspace; only the session's worker opens its pickle. Invalid if it has none."""
        yield from self._ask("POST", "workspace", name, body=dumped(value))

    @verb
    def fetch(self, name: str, *, trust: bool | None = None) -> Steps[Any]:
        """An object of the workspace; NotFound if there is none.

        It comes as data: numbers, texts, lists and dicts as JSON has them, numpy arrays, data frames without their
        index, times in them as text. What JSON has no form for, a fitted model say, is Forbidden: it would be a pickle,
        and opening that runs what the server wants. With `trust` (or that of `connect`) it is opened all the same.
        """
        if self._options.trust if trust is None else trust:
            return trusted((yield from self._ask("GET", "workspace", name)).body)
        try:
            told = (yield from self._ask("GET", "workspace", name, "value")).json()
        except CodeFailed as fault:
            raise Forbidden(
                f"{fault.message} To open its pickle is to run what the server wants: if you trust it as you trust"
                f" your own code, fetch({name!r}, trust=True), or connect(trust=True) for all objects."
            ) from fault
        return decoded({name: told["value"]}, ((name, told["type"]),))[name]

    @verb
    def delete(self, name: str) -> Steps[None]:
        """Remove an object of the workspace; NotFound if there is none."""
        yield from self._ask("DELETE", "workspace", name)

    @verb
    def names(self) -> Steps[list[str]]:
        """The names of the workspace's objects."""
        told: list[str] = (yield from self._ask("GET", "workspace")).json()
        return told

    @verb
    def files(self) -> Steps[list[str]]:
        """The names of the files in the working directory."""
        told: list[str] = (yield from self._ask("GET", "files")).json()
        return told

    @verb
    def upload(self, name: str, content: bytes) -> Steps[None]:
        """Put a file into the working directory."""
        boundary = secrets.token_hex(16)
        quoted = name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "%0D").replace("\n", "%0A")
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        yield from self._ask("POST", "files", body=body, content_type=f"multipart/form-data; boundary={boundary}")

    @verb
    def download(self, name: str) -> Steps[bytes]:
        """The content of a file of the working directory; NotFound if there is none."""
        content: bytes = (yield from self._ask("GET", "files", name)).body
        return content

    @verb
    def follow(self, show: Callable[[str], object]) -> Steps[None]:
        """Have `show` called with what is printed, what there is first; returns when the session is closed.

        A block that begins empties the console: a text that does not begin as the last one did is told from its start.
        """
        told = ""
        while True:
            try:
                text = (yield from self._ask("GET", "console-output")).json()["consoleOutput"]
            except (NotFound, Gone):
                return
            if fresh := text.removeprefix(told):
                show(fresh)
            told = text
            yield Pause(LOOK_SECONDS)

    @verb
    def console(self) -> Steps[str]:
        """What the running or last block printed so far."""
        told: str = (yield from self._ask("GET", "console-output")).json()["consoleOutput"]
        return told

    @verb
    def cancel(self) -> Steps[None]:
        """Interrupt the running block; the session stays."""
        yield from self._ask("POST", "cancel")

    @verb
    def snapshot(self, name: str | None = None) -> Steps[str]:
        """Freeze objects and files; the id of the snapshot, which stays until it is deleted."""
        return (yield from self._frozen(name))

    @verb
    def load(self, snapshot: str) -> Steps[None]:
        """Merge a snapshot into the workspace; what has the same name is replaced."""
        yield from self._ask("POST", "loadsnapshot", snapshot)

    @verb
    def publish(  # noqa: PLR0913
        self,
        name: str,
        version: str | None,
        code: str,
        *,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        init: str = "",
        description: str | None = None,
        replace: bool = False,
    ) -> Steps[AnyService]:
        """Publish `code`, which reads `inputs` and assigns `outputs`, with the workspace as it is now.

        Both are names with types: the server's spelling ("vector"), or Python's (`list`, `pandas.DataFrame`). `init` is
        code that runs once a worker, or before each call if it reads an input. Without a version the server makes one.
        Conflict if the version is there and `replace` is not set; Invalid if the code does not compile or load.
        """
        snapshot = yield from self._frozen(None)
        draft = Draft(code, functions.spelled(inputs), functions.spelled(outputs), init, description, snapshot)
        transport: Transport = self.wire.transport
        try:
            told = yield from published(transport, name, version, draft, replace=replace)
        finally:  # it is baked into the version
            yield from transport.ask("DELETE", path("snapshots", snapshot))
        return self._service(self.wire, told)

    @verb
    def close(self) -> Steps[None]:
        """End the session, if it is open; what it had and was not frozen is gone."""
        yield from self._closed()

    # --- how -------------------------------------------------------------------------------------------------------

    def _ask(self, method: str, *parts: str, **options: Any) -> Steps[Any]:
        if not self.id:
            raise Gone("The session is not open.")
        transport: Transport = self.wire.transport
        return (yield from transport.ask(method, path("sessions", self.id, *parts), **options))

    def _opened(self) -> Steps[None]:
        wanted = self._options
        if wanted.there is not None:
            self.id = wanted.there
            yield from self._ask("GET", "history")  # NotFound if there is none
            return
        fields = {"name": wanted.name, "snapshotId": wanted.snapshot, "placement": wanted.placement}
        asked = {key: value for key, value in fields.items() if value is not None}
        transport: Transport = self.wire.transport
        self.id = (yield from transport.ask("POST", "/sessions", {"runtimeType": RUNTIME} | asked)).json()["sessionId"]

    def _closed(self) -> Steps[None]:
        if self.id:
            try:
                yield from self._ask("DELETE")
            except (NotFound, Gone):
                pass  # closed for idleness, or its worker died
            finally:
                self.id = ""

    def _frozen(self, name: str | None) -> Steps[str]:
        told: str = (yield from self._ask("POST", "snapshot", json={"name": name})).json()["snapshotId"]
        return told


class Session(_Verbs[Service], Blocking):
    """An open session of the blocking client; closes at the end of its `with`. `session["x"]` are its objects."""

    _service = Service

    def __init__(self, wire: BlockingWire, options: Options) -> None:
        super().__init__(wire)
        self.id, self._options = "", options
        wire.run(self._opened())

    def __getitem__(self, name: str) -> Any:
        return self.fetch(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.put(name, value)

    def __delitem__(self, name: str) -> None:
        self.delete(name)

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncSession(_Verbs[AsyncService], Awaiting):
    """A session of the asynchronous client: opened by `await` or `async with`, which closes it."""

    _service = AsyncService

    def __init__(self, wire: AwaitingWire, options: Options) -> None:
        super().__init__(wire)
        self.id, self._options = "", options

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        if not self.id:
            await self.wire.run(self._opened())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
