"""Calls are stateless: an answer is its own caller's, and what a call did is gone, however the call ended."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mlhost.auth.principal import Principal, Role
from mlhost.config import Placement
from mlhost.errors import Unavailable
from mlhost.executors import Executor, Worker, parcels
from mlhost.executors.inline import InlineExecutor
from mlhost.executors.pool import Pool, PoolSettings
from mlhost.executors.process import ProcessExecutor
from mlhost.host import Host, ensure_admin, open_host
from mlhost.http.server import serve
from mlhost.runtime.program import ProgramSpec, prepare
from mlhost.scoring import Ready, score
from mlhost.services import Draft
from mlhost.store.folder import DataFolder
from tests.parts import COVERAGE, PASSWORD, Api, answered, cheap_passwords, config_for_tests, until

CALLERS = 32
CANCELS = 1000
HTTP_CANCELS = 200
WORKERS = 4  # so that many wait and several run

# Returns what only this call knows, and prints and raises it in every so manieth one: silent calls ride together.
MARKED = """
import time
if number % {loud} == 0:
    print('printed', number)
time.sleep(pause)
if number % 5 == 0 and number % {loud} == 0:
    raise ValueError(f'raised {{number}}')
square, echo = number * number, [text, number]
"""
LOUD = {"Marked": 1, "Quiet": 15, "Inline": 15}  # of a service's calls, which are heard
TAKES = (("number", "integer"), ("text", "character"), ("pause", "numeric"))
GIVES = (("square", "integer"), ("echo", "vector"))


@pytest.fixture(scope="module")
async def busy_host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    """A host with the services of LOUD on several workers."""
    runtime = {"preload": (), "environment": COVERAGE, "allowed_placements": ("process", "inline")}
    config = config_for_tests(pool={"workers": WORKERS}, runtime=runtime)
    with DataFolder.open(tmp_path_factory.mktemp("busy")) as folder:
        async with open_host(config, folder, cheap_passwords()) as host:
            await ensure_admin(host, PASSWORD)
            for name, loud in LOUD.items():
                placement: Placement = "inline" if name == "Inline" else "process"
                draft = Draft(code=MARKED.format(loud=loud), inputs=TAKES, outputs=GIVES, placement=placement)
                await host.services.publish(Principal("admin", Role.OWNER), name, "1", draft)
            yield host


class Crowd:
    """Callers at once, each with calls of its own, that now and then go away while they wait; `seed` decides."""

    def __init__(self, ask: Callable[[bytes], Awaitable[bytes]], cancels: int, loud: int = 1) -> None:
        self._ask = ask
        self._cancels = cancels
        self._loud = loud
        self.cancelled = 0
        self.answered = 0

    async def come(self) -> None:
        await asyncio.gather(*(self._call_again_and_again(seed) for seed in range(CALLERS)))

    async def _call_again_and_again(self, seed: int) -> None:
        chance = random.Random(seed)
        number = 1_000_000 * seed
        while self.cancelled < self._cancels:
            number += 1
            text = f"{seed}-{chance.random()}"
            body = {"number": number, "text": text, "pause": chance.choice([0, 0, 0.0005, 0.002])}
            asking = asyncio.ensure_future(self._ask(json.dumps(body).encode()))
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.02)
                asking.cancel()
            try:
                answer = json.loads(await asking)
            except asyncio.CancelledError:
                self.cancelled += 1
                continue
            self._check(answer, number, text)
            self.answered += 1

    def _check(self, answer: dict[str, object], number: int, text: str) -> None:
        printed = f"printed {number}\n" if number % self._loud == 0 else ""
        if number % 5 or not printed:
            assert answer["success"], answer
            assert answer["outputParameters"] == {"square": number * number, "echo": [text, number]}
            assert answer["consoleOutput"] == printed
        else:
            assert answer["errorMessage"] == f"ValueError: raised {number}"
            assert answer["outputParameters"] == {}
            assert str(answer["consoleOutput"]).startswith(printed)


@pytest.mark.parametrize("name", LOUD)
async def test_a_thousand_cancels_at_random_never_bring_a_reply_to_another_caller(
    busy_host: Host, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlhost.executors.pool.PROVEN_CALLS", 0)
    ready = busy_host.services.ready(name, "1")

    async def ask(body: bytes) -> bytes:
        return await parcels.whole(await score(ready, body))

    crowd = Crowd(ask, CANCELS, LOUD[name])
    await crowd.come()
    assert crowd.cancelled >= CANCELS
    assert crowd.answered > 100
    await until(lambda: len(ready.pool._idle) == ready.pool._count)  # nobody holds a worker any more
    assert 0 < ready.pool._count <= WORKERS


async def test_clients_that_go_away_at_random_never_bring_a_reply_to_another_one(busy_host: Host) -> None:
    async with serve(busy_host) as url, aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as http:
        api = await Api(http).login("admin")

        async def ask(body: bytes) -> bytes:
            async with http.post("/api/Marked/1", data=body, headers={"Authorization": f"Bearer {api.token}"}) as got:
                assert got.status == 200
                return await got.read()

        crowd = Crowd(ask, HTTP_CANCELS)
        await crowd.come()
        assert crowd.answered > 50


# --- what a call leaves ----------------------------------------------------------------------------------------------

INIT = """
kept = 'kept'
changed = 'as it was'
def define():
    return 'as it was'
