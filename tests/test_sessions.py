"""Sessions without HTTP: how many there may be, and how long one lives that nobody uses."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mlhost.auth.principal import Principal, Role
from mlhost.errors import Busy, Gone, NotFound
from mlhost.executors.inline import InlineExecutor
from mlhost.executors.placements import Placements
from mlhost.executors.process import ProcessExecutor
from mlhost.executors.refusals import Refusals
from mlhost.executors.reserve import Reserve
from mlhost.sessions import Session, SessionLimits, Sessions
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


# --- others who ask while a session moves

SLOW = """
import time
class Slow:
    def __reduce__(self): return time.sleep, (1,)
slow = Slow()
"""  # to be unpickled


@pytest.fixture
async def moving(executor: ProcessExecutor, tmp_path: Path) -> AsyncIterator[tuple[Sessions, Session, Reserve]]:
    """A session that moves, for as long as `slow` is among its objects, at `import refusing`."""
    refusals = Refusals()
    refusals._reasons["refusing"] = "it was tried"
    inline = InlineExecutor(tmp_path)
    reserve = Reserve({"process": executor, "inline": inline}, 0, 100)
    sessions = Sessions(reserve, Placements(), refusals, SessionLimits(10, 10, 0.4, execute_seconds=30.0))
    session = await sessions.open(ANNA)
    session.may_move = True
    await sessions.execute(ANNA, session.id, SLOW, [], [])
    yield sessions, session, reserve
    await sessions.close_all()
    await inline.close()


async def test_asking_for_objects_while_a_session_moves_does_not_end_it(
    moving: tuple[Sessions, Session, Reserve],
) -> None:
    sessions, session, _ = moving
    run = asyncio.ensure_future(sessions.execute(ANNA, session.id, "import refusing", [], []))
    while not run.done():
        assert "slow" in (await sessions.objects(ANNA, session.id))
        assert await sessions.files(ANNA, session.id) == []
        await asyncio.sleep(0)
    assert "No module named 'refusing'" in (await run)[0]["error"]
    assert session.placement == "inline"


async def test_a_session_closed_while_it_moves_leaves_nothing(moving: tuple[Sessions, Session, Reserve]) -> None:
    sessions, session, reserve = moving
    run = asyncio.ensure_future(sessions.execute(ANNA, session.id, "import refusing", [], []))
    await until(lambda: session.target is not None and session.target.busy)
    await sessions.close(ANNA, session.id)
    with pytest.raises(Gone, match="it was closed while running: import refusing"):
        await run
    assert reserve.count() == 0


async def test_a_session_whose_new_worker_dies_stays_where_it_was(moving: tuple[Sessions, Session, Reserve]) -> None:
    sessions, session, _ = moving
    run = asyncio.ensure_future(sessions.execute(ANNA, session.id, "import refusing", [], []))
    await until(lambda: session.target is not None and session.target.busy)
    assert session.target is not None
    await session.target.close(force=True)
    assert "the session cannot move: it was closed by force. Open a session" in (await run)[0]["error"]
    assert await sessions.objects(ANNA, session.id) == ["Slow", "slow"]


async def test_a_move_can_be_cancelled_and_is_no_idleness(moving: tuple[Sessions, Session, Reserve]) -> None:
    sessions, session, _ = moving
    sessions.watch()
    run = asyncio.ensure_future(sessions.execute(ANNA, session.id, "import refusing", [], []))
    await asyncio.sleep(0.7)
    assert sessions.cancel(ANNA, session.id)
    assert "The call was interrupted" in (await run)[0]["error"]
    assert session.placement == "process"
    assert await sessions.objects(ANNA, session.id) == ["Slow", "slow"]
