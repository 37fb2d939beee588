"""Services: code and a frozen workspace, published under a name and version (contract section 5)."""

from __future__ import annotations

import asyncio
import functools
import logging
import sqlite3
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, fields, replace
from time import time
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from mlhost import names
from mlhost.auth.principal import Principal, Role
from mlhost.config import Placement
from mlhost.engines import SECONDS as COMPILE_SECONDS
from mlhost.engines import Engine, Engines, Made
from mlhost.errors import CodeFailed, Conflict, Forbidden, Invalid, NotFound, Unavailable, WorkerLost
from mlhost.executors import Worker, parcels
from mlhost.executors.placements import Placements
from mlhost.executors.pool import Pool, PoolSettings
from mlhost.executors.reserve import Reserve
from mlhost.executors.together import Together
from mlhost.inprocess import InProcess
from mlhost.metrics import Metrics
from mlhost.params.signature import Signature
from mlhost.runtime import realtime
from mlhost.runtime.freeze import thaw
from mlhost.runtime.program import ProgramSpec, prepare
from mlhost.scoring import Ready
from mlhost.snapshots import Snapshots
from mlhost.store import Store
from mlhost.store.blobs import Blobs, SealedBlob

log = logging.getLogger(__name__)

# Without what `mlhost.contents` reads, which may be long.
SELECT = "select name, version, published_by, snapshot_id, blob, definition, created_at, compiled from services"
INSERT = """
insert into services (name, version, published_by, snapshot_id, blob, definition, created_at, compiled, manifest)
values (:name, :version, :published_by, :snapshot_id, :blob, :definition, :created_at, :compiled,
    (select manifest from snapshots where blob = :blob limit 1))
"""
UPDATE = """
update services set snapshot_id = :snapshot_id, blob = :blob, definition = :definition, compiled = :compiled,
    manifest = case
        when blob is :blob then manifest
        else (select manifest from snapshots where blob = :blob limit 1)
    end
where name = :name and version = :version
"""

APART = ("snapshot_id", "placement", "is_realtime", "model")  # what a draft holds beside a definition's fields
NamedType = tuple[str, str]  # a parameter: its name and type


@dataclass(frozen=True, slots=True)
class Definition:
    """What a version is, apart from its snapshot. `code` is None where the one who asks may not see it."""

    code: str | None
    init_code: str | None
    inputs: tuple[NamedType, ...]
    outputs: tuple[NamedType, ...]
    output_files: tuple[str, ...]
    description: str | None
    operation_id: str | None
    placement: Placement | None = None  # where its workers live; None: where the server's profile says
    python: str | None = None  # the version that the worker ran which tried it out
    runtime: str = names.RUNTIME  # or names.REALTIME: then the version is a model, and has no code
    engine: Engine | None = None  # of a model

    @property
    def is_realtime(self) -> bool:
        """Whether it is a model and no code."""
        return self.runtime == names.REALTIME


NOTHING = Definition(None, None, (), (), (), None, None)
MODEL = replace(
    NOTHING,
    inputs=((realtime.INPUT, realtime.FRAME),),
    outputs=((realtime.OUTPUT, realtime.FRAME),),
    runtime=names.REALTIME,
)


