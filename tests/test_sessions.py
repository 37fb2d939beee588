"""Sessions without HTTP: how many there may be, and how long one lives that nobody uses."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from mlhost.auth.principal import Principal, Role
from mlhost.errors import Busy, Gone, NotFound
from mlhost.executors.placements import Placements
from mlhost.executors.process import ProcessExecutor
from mlhost.executors.refusals import Refusals
from mlhost.executors.reserve import Reserve
from mlhost.sessions import SessionLimits, Sessions
from tests.parts import until

ANNA, BERT = Principal("anna", Role.READER), Principal("bert", Role.READER)
MakeSessions = Callable[..., Sessions]


@pytest.fixture
async def make_sessions(executor: ProcessExecutor) -> AsyncIterator[MakeSessions]:
    made = []

    def make(most: int = 10, most_per_user: int = 10, idle_seconds: float = 60.0) -> Sessions:
        limits = SessionLimits(most, most_per_user, idle_seconds, execute_seconds=30.0)
        made.append(Sessions(Reserve({"process": executor}, 0, 100), Placements(), Refusals(), limits))
        return made[-1]

    yield make
    for sessions in made:
        await sessions.close_all()


async def test_a_limit_is_never_exceeded_however_many_ask_at_once(make_sessions: MakeSessions) -> None:
    sessions = make_sessions(most=5, most_per_user=200)
    results = await asyncio.gather(*(sessions.open(ANNA) for _ in range(200)), return_exceptions=True)
    assert sum(isinstance(result, Busy) for result in results) == 195
    assert sessions.count() == 5


async def test_one_user_cannot_take_all_places(make_sessions: MakeSessions) -> None:
    sessions = make_sessions(most=5, most_per_user=2)
    results = await asyncio.gather(*(sessions.open(ANNA) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, Busy) for result in results) == 3
    with pytest.raises(Busy, match=r"You have 2 sessions open.*sessions\.max_per_user"):
        await sessions.open(ANNA)
    await sessions.open(BERT)


async def test_a_session_nobody_uses_is_closed_with_the_reason(make_sessions: MakeSessions) -> None:
    sessions = make_sessions(idle_seconds=0.4)
    session = await sessions.open(ANNA)
    sessions.watch()
    await until(lambda: sessions.count() == 0)
    with pytest.raises(Gone, match=r"closed after 0.4 s without use \(sessions\.idle_seconds\)"):
        await sessions.objects(ANNA, session.id)
    with pytest.raises(NotFound):
        await sessions.objects(BERT, session.id)
    await sessions.close(ANNA, session.id)
    with pytest.raises(NotFound):
        await sessions.objects(ANNA, session.id)


async def test_a_session_is_not_closed_while_its_code_runs_or_someone_asks_for_it(make_sessions: MakeSessions) -> None:
    sessions = make_sessions(idle_seconds=0.5)
    works, asked = await sessions.open(ANNA), await sessions.open(ANNA)
    sessions.watch()
    working = asyncio.ensure_future(sessions.execute(ANNA, works.id, "import time\ntime.sleep(1.5)", [], []))
    while not working.done():
        sessions.history(ANNA, asked.id)
        await asyncio.sleep(0.1)
    assert sessions.count() == 2
