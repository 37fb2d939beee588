"""Sessions: live workers with an owner, each holding one workspace (contract section 4)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Any, Concatenate

from mlhost import names
from mlhost.auth.principal import Principal
from mlhost.config import Placement
from mlhost.errors import Busy, CodeFailed, Gone, MlhostError, NotFound, WorkerLost
from mlhost.executors import Given, Result, Worker, moving
from mlhost.executors.parcels import Call
from mlhost.executors.placements import INLINE, INTERPRETER, Placements
from mlhost.executors.refusals import Refusals
from mlhost.executors.reserve import Reserve
from mlhost.runtime import imports, program
from mlhost.runtime.inside import Inside, look_inside
from mlhost.runtime.outcome import Outcome
from mlhost.runtime.workspace import Workspace, list_files, list_objects

MAX_HISTORY_LENGTH = 16_000_000  # characters of code kept; the oldest blocks go first
MAX_WAITING = 16  # blocks of one session that wait for their turn
MAX_REMEMBERED = 1_000  # ended sessions whose reason is still told
LOOK_SECONDS = 30.0  # between looks for idle sessions, at most
SHOWN_CODE = 80  # characters of the block a session died of


@dataclass(slots=True, eq=False)
class Session:
    """A live worker with an owner."""

    id: str
    name: str
    owner: str
    placement: Placement
    worker: Worker
    created_at: float  # seconds since the epoch, UTC
    used_at: float = field(default_factory=monotonic)  # last request for it
    history: list[str] = field(default_factory=list)
    history_length: int = 0  # characters
    may_move: bool = False  # to the inline placement, should its code need it
    target: Worker | None = None  # where it is moving to just now
    running: str | None = None  # the block that runs now
    waiting: int = 0  # blocks behind it
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # of all that needs the workspace: one after the other
    # As of the last run, so that they can be told while the next one runs.
    objects: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    @property
    def is_running(self) -> bool:
        """Whether a block runs, or is about to."""
        return self.running is not None or self.waiting > 0

    @property
    def workers(self) -> list[Worker]:
        """The one it lives in, and the one it is moving to."""
        return [self.worker] if self.target is None else [self.worker, self.target]

    async def end(self, *, force: bool) -> None:
        """End its workers."""
        await asyncio.gather(*(worker.close(force=force) for worker in self.workers))

    def remember(self, code: str) -> None:
        """Add a block to the history, and let go of the oldest beyond the bound."""
        self.history.append(code)
        self.history_length += len(code)
        while self.history_length > MAX_HISTORY_LENGTH and len(self.history) > 1:
            self.history_length -= len(self.history.pop(0))


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """The settings of section `sessions`, and `limits.execute_seconds`."""

    most: int
    most_per_user: int
    idle_seconds: float
    execute_seconds: float


class Sessions:
    """The open sessions of one server; another user's session does not exist for the one who asks."""

    def __init__(self, reserve: Reserve, placements: Placements, refusals: Refusals, limits: SessionLimits) -> None:
        self._reserve = reserve
        self._placements = placements
        self._refusals = refusals
        self._limits = limits
        self._open: dict[str, Session] = {}
        self._ended: dict[str, tuple[str, str]] = {}  # id -> owner, reason
        self._opening: Counter[str] = Counter()  # user -> sessions whose workers are being started
        self._watching: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()  # workers on their way out

    async def open(self, who: Principal, name: str | None = None, placement: str | None = None) -> Session:
        """A new session with an empty workspace; Busy when as many are open as may be.

        One that names no placement moves when its code needs another.
        """
        where = self._placements.for_sessions if placement is None else self._placements.checked(placement)
        self._bury_lost()
        self._check_room(who)
        self._opening[who.name] += 1  # the place is taken before the worker is started
        try:
            worker = await self._open_worker(where)
        finally:
            self._opening[who.name] -= 1
        session = Session(names.new_id(), name or names.session_name(), who.name, where, worker, time())
        session.may_move = placement is None and where == INTERPRETER
        self._open[session.id] = session
        return session

    def watch(self) -> None:
        """From now on close sessions that nobody uses, until `close_all`."""
        self._watching = asyncio.get_running_loop().create_task(self._close_idle())

    def list_open(self, who: Principal) -> list[Session]:
        """The caller's open sessions, oldest first."""
        self._bury_lost()
        return [session for session in self._open.values() if session.owner == who.name]

    async def execute(
        self, who: Principal, session_id: str, code: str, inputs: list[tuple[str, bytes]], outputs: list[str]
    ) -> tuple[Outcome, str]:
        """Run a block of code: its outcome and what it printed; blocks sent at once run one after the other."""
        session = self._get(who, session_id)
        if session.waiting >= MAX_WAITING:
            raise Busy(f"{MAX_WAITING} blocks wait for their turn in this session.", retry_after_seconds=1)
        session.remember(code)
        session.waiting += 1
        try:
            await session.turn.acquire()
        finally:
            session.waiting -= 1
        try:
            session.worker.console.clear()
            session.running = code
            try:
                await self._prepare_for(session, code)
                outcome = await self._call(session, program.execute, code, inputs, outputs)
            except CodeFailed as failure:
                outcome = _stopped(session, failure)
            finally:
                session.running = None
            session.objects, session.files = outcome["objects"], outcome["files"]
            return outcome, session.worker.console.text
        finally:
            session.turn.release()

    async def call(
        self,
        who: Principal,
        session_id: str,
        function: Callable[Concatenate[Workspace, Given], Result],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Result:
        """Run one of the runtime's functions in the session's workspace, after what runs there now."""
        session = self._get(who, session_id)
        async with session.turn:
            return await self._call(session, function, *args, **kwargs)

    @asynccontextmanager
    async def borrow(self, who: Principal, session_id: str) -> AsyncIterator[Call]:
        """`call` for one session whose workspace is not to change in between: its blocks wait until the block ends."""
        async with self._get(who, session_id).turn:

            async def call(
                function: Callable[Concatenate[Workspace, Given], Result], *args: Given.args, **kwargs: Given.kwargs
            ) -> Result:
                return await self._call(self._get(who, session_id), function, *args, **kwargs)

            yield call

    async def load(self, who: Principal, session_id: str, load: Callable[[Call], Awaitable[None]]) -> None:
        """Have `load(call)` bring objects into the workspace.

        Should they need a package that refuses where the session lives, it moves and `load` is asked once more.
        """
        async with self.borrow(who, session_id) as call:
            try:
                await load(call)
            except MlhostError as fault:
                session = self._get(who, session_id)
                if not session.may_move or imports.REFUSED not in fault.details:
                    raise
                await self._move(session)
                await load(call)

    async def objects(self, who: Principal, session_id: str) -> list[str]:
        """Names of the workspace's objects; while code runs, those there were before it."""
        session = self._get(who, session_id)
        return session.objects if session.is_running else await self.call(who, session_id, list_objects)

    async def files(self, who: Principal, session_id: str) -> list[str]:
        """Names of the working directory's files; while code runs, those there were before it."""
        session = self._get(who, session_id)
        return session.files if session.is_running else await self.call(who, session_id, list_files)

    async def inside(self, who: Principal, session_id: str) -> Inside | None:
        """What is in the workspace; None while code runs: `objects` and `files` name what was there before."""
        return None if self._get(who, session_id).is_running else await self.call(who, session_id, look_inside)

    def peek(self, who: Principal, session_id: str) -> Session:
        """One of the caller's sessions as it is; to look is not to use it, and does not keep it from being idle."""
        return self._get(who, session_id, is_use=False)

    def console(self, who: Principal, session_id: str) -> str:
        """What the running or the last block printed so far."""
        return self._get(who, session_id).worker.console.text

    def history(self, who: Principal, session_id: str) -> list[str]:
        """The blocks executed, oldest first."""
        return self._get(who, session_id).history

    def cancel(self, who: Principal, session_id: str) -> bool:
        """Interrupt the running block; False if none runs. Code that does not heed it is killed after two seconds."""
        return any(worker.interrupt() for worker in self._get(who, session_id).workers)

    async def close(self, who: Principal, session_id: str, *, force: bool = False) -> None:
        """End a session; without `force` a running block is asked to stop first. One that died is forgotten."""
        session = self._find(who, session_id)
        if session is None:
            del self._ended[session_id]
            return
        self._open.pop(session_id, None)
        await session.end(force=force)

    async def close_all(self) -> None:
        """End every session, at the server's end."""
        if self._watching is not None:
            self._watching.cancel()
        sessions, self._open = list(self._open.values()), {}
        await asyncio.gather(*(session.end(force=True) for session in sessions), *self._closing)

    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    async def _open_worker(self, placement: Placement) -> Worker:
        return await self._reserve.open(
            placement, deadline_seconds=self._limits.execute_seconds, deadline_setting="limits.execute_seconds"
        )

    async def _prepare_for(self, session: Session, code: str) -> None:
        """Move the session to where the code's imports load, before anything of the code has run."""
        if session.may_move:
            needs = await self._call(session, imports.needed, code)
            refused = await self._refusals.among(needs["modules"])
            if refused and needs["own"]:
                packages, own = " and ".join(refused), " and ".join(needs["own"])
                raise CodeFailed(
                    f"The code needs {packages}, which cannot be imported in a subinterpreter, and {own} of the working"
                    ' directory, which can only be there or in a process. Open a session with "placement": "process".'
                )
            if refused:
                await self._move(session)

    async def _move(self, session: Session) -> None:
        """To the inline placement, with all it has; CodeFailed if something cannot come along, and then it stays."""
        old, new = session.worker, await self._open_worker(INLINE)
        session.target = new
        try:
            await moving.move(old, new)
        except BaseException as fault:
            await new.close(force=True)
            if session.id not in self._open:  # it was closed, and whichever worker ended first has told so
                await old.close()
            if old.lost:
                raise self._bury(session) from None
            if not isinstance(fault, CodeFailed | WorkerLost):
                raise
            raise CodeFailed(
                f"The code needs a package that does not load in a subinterpreter, and the session cannot move: "
                f'{fault.message.rstrip(".")}. Open a session with "placement": "process".'
            ) from None
        finally:
            session.target = None
        session.worker, session.placement, session.may_move = new, INLINE, False
        new.console.write(old.console.text.encode())
        self._in_background(old.close())

    async def _call(
        self,
        session: Session,
        function: Callable[Concatenate[Workspace, Given], Result],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Result:
        try:
            return await session.worker.call(function, *args, **kwargs)
        except WorkerLost:
            raise self._bury(session) from None

    def _get(self, who: Principal, session_id: str, *, is_use: bool = True) -> Session:
        """The caller's living session; NotFound, or Gone with the reason it died of."""
        session = self._find(who, session_id)
        if session is None:
            raise Gone(self._ended[session_id][1])
        if session.worker.lost:
            raise self._bury(session)
        if is_use:
            session.used_at = monotonic()
        return session

    def _find(self, who: Principal, session_id: str) -> Session | None:
        """The caller's open session; None if it died and is remembered; NotFound otherwise."""
        session = self._open.get(session_id)
        owner = session.owner if session else self._ended.get(session_id, ("", ""))[0]
        if owner != who.name:
            raise NotFound(f"There is no session {session_id!r}.")
        return session

    def _bury(self, session: Session) -> Gone:
        """Remember how a session died; the error that tells it."""
        while_running = f" while running: {_shown(session.running)}" if session.running is not None else ""
        return self._end(session, f"The session has ended: {session.worker.lost}{while_running}")

    def _end(self, session: Session, reason: str) -> Gone:
        """Let go of a session's worker and remember why; the error that tells it."""
        if self._open.pop(session.id, None) is not None:
            self._ended[session.id] = (session.owner, reason)
            if len(self._ended) > MAX_REMEMBERED:
                del self._ended[next(iter(self._ended))]
            self._in_background(session.end(force=True))
        return Gone(self._ended.get(session.id, ("", reason))[1])

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_idle(self) -> None:
        """Close what has not been used for `idle_seconds`; running code counts as use."""
        limit = self._limits.idle_seconds
        while True:
            await asyncio.sleep(min(limit / 4, LOOK_SECONDS))
            for session in list(self._open.values()):
                if session.is_running or session.turn.locked():
                    session.used_at = monotonic()
                elif monotonic() - session.used_at > limit:
                    self._end(session, f"The session was closed after {limit:g} s without use (sessions.idle_seconds).")

    def _check_room(self, who: Principal) -> None:
        own = sum(session.owner == who.name for session in self._open.values()) + self._opening[who.name]
        if own >= self._limits.most_per_user:
            raise Busy(f"You have {own} sessions open, which is all one user may have (sessions.max_per_user).")
        if len(self._open) + self._opening.total() >= self._limits.most:
            raise Busy(f"{self._limits.most} sessions are open, which is all there may be (sessions.max).")

    def _bury_lost(self) -> None:
        for session in [session for session in self._open.values() if session.worker.lost]:
            self._bury(session)


def _stopped(session: Session, failure: CodeFailed) -> Outcome:
    """The outcome of a block that ran out of time."""
    return Outcome(error=failure.message, outputs=[], changed_files=[], objects=session.objects, files=session.files)


def _shown(code: str) -> str:
    first, *rest = code.strip().splitlines() or [""]
    return first[:SHOWN_CODE] + (" …" if rest or len(first) > SHOWN_CODE else "")