@dataclass(frozen=True, slots=True)
class Service:
    """One published version."""

    name: str
    version: str
    published_by: str
    created_at: float  # seconds since the epoch, UTC
    snapshot_id: str | None
    blob: str | None  # the baked-in snapshot, or the model; None if there is none
    definition: Definition
    compiled: str | None = None  # the blob of the compiled model, if there is one

    def is_editable_by(self, who: Principal) -> bool:
        """Owners may change any, Contributors their own; a publisher made Reader may not any more."""
        is_own = self.published_by == who.name and who.role >= Role.CONTRIBUTOR
        return is_own or who.role >= Role.OWNER

    def is_open_to(self, who: Principal) -> bool:
        """Whether somebody may see its code, and what it holds: its publisher and Owners."""
        return self.published_by == who.name or who.role >= Role.OWNER


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a publisher sends; None means: not given, which a patch reads as "keep"."""

    code: str | None = None
    init_code: str | None = None
    inputs: tuple[NamedType, ...] | None = None
    outputs: tuple[NamedType, ...] | None = None
    output_files: tuple[str, ...] | None = None
    description: str | None = None
    operation_id: str | None = None
    placement: str | None = None
    snapshot_id: str | None = None
    is_realtime: bool = False
    model: SealedBlob | None = None  # of a realtime version; see `Services.receive`


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """The settings of section `pool`, and `limits.score_seconds`."""

    pool: PoolSettings
    score_seconds: float


class Services:
    """The published versions of one server, and the table of those that can be called."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        reserve: Reserve,
        placements: Placements,
        snapshots: Snapshots,
        metrics: Metrics,
        limits: ServiceLimits,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._reserve = reserve
        self._placements = placements
        self._snapshots = snapshots
        self._metrics = metrics
        self._limits = limits
        self._engines = Engines(store, blobs)
        self._ready: dict[tuple[str, str], Ready] = {}
        self._closing: set[asyncio.Task[None]] = set()
        # One change of a version after the other: a patch is made on top of what it read.
        self._changing: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def load(self) -> None:
        """Fill the table of callable versions; their workers start when they are called."""
        compiled = []
        for row in await self._store.read(SELECT):
            service = from_row(row)
            ready = self._ready[service.name, service.version] = self._make_ready(service)
            if service.compiled is not None:
                compiled.append((service, ready))
        if compiled:
            self._background(self._open_compiled(compiled))

    def end_resting(self) -> asyncio.Task[None] | None:
        """End the warm worker that nobody has called for longest; None if all are at work or to be kept."""
        resting = {ready.pool: ready.pool.resting_since for ready in self._ready.values()}
        since = {pool: seconds for pool, seconds in resting.items() if seconds is not None}
        return min(since, key=since.__getitem__).end_resting() if since else None

    async def close(self) -> None:
        """End all workers."""
        await asyncio.gather(*(ready.pool.close() for ready in self._ready.values()), *self._closing)

    # --- the verbs -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def receive(self, content: AsyncIterable[bytes]) -> AsyncIterator[SealedBlob | None]:
        """A model to publish or patch with inside the block, which forgets it if it fails; None if nothing came."""
        try:
            async with self._blobs.receive(content) as model:
                yield model if model.size else None
        except BaseException:
            with suppress(Unavailable):  # the next sweep takes it
                async with self._store.write() as db:
                    await self._blobs.sweep(db)
            raise

    async def publish(self, who: Principal, name: str, version: str | None, draft: Draft) -> Service:
        """Publish code and a snapshot; without a version a new id becomes it.

        Conflict if name and version are taken. Invalid, with the reason, if the code does not compile or the snapshot,
        the model or the initCode does not load: a version that would fail on every call is not stored.
        """
        definition = self._defined(draft)
        snapshot_id, blob = await self._content(who, draft)
        service = Service(
            name=names.service_name(name),
            version=names.service_version(version) if version is not None else names.new_id(),
            published_by=who.name,
            created_at=time(),
            snapshot_id=snapshot_id,
            blob=blob,
            definition=definition,
        )
        if (service.name, service.version) in self._ready:
            raise _taken(service)
        worker = await self._try_out(service)
        service = _tried_on(service, worker.python)
        try:
            async with self._compiling(service) as (service, made):
                await self._insert(service, made.blob)
        except BaseException:
            await worker.close(force=True)
            raise
        self._install(service, worker, made.model)
        return service

    async def patch(self, who: Principal, name: str, version: str, draft: Draft) -> Service:
        """Change what the draft gives and keep the rest; callers meet either the old version or the new one."""
        async with self.editing(who, name, version) as old:
            if old.definition.is_realtime != draft.is_realtime:
                raise _changed_elsewhere(old)
            new = await self._patched(who, old, draft)
            worker = await self._try_out(new)
            new = _tried_on(new, worker.python)
            try:
                async with self._compiling(new, old) as (new, made):
                    await self._update(new, made.blob)
            except BaseException:
                await worker.close(force=True)
                raise
            self._install(new, worker, made.model)
            return new

    async def delete(self, who: Principal, name: str, version: str) -> None:
        """Withdraw a version; calls that run now are answered."""
        async with self.editing(who, name, version):
            async with self._store.write() as db:
                await db.execute("delete from services where name = ? and version = ?", (name, version))
                await self._blobs.sweep(db)
            self._withdraw(self._ready.pop((name, version), None))
            self._metrics.forget(name, version)

    async def list(self, who: Principal, name: str | None = None) -> list[Service]:
        """All versions, or those of one name, oldest first."""
        query = f"{SELECT} where ? is null or name = ? order by created_at, id"
        rows = await self._store.read(query, (name, name))
        return [_as_seen_by(who, from_row(row)) for row in rows]

    async def get(self, who: Principal, name: str, version: str) -> Service:
        """One version, or NotFound; its code only for its publisher and Owners."""
        return _as_seen_by(who, await self._get(name, version))

    def count(self) -> tuple[int, int]:
        """How many names and versions there are."""
        return len({name for name, _ in self._ready}), len(self._ready)

    def ready(self, name: str, version: str) -> Ready:
        """A version as it can be called, or NotFound."""
        try:
            return self._ready[name, version]
        except KeyError:
            raise _unknown(name, version) from None

    def called(self, name: str, version: str) -> Ready:
        """A version somebody calls, or NotFound, which is counted: it has no meter to be counted in."""
        try:
            return self.ready(name, version)
        except NotFound:
            self._metrics.unknown += 1
            raise

    def all_ready(self) -> tuple[Ready, ...]:
        """All versions as they can be called."""
        return tuple(self._ready.values())

    @asynccontextmanager
    async def editing(self, who: Principal, name: str, version: str) -> AsyncIterator[Service]:
        """A version that nobody else changes inside the block; Forbidden if the caller may not either."""
        async with self._changing.setdefault((name, version), asyncio.Lock()):
            service = await self._get(name, version)
            if not service.is_editable_by(who):
                raise Forbidden(f"{name} {version} was published by another user; only they and Owners may change it.")
            yield service

    def ready_apart(self, service: Service) -> Ready:
        """A version as it once was, not in the table; its workers start when it is called, its user closes its pool."""
        return self._make_ready(service)

    # --- how -------------------------------------------------------------------------------------------------------

    async def _get(self, name: str, version: str) -> Service:
        row = await self._store.read_one(f"{SELECT} where name = ? and version = ?", (name, version))
        if row is None:
            raise _unknown(name, version)
        return from_row(row)

    async def _update(self, service: Service, compiled: SealedBlob | None) -> None:
        try:
            async with self._store.write() as db:
                if compiled is not None:
                    await self._blobs.keep(db, compiled)
                changed = await db.execute(UPDATE, _to_row(service))
                if changed.rowcount == 0:
                    raise _unknown(service.name, service.version)
                await self._blobs.sweep(db)
        except sqlite3.IntegrityError as fault:
            raise _why_refused(fault, service) from None

    async def _insert(self, service: Service, compiled: SealedBlob | None) -> None:
        try:
            async with self._store.write() as db:
                if compiled is not None:
                    await self._blobs.keep(db, compiled)
                await db.execute(INSERT, _to_row(service))
        except sqlite3.IntegrityError as fault:
            raise _why_refused(fault, service) from None

    async def _patched(self, who: Principal, old: Service, draft: Draft) -> Service:
        """The old version with the draft's changes.

        The original SDK's description-only redeploy sends the snapshot of an empty session along; taking it at its
        word would empty the service (contract section 5).
        """
        definition = self._defined(draft, old.definition)
        if draft.snapshot_id is None and draft.model is None:
            return replace(old, definition=definition)
        snapshot_id, blob = await self._content(who, draft)
        if draft.snapshot_id is None:
            return replace(old, definition=definition, snapshot_id=snapshot_id, blob=blob)
        snapshot = await self._snapshots.get(who, draft.snapshot_id)
        if snapshot.is_empty and draft.code is None and draft.init_code is None:
            return replace(old, definition=definition)
        return replace(old, definition=definition, snapshot_id=draft.snapshot_id, blob=blob)

    def _defined(self, draft: Draft, old: Definition | None = None) -> Definition:
        """The definition a draft makes, on top of an old one if there is one."""
        definition = _defined(draft, old)
        return (
            definition
            if draft.placement is None
            else replace(definition, placement=self._placements.checked(draft.placement))
        )

    async def _content(self, who: Principal, draft: Draft) -> tuple[str | None, str | None]:
        """The snapshot id and the blob of what the draft's workers load; a model gets an id like a snapshot's.

        The model is in the store from here on, so that workers get it as they always do; `receive` holds it there.
        """
        if draft.is_realtime:
            if draft.model is None:
                raise Invalid(
                    "model: a realtime service needs a model, as bytes by mlhost.realtime.serialize(model)",
                    field="model",
                )
            await self._blobs.write_ahead(draft.model)
            async with self._store.write() as db:
                await self._blobs.keep(db, draft.model)
            return names.new_id(), draft.model.sha256
        if draft.snapshot_id is None:
            return None, None
        try:
            return draft.snapshot_id, (await self._snapshots.get(who, draft.snapshot_id)).blob
        except NotFound as unknown:
            raise Invalid(f"snapshotId: {unknown.message}", field="snapshotId") from None

    @asynccontextmanager
    async def _compiling(self, service: Service, old: Service | None = None) -> AsyncIterator[tuple[Service, Made]]:
        """The version with an engine, and what was made for it, to be stored inside the block.

        It is made anew when a patch brings a model, be it the same: what was missing may be there by now. A version
        with code has none.
        """
        if not service.definition.is_realtime or service.blob is None:
            yield service, Made()
        elif old is not None and old.snapshot_id == service.snapshot_id:
            yield service, Made(model=self.ready(old.name, old.version).compiled)
        else:
            with_model = functools.partial(self._open_worker, service, COMPILE_SECONDS)
            empty = functools.partial(self._open_empty, service, COMPILE_SECONDS)
            async with self._engines.make(service.blob, with_model, empty) as made:
                definition = replace(service.definition, engine=made.engine)
                compiled = made.blob.sha256 if made.blob else None
                yield replace(service, definition=definition, compiled=compiled), made

    async def _open_compiled(self, versions: Iterable[tuple[Service, Ready]]) -> None:
        """After a restart: until its compiled model is open, a version's workers answer."""
        for service, ready in versions:
            if service.compiled is None or service.definition.engine is None:
                continue
            model = await self._engines.open(service.compiled, service.definition.engine)
            if self._ready.get((service.name, service.version)) is ready:  # it may have been patched meanwhile
                self._ready[service.name, service.version] = replace(ready, compiled=model)

    async def _try_out(self, service: Service) -> Worker:
        """A warm worker of the version, or Invalid with the reason there can be none."""
        try:
            return await self._start_worker(service)
        except CodeFailed as failure:
            raise Invalid(failure.message) from None
        except WorkerLost as lost:
            what = "Opening the model" if service.definition.is_realtime else "Loading the snapshot or running initCode"
            raise Invalid(f"{what} failed: {lost}.") from None

    async def _start_another(self, service: Service) -> Worker:
        """A worker for those who call; what was tried out may fail later, and that is no mistake of theirs."""
        try:
            return await self._start_worker(service)
        except (CodeFailed, WorkerLost) as fault:
            raise Unavailable(f"{service.name} {service.version} does not start any more: {fault.message}") from fault

    async def _start_worker(self, service: Service) -> Worker:
        worker = await self._open_worker(service, self._limits.score_seconds, "limits.score_seconds")
        try:
            await worker.call(prepare, _spec(service.definition))
        except BaseException:
            await worker.close(force=True)
            raise
        worker.console.clear()
        return worker

    async def _open_worker(self, service: Service, deadline_seconds: float, setting: str = "") -> Worker:
        """A worker that has loaded what the version is made of, and not begun."""
        worker = await self._open_empty(service, deadline_seconds, setting)
        try:
            if service.blob is not None:
                opener = realtime.open_model if service.definition.is_realtime else thaw
                await parcels.open_in(worker.call, self._blobs.read(service.blob), opener)
        except BaseException:
            await worker.close(force=True)
            raise
        return worker

    async def _open_empty(self, service: Service, deadline_seconds: float, setting: str = "") -> Worker:
        where = service.definition.placement or self._placements.for_services
        if not self._placements.may_use(where):
            raise Unavailable(
                f"{service.name} {service.version} was published with the placement {where!r}, which this server does"
                " not allow any more (runtime.allowed_placements)."
            )
        return await self._reserve.open(where, deadline_seconds=deadline_seconds, deadline_setting=setting)

    def _install(self, service: Service, worker: Worker, compiled: InProcess | None) -> None:
        """Put the version into the table in the place of an earlier one, which then serves out its callers.

        Its pool keeps the bounds that the earlier one's had.
        """
        old = self._ready.get((service.name, service.version))
        ready = replace(self._make_ready(service, old.pool.settings if old else None), compiled=compiled)
        ready.pool.adopt(worker)
        ready.pool.warm()
        self._withdraw(old)
        self._ready[service.name, service.version] = ready

    def _make_ready(self, service: Service, pool: PoolSettings | None = None) -> Ready:
        start = functools.partial(self._start_another, service)
        meter, engine = self._metrics.meter(service.name, service.version), service.definition.engine
        workers = Pool(start, pool or self._limits.pool, meter.restarts)
        together = Together(workers, meter.queue.add) if engine is not None and engine.joins else None
        return Ready(service.name, service.version, workers, edition(service), together=together, meter=meter)

    def _withdraw(self, ready: Ready | None) -> None:
        if ready is not None:
            self._background(ready.pool.close())

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _defined(draft: Draft, old: Definition | None = None) -> Definition:
    """The definition a draft makes, on top of an old one if there is one; Invalid naming the field at fault."""
    old = old or (MODEL if draft.is_realtime else NOTHING)
    names_given = [field.name for field in fields(draft) if field.name not in APART]
    given = {name: value for name in names_given if (value := getattr(draft, name)) is not None}
    definition = replace(old, **given)
    if definition.code is None and not definition.is_realtime:
        raise Invalid("code: a service needs code to run", field="code")
    if definition.operation_id is not None and definition.operation_id != "":
        names.parameter_name(definition.operation_id, "operationId")
    for file in definition.output_files:
        names.file_name(file, "outputFileNames")
    signature = Signature.of(definition.inputs, definition.outputs)
    return replace(
        definition,
        inputs=tuple((parameter.name, parameter.type) for parameter in signature.inputs),
        outputs=tuple((parameter.name, parameter.type) for parameter in signature.outputs),
        operation_id=definition.operation_id or None,
    )


