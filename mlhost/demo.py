"""The demo: train and publish the Iris service through the server's own API, score it, show how to go on."""

from __future__ import annotations

import json
import shlex
from typing import Any

import aiohttp

from mlhost.auth.principal import Principal, Role
from mlhost.errors import Unavailable
from mlhost.host import Host
from mlhost.places import ADMIN

NAME, VERSION = "Iris", "1.0"
SETOSA = [5.1, 3.5, 1.4, 0.2]  # sepal length and width, petal length and width, in cm
TRAIN = """
from sklearn.datasets import load_iris
from sklearn.svm import SVC

iris = load_iris()
species = list(iris.target_names)
model = SVC().fit(iris.data, iris.target)
del iris
"""
DEFINITION = {
    "runtimeType": "Python",
    "description": "The species of an iris, from its sepal length and width, petal length and width in cm",
    "code": "iris_species = species[model.predict([flower_data])[0]]",
    "inputParameterDefinitions": [{"name": "flower_data", "type": "vector"}],
    "outputParameterDefinitions": [{"name": "iris_species", "type": "character"}],
}


async def run(host: Host, url: str) -> str:
    """Publish the service if it is not there yet and score one flower; the text to show."""
    tokens = await host.tokens.issue(Principal(ADMIN, Role.OWNER))
    headers = {"Authorization": f"Bearer {tokens.access}"}
    itself = aiohttp.TCPConnector(ssl=False)  # whom it talks to is known without a certificate
    async with aiohttp.ClientSession(url, headers=headers, connector=itself) as http:
        published = await _call(http, "GET", f"/services/{NAME}")
        if not any(service["version"] == VERSION for service in published):
            await _publish(http)
        answer = await _call(http, "POST", f"/api/{NAME}/{VERSION}", {"flower_data": SETOSA})
    if not answer["success"]:
        raise Unavailable(f"The demo's service answers: {answer['errorMessage']}")
    trusting = f" --cacert {shlex.quote(cert)}" if (cert := host.config.server.tls_cert) else ""
    return _text(f"{url}/api/{NAME}/{VERSION}{trusting}", tokens.access, answer["outputParameters"]["iris_species"])


async def _publish(http: aiohttp.ClientSession) -> None:
    opened = await _call(http, "POST", "/sessions", {"runtimeType": "Python", "name": "demo"})
    session = f"/sessions/{opened['sessionId']}"
    try:
        trained = await _call(http, "POST", f"{session}/execute", {"code": TRAIN})
        if not trained["success"]:
            raise Unavailable(
                f"The demo could not train its model: {trained['errorMessage']}. "
                "It needs scikit-learn: pip install 'mlhost[ml]'"
            )
        taken = await _call(http, "POST", f"{session}/snapshot", {"name": "demo"})
        await _call(http, "POST", f"/services/{NAME}/{VERSION}", DEFINITION | taken)
        await _call(http, "DELETE", f"/snapshots/{taken['snapshotId']}")
    finally:
        await _call(http, "DELETE", session)


async def _call(http: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
    async with http.request(method, path, json=body) as response:
        answer = await response.json()
        if response.status >= 400:
            raise Unavailable(f"The demo stopped at {method} {path}: {answer['message']}")
        return answer


def _text(at: str, access: str, species: str) -> str:
    body = json.dumps({"flower_data": SETOSA})
    return f"""The service {NAME} {VERSION} is published; it takes {SETOSA} for {species}. Ask it yourself:

curl -s {at} -H 'Content-Type: application/json' -H 'Authorization: Bearer {access}' -d '{body}'
"""
