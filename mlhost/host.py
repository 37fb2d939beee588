"""The host: everything a server is made of, opened in order and closed in reverse; usable without HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlhost.audit import Audit
from mlhost.auth.attempts import Attempts
from mlhost.auth.known import Known
from mlhost.auth.oauth import OAuth
from mlhost.auth.oidc import OpenId
from mlhost.auth.passwords import Passwords, generate
from mlhost.auth.personal import PersonalTokens
from mlhost.auth.principal import Role
from mlhost.auth.roles import GroupRoles
from mlhost.auth.signin import Doors
from mlhost.auth.tokens import Lifetimes, Tokens
from mlhost.auth.users import Users
from mlhost.batches import Batches, BatchLimits
from mlhost.batches.ledger import Ledger
from mlhost.config import Config, Placement
from mlhost.contents import Contents
from mlhost.errors import Invalid, MlhostError
from mlhost.executors import Executor, interpreter
from mlhost.executors.canary import Canary
from mlhost.executors.forking import ProcessSettings
from mlhost.executors.inline import InlineExecutor
from mlhost.executors.meter import resident_bytes
from mlhost.executors.placements import INLINE, INTERPRETER, PROCESS, Placements
from mlhost.executors.pool import PoolSettings
from mlhost.executors.process import ProcessExecutor
from mlhost.executors.refusals import Refusals
from mlhost.executors.reserve import Reserve
from mlhost.metrics import Gauges, Metrics
from mlhost.places import ADMIN, PASSWORD_FILE
from mlhost.pools import Pools
from mlhost.services import ServiceLimits, Services
from mlhost.sessions import SessionLimits, Sessions
from mlhost.snapshots import Snapshots
from mlhost.store import Store
from mlhost.store.blobs import Blobs
from mlhost.store.folder import DataFolder

if TYPE_CHECKING:
    from mlhost.auth.ldap import LdapDirectory

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Host:
    """One server without its face."""

    config: Config
    folder: DataFolder
    store: Store
    placements: Placements
    reserve: Reserve
    canary: Canary
    users: Users
    tokens: Tokens
    personal: PersonalTokens
    doors: Doors
    openid: OpenId | None
    oauth: OAuth
    sessions: Sessions
    snapshots: Snapshots
    services: Services
    contents: Contents
    pools: Pools
    batches: Batches
    attempts: Attempts
    audit: Audit
    metrics: Metrics


@asynccontextmanager
async def open_host(config: Config, folder: DataFolder, passwords: Passwords | None = None) -> AsyncIterator[Host]:
    """A host on a data folder; its workers are gone when it closes."""
    async with AsyncExitStack() as stack:
        audit = stack.enter_context(Audit.open(folder.path, config.audit))
        store, blobs = await _open_store(stack, folder)
        placements = Placements(config.runtime.profile, config.runtime.allowed_placements)
        refusals, reserve = await _open_workers(stack, config, folder.work, placements)
        canary = Canary(reserve, placements.for_services)
        stack.push_async_callback(canary.close)
        passwords = passwords or Passwords()
        stack.callback(passwords.close)
        if config.shuts_admin_out:
            log.warning(
                "Users are those of a directory: the local %s is not let in, nor are its tokens "
                "(auth.keep_admin = true lets it in).",
                ADMIN,
            )
        users = users_of(store, passwords, config)
        tokens = await _load_tokens(config, folder, store, users, audit)
        personal = PersonalTokens(store, users, tokens.known)
        doors = Doors(
            users,
            tokens,
            passwords,
            open_directory(stack, config),
            reserved=(ADMIN,),
            on_gone=lambda name: audit.write(name, "gone from the directory", {}),
        )
        stack.push_async_callback(doors.close)
        doors.watch(config.ldap.look_up_seconds)
        openid = open_provider(stack, config, doors, tokens.known)

        sessions = Sessions(reserve, placements, refusals, _session_limits(config))
        stack.push_async_callback(sessions.close_all)
        sessions.watch()
        snapshots = Snapshots(store, blobs, sessions)
        metrics = Metrics()
        stack.push_async_callback(metrics.close)
        services = Services(store, blobs, reserve, placements, snapshots, metrics, _service_limits(config))
        stack.push_async_callback(services.close)
        reserve.take_from(services.end_resting)
        await services.load()
        pools = Pools(store, services, config.pool.workers, config.pool.max)
        await pools.load()
        batches = Batches(Ledger(store, blobs), services, _batch_limits(config))
        stack.push_async_callback(batches.close)
        await batches.resume()
        metrics.watch(Gauges(sessions.count, reserve.count, batches.count, resident_bytes))
        yield Host(
            config,
            folder,
            store,
            placements,
            reserve,
            canary,
            users,
            tokens,
            personal,
            doors,
            openid,
            OAuth(doors, tokens, personal),
            sessions,
            snapshots,
            services,
            Contents(store, blobs),
            pools,
            batches,
            Attempts(),
            audit,
            metrics,
        )


async def _open_store(stack: AsyncExitStack, folder: DataFolder) -> tuple[Store, Blobs]:
    store = await Store.open(folder.database)
    stack.push_async_callback(store.close)
    blobs = Blobs(store, folder.key("blobs"), folder.work)
    async with store.write() as db:  # what was on its way when the server was killed
        await blobs.sweep(db)
    return store, blobs


async def _open_workers(
    stack: AsyncExitStack, config: Config, work: Path, placements: Placements
) -> tuple[Refusals, Reserve]:
    refusals = Refusals()
    stack.push_async_callback(refusals.close)
    processes = ProcessExecutor(work, _process_settings(config))
    executors = _executors(processes, work, refusals, config)
    reserve = Reserve(executors, config.pool.initial, config.pool.max, placements.for_sessions)
    stack.push_async_callback(reserve.close)
    if placements.for_sessions == PROCESS:
        await processes.start()
    if INTERPRETER in executors and placements.may_use(INTERPRETER):
        refusals.learn(config.runtime.preload)
    reserve.fill()
    return refusals, reserve


async def _load_tokens(config: Config, folder: DataFolder, store: Store, users: Users, audit: Audit) -> Tokens:
    tokens = Tokens(
        store,
        users,
        folder.key("tokens"),
        _lifetimes(config),
        on_reuse=lambda user, grant: audit.write(user, "reuse of a refresh token", {"grant": grant}),
    )
    await tokens.load()
    return tokens


def open_directory(stack: AsyncExitStack | ExitStack, config: Config) -> LdapDirectory | None:
    """Where users of elsewhere sign in, if that is set, until the stack closes; Invalid if its settings do not hold."""
    if not config.ldap.url:
        return None
    if config.oidc.issuer:
        raise Invalid("ldap.url and oidc.issuer exclude each other: users come from one place.", field="oidc.issuer")
    try:
        from mlhost.auth.ldap import LdapDirectory
    except ModuleNotFoundError as missing:
        if missing.name != "ldap3":
            raise
        raise Invalid("ldap.url is set, which needs ldap3: pip install 'mlhost[ldap]'", field="ldap.url") from None
    directory = LdapDirectory(config.ldap)
    stack.callback(directory.close)
    return directory


def open_provider(stack: AsyncExitStack, config: Config, doors: Doors, known: Known) -> OpenId | None:
    """Who vouches for users, if that is set, until the stack closes; Invalid if its settings do not hold."""
    if not config.oidc.issuer:
        return None
    openid = OpenId(config.oidc, doors, known)
    stack.push_async_callback(openid.close)
    return openid


def users_of(store: Store, passwords: Passwords, config: Config) -> Users:
    """The users in a store, with the roles and doors that are set."""
    auth = config.auth
    return Users(
        store,
        passwords,
        GroupRoles(auth.owner_groups, auth.contributor_groups, auth.reader_groups),
        shut_out=(ADMIN,) if config.shuts_admin_out else (),
        takes_vouched=config.has_directory,
    )


@dataclass(frozen=True, slots=True)
class Admin:
    """The first user; `password` is known only when it was set or made just now."""

    password: str | None
    is_new: bool
    password_file: Path
    is_shut_out: bool = False


async def ensure_admin(host: Host, given: str | None) -> Admin:
    """See to it that there is an Owner to log in with.

    Where there is no Owner yet, `admin` is created, with the `given` password or else a random one, which is also left
    in a 0600 file of the data folder. On later starts a `given` password replaces admin's; without one nothing changes.
    Where users are those of a directory nothing is created: `auth.owner_groups` has the Owners.
    """
    file = host.folder.path / PASSWORD_FILE
    if host.config.shuts_admin_out:
        return Admin(None, is_new=False, password_file=file, is_shut_out=True)
    users = await host.users.list()
    exists = any(user.name == ADMIN for user in users)
    if not exists and (given is not None or not any(user.role == Role.OWNER for user in users)):
        password = given if given is not None else generate()
        await host.users.add(ADMIN, password, Role.OWNER)
        if given is None:
            await asyncio.to_thread(_write_private, file, password)
        return Admin(password, is_new=True, password_file=file)
    if given is not None and not await _fits(host, given):
        await host.users.set_password(ADMIN, given)
        await asyncio.to_thread(file.unlink, missing_ok=True)
    return Admin(given, is_new=False, password_file=file)


async def _fits(host: Host, password: str) -> bool:
    try:
        await host.users.sign_in(ADMIN, password)
    except MlhostError:
        return False
    return True


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")


def _executors(processes: ProcessExecutor, work: Path, refusals: Refusals, config: Config) -> dict[Placement, Executor]:
    """All there are on this Python; one nobody opens a worker in costs nothing."""
    output_bytes = config.limits.output_bytes
    inline = InlineExecutor(work, output_bytes, accept_1d_samples=config.runtime.accept_1d_samples)
    executors: dict[Placement, Executor] = {PROCESS: processes, INLINE: inline}
    if interpreter.IS_SUPPORTED:
        executors[INTERPRETER] = interpreter.InterpreterExecutor(work, refusals.known, output_bytes)
    return executors


def _process_settings(config: Config) -> ProcessSettings:
    limits = config.limits
    return ProcessSettings(
        preload=config.runtime.preload,
        threads=config.runtime.threads,
        python=config.runtime.python,
        environment=config.runtime.environment,
        memory_bytes=limits.memory_bytes,
        open_files=limits.open_files,
        file_bytes=limits.file_bytes,
        processes=limits.processes,
        cpu_seconds=limits.cpu_seconds,
        output_bytes=limits.output_bytes,
        accept_1d_samples=config.runtime.accept_1d_samples,
    )


def _session_limits(config: Config) -> SessionLimits:
    limits = config.sessions
    return SessionLimits(limits.max, limits.max_per_user, limits.idle_seconds, config.limits.execute_seconds)


def _service_limits(config: Config) -> ServiceLimits:
    pool = config.pool
    settings = PoolSettings(pool.workers, pool.queue, pool.retire_seconds, pool.max_calls, pool.max_growth_bytes)
    return ServiceLimits(settings, config.limits.score_seconds)


def _batch_limits(config: Config) -> BatchLimits:
    limits = config.batches
    return BatchLimits(limits.max_parallel, limits.max_records, limits.max_open_per_user, limits.keep_seconds)


def _lifetimes(config: Config) -> Lifetimes:
    auth = config.auth
    return Lifetimes(auth.access_seconds, auth.refresh_idle_seconds, auth.refresh_max_seconds)
