"""A host and its server in this process, the life of a service, then the names of all loaded modules."""

import asyncio
import sys

import aiohttp

from mlhost.config import Config
from mlhost.host import ensure_admin, open_host
from mlhost.http.server import serve
from mlhost.store.folder import DataFolder

PASSWORD = "a password"
TRAIN = "from sklearn.svm import SVC\nimport pandas\nmodel = SVC().fit([[0, 0], [1, 1]], [0, 1])\nx = 1"


async def walk(url: str) -> None:
    async with aiohttp.ClientSession(url, raise_for_status=True) as http:

        async def post(path: str, body: object) -> dict[str, str]:
            async with http.post(path, json=body) as response:
                return await response.json() if response.content_type == "application/json" else {}

        pair = await post("/login", {"username": "admin", "password": PASSWORD})
        http.headers["Authorization"] = f"Bearer {pair['access_token']}"
        session = f"/sessions/{(await post('/sessions', {'runtimeType': 'Python'}))['sessionId']}"
        assert (await post(f"{session}/execute", {"code": TRAIN, "outputParameters": ["x"]}))["success"]
        async with http.get(f"{session}/workspace/model") as response:
            pickled = await response.read()
        await http.post(f"{session}/workspace/copy", data=pickled)
        snapshot = await post(f"{session}/snapshot", {"name": "s"})
        await post(f"{session}/loadsnapshot/{snapshot['snapshotId']}", {})
        definition = {
            "runtimeType": "Python",
            "code": "y = copy.predict(f.values)",
            "inputParameterDefinitions": [{"name": "f", "type": "data.frame"}],
            "outputParameterDefinitions": [{"name": "y", "type": "vector"}],
        }
        await post("/services/S/1", definition | snapshot)
        answer = await post("/api/S/1", {"f": {"a": [0, 1], "b": [0, 1]}})
        assert answer["outputParameters"] == {"y": [0, 1]}, answer
        await http.get("/api/S/1/swagger.json")
        await http.get("/status")
        await http.patch("/services/S/1", json={"description": "d"})
        await http.delete("/services/S/1")
        await http.delete(session)


async def main() -> None:
    from dataclasses import replace

    config = Config()
    config = replace(config, server=replace(config.server, port=0))
    with DataFolder.ephemeral() as folder:
        async with open_host(config, folder) as host:
            await ensure_admin(host, PASSWORD)
            async with serve(host) as url:
                await walk(url)
    print(*sys.modules)


asyncio.run(main())
