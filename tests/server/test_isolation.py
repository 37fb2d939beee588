"""Twenty sessions at once, three of them bad: nobody else notices."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from mlhost.host import ensure_admin, open_host
from mlhost.http.server import serve
from mlhost.store.folder import DataFolder
from tests.parts import PASSWORD, Api, cheap_passwords, config_for_tests

pytestmark = pytest.mark.untraced

GOOD = 17
TRAIN = """
import numpy as np
from sklearn.linear_model import LogisticRegression
X = np.random.default_rng(seed).normal(size=(300, 5))
w = np.array([1.0 if seed >> bit & 1 else -1.0 for bit in range(5)])  # another answer for every session
model = LogisticRegression().fit(X, X @ w > 0)
signs = np.sign(model.coef_[0]).tolist()
expected = np.sign(w).tolist()
mine = seed
"""


@pytest.fixture(scope="module")
async def limited(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    config = config_for_tests(limits={"memory_bytes": 1 << 30, "execute_seconds": 10.0})
    with DataFolder.open(tmp_path_factory.mktemp("limited")) as folder:
        async with open_host(config, folder, cheap_passwords()) as host:
            await ensure_admin(host, PASSWORD)
            async with serve(host) as url:
                yield url


async def test_twenty_sessions_train_at_once_and_three_bad_ones_harm_nobody(limited: str) -> None:
    async with aiohttp.ClientSession(limited, connector=aiohttp.TCPConnector(limit=0)) as http:
        api = await Api(http).login("admin")
        sessions = await asyncio.gather(*(api.session(name=str(n)) for n in range(GOOD + 3)))
        *good, loops, exits, hoards = sessions
        probing = True

        async def probe() -> int:
            count = 0
            while probing:
                await api("GET", "/readyz")
                count += 1
                await asyncio.sleep(0.05)
            return count

        async def train(path: str, seed: int) -> None:
            for _ in range(3):
                done = await api.execute(path, TRAIN, "signs", "expected", "mine", seed=seed)
                values = {each["name"]: each["value"] for each in done["outputParameters"]}
                assert values["signs"] == values["expected"], done
                assert values["mine"] == seed
                await asyncio.sleep(0.5)

        async def misbehave() -> None:
            looped, exited, hoarded = await asyncio.gather(
                api.execute(loops, "while True: pass"),
                api.execute(exits, "import os\nos._exit(3)", expect=410),
                api.execute(hoards, "hoard = []\nwhile True: hoard.append(bytearray(10_000_000))"),
            )
            assert "Stopped after 10 seconds" in looped["errorMessage"]
            assert "exit status 3" in exited["message"]
            assert "MemoryError" in hoarded["errorMessage"]
            assert "1.0 GiB" in hoarded["errorMessage"]

        probes = asyncio.ensure_future(probe())
        await asyncio.gather(misbehave(), *(train(path, seed) for seed, path in enumerate(good)))
        probing = False
        assert await probes > 20
        for number, path in enumerate(good):
            done = await api.execute(path, "still = mine", "still")
            assert done["outputParameters"][0]["value"] == number
            await api("DELETE", path)