"""
# Binds, defines, rebinds, deletes, in the namespace and from inside functions, and then ends in some way.
LEAVING = """
import time, os
seen = sorted(name for name in globals() if not name.startswith('__'))
state = [changed, define(), os.listdir()]
if how == 'look':
    y = [seen, state]
else:
    import json as imported
    bound = 'bound'
    globals()['bound by globals'] = 1
    changed = 'otherwise'
    def define():
        return 'otherwise'
    class Defined: pass
    def inner():
        global from_inside
        from_inside = 1
    inner()
    del kept
    open('left.txt', 'w').close()
    os.chdir('/')
    print('left')
    if how == 'return':
        y = 1
    elif how == 'raise':
        raise KeyError('left')
    elif how == 'exit':
        raise SystemExit(3)
    elif how == 'no output':
        pass
    elif how == 'refused output':
        y = object()
    elif how == 'clear':
        globals().clear()
    elif how == 'go on':
        while True:
            time.sleep(0.001)
    elif how == 'die':
        os._exit(3)
    elif how == 'stubborn':
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass
"""
SPEC = ProgramSpec(code=LEAVING, init_code=INIT, inputs=[("how", "character")], outputs=[("y", "vector")], files=[])


class Maker:
    """Makes the service above on one worker."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.pools: list[Pool] = []
        self.workers: list[Worker] = []

    def __call__(self) -> Ready:
        async def start() -> Worker:
            worker = await self._executor.open(deadline_seconds=30)
            self.workers.append(worker)
            await worker.call(prepare, SPEC)
            return worker

        self.pools.append(Pool(start, PoolSettings(workers=1, queue=10)))
        return Ready("Leaving", "1", self.pools[-1])

    async def close(self) -> None:
        for pool in self.pools:
            await pool.close()


@pytest.fixture
async def make(executor: ProcessExecutor) -> AsyncIterator[Maker]:
    maker = Maker(executor)
    yield maker
    await maker.close()


@pytest.fixture(params=["process", pytest.param("inline", marks=pytest.mark.untraced)])
async def make_anywhere(
    request: pytest.FixtureRequest, executor: ProcessExecutor, tmp_path: Path
) -> AsyncIterator[Maker]:
    """A maker in each placement; the ends of a call that nothing but a process survives are not for inline."""
    inline = InlineExecutor(tmp_path)
    maker = Maker(executor if request.param == "process" else inline)
    yield maker
    await maker.close()
    await inline.close()


async def ask(ready: Ready, how: str) -> dict[str, Any]:
    answer: dict[str, Any] = answered(await score(ready, json.dumps({"how": how}).encode()))
    return answer


async def look(ready: Ready) -> Any:
    """What a call finds."""
    answer = await ask(ready, "look")
    assert (answer["success"], answer["consoleOutput"], answer["changedFiles"]) == (True, "", []), answer
    return answer["outputParameters"]["y"]


@pytest.mark.parametrize("how", ["return", "raise", "exit", "no output", "refused output", "clear"])
async def test_what_a_call_binds_defines_or_deletes_is_invisible_to_the_next(make_anywhere: Maker, how: str) -> None:
    ready = make_anywhere()
    before = await look(ready)
    answer = await ask(ready, how)
    assert answer["success"] is (how == "return")
    assert answer["consoleOutput"].startswith("left\n")
    assert await look(ready) == before
    assert len(make_anywhere.workers) == 1


async def test_a_call_that_takes_too_long_leaves_nothing_behind(make_anywhere: Maker) -> None:
    ready = make_anywhere()
    before = await look(ready)
    [worker] = make_anywhere.workers
    worker.deadline_seconds = 0.3
    assert (await ask(ready, "go on"))["errorMessage"].startswith("Stopped after 0.3 seconds")
    worker.deadline_seconds = 30
    assert await look(ready) == before
    assert len(make_anywhere.workers) == 1


async def test_a_cancelled_call_leaves_nothing_behind(make_anywhere: Maker) -> None:
    ready = make_anywhere()
    before = await look(ready)
    for moment in (0, 0.001, 0.003, 0.1):
        asking = asyncio.ensure_future(ask(ready, "go on"))
        await asyncio.sleep(moment)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await look(ready) == before
    assert len(make_anywhere.workers) == 1


async def test_a_cancelled_call_that_does_not_stop_gets_its_worker_replaced(make: Maker) -> None:
    ready = make()
    before = await look(ready)
    asking = asyncio.ensure_future(ask(ready, "stubborn"))
    await until(lambda: "left" in make.workers[0].console.text)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await look(ready) == before
    assert len(make.workers) == 2


async def test_a_call_that_ends_its_process_gets_it_replaced(make: Maker) -> None:
    ready = make()
    before = await look(ready)
    with pytest.raises(Unavailable, match="exit status 3"):
        await ask(ready, "die")
    assert await look(ready) == before
    assert len(make.workers) == 2