def _spec(definition: Definition) -> ProgramSpec:
    return ProgramSpec(
        code=realtime.CODE if definition.is_realtime else definition.code or "",
        init_code=definition.init_code or "",
        inputs=list(definition.inputs),
        outputs=list(definition.outputs),
        files=list(definition.output_files),
    )


def edition(service: Service) -> str:
    """Stands for what a call of the version runs: equal for two whose calls do the same."""
    definition = service.definition
    return msgspec.json.encode([_spec(definition), definition.placement, service.blob]).decode()


def _tried_on(service: Service, python: str) -> Service:
    return replace(service, definition=replace(service.definition, python=python))


def _as_seen_by(who: Principal, service: Service) -> Service:
    if service.is_open_to(who):
        return service
    return replace(service, definition=replace(service.definition, code=None, init_code=None))


def _to_row(service: Service) -> dict[str, Any]:
    row = {field: getattr(service, field) for field in ("name", "version", "published_by", "created_at")}
    definition = msgspec.json.encode(service.definition).decode()
    own = {field: getattr(service, field) for field in ("snapshot_id", "blob", "compiled")}
    return row | own | {"definition": definition}


def from_row(row: sqlite3.Row) -> Service:
    """A version from its columns."""
    return Service(**(dict(row) | {"definition": msgspec.json.decode(row["definition"], type=Definition)}))


def _unknown(name: str, version: str) -> NotFound:
    return NotFound(f"There is no service {name!r} with version {version!r}.")


def _changed_elsewhere(service: Service) -> Invalid:
    kind, root = service.definition.runtime, "realtime-services" if service.definition.is_realtime else "services"
    return Invalid(
        f"{service.name} {service.version} is a {kind} service; it is changed by"
        f" PATCH /{root}/{service.name}/{service.version}."
    )


def _taken(service: Service) -> Conflict:
    return Conflict(f"{service.name} {service.version} is published already; patch it or choose another version.")


def _why_refused(fault: sqlite3.IntegrityError, service: Service) -> Exception:
    """Two published the same at once, or the snapshot was deleted while the version was tried out."""
    if "FOREIGN KEY" in str(fault):
        return Invalid("snapshotId: the snapshot was deleted in the meantime", field="snapshotId")
    return _taken(service)
