"""Clients that are generated from Swagger documents, by us, OpenAPI Generator and AutoRest, against a real server."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.environments import autorest, environment, find_python, this_python
from tests.parts import PASSWORD, SHARED
from tests.server.conftest import Server, serving

# The first run makes the environments.
pytestmark = [pytest.mark.untraced, pytest.mark.timeout(900)]

HERE = Path(__file__).parent
CORE = SHARED / "contract" / "mlserver-swagger-9.3.0.json"
ACCEPT = SHARED / "accept"
GENERATOR = ("openapi-generator-cli==7.26.0", "pydantic>=2", "urllib3>=2", "python-dateutil", "typing-extensions")
AUTOREST_CLIENT = ("azure-core>=1.24", "isodate", "msrest")
FLOWERS = {
    "runtimeType": "Python",
    "code": """
if kind == "raise":
    raise ValueError(kind)
doubled = sizes * 2
framed = frame.assign(kind=kind)
with open("kind.txt", "w") as file:
    print(kind, file=file)
""",
    "operationId": "classify",
    "description": 'Classifies "flowers".',
    "inputParameterDefinitions": [
        {"name": "sizes", "type": "vector"},
        {"name": "kind", "type": "character"},
        {"name": "frame", "type": "data.frame"},
    ],
    "outputParameterDefinitions": [{"name": "doubled", "type": "vector"}, {"name": "framed", "type": "data.frame"}],
    "outputFileNames": ["kind.txt", "never.png"],
}


PLANTS = {
    "runtimeType": "Python",
    "code": """
total, pieces, told, rotten = size * count, count * 2, f"{kind}: {size * count}", not fresh
framed = frame.assign(kind=kind)
with open("told.txt", "w") as file:
    file.write(told)
""",
    "operationId": "describe",
    "inputParameterDefinitions": [
        {"name": "size", "type": "numeric"},
        {"name": "count", "type": "integer"},
        {"name": "kind", "type": "character"},
        {"name": "fresh", "type": "logical"},
        {"name": "frame", "type": "data.frame"},
    ],
    "outputParameterDefinitions": [
        {"name": "total", "type": "numeric"},
        {"name": "pieces", "type": "integer"},
        {"name": "told", "type": "character"},
        {"name": "rotten", "type": "logical"},
        {"name": "framed", "type": "data.frame"},
    ],
    "outputFileNames": ["told.txt"],
}


@pytest.fixture(scope="session")
def flowers(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document of a published service."""
    return published(server, "Flowers", FLOWERS, tmp_path_factory.mktemp("flowers"))


@pytest.fixture(scope="session")
def plants(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document of another one, without vectors."""
    return published(server, "Plants", PLANTS, tmp_path_factory.mktemp("plants"))


def published(server: Server, name: str, definition: dict[str, Any], folder: Path) -> Path:
    """Publish a service; its document, in the folder."""
    token = server.login()
    server.call("POST", f"/services/{name}/1.0", 201, token, json=definition)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(server.call("GET", f"/api/{name}/1.0/swagger.json", 200, token)))
    return file


@pytest.fixture(scope="session")
def our_core(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The core document of the server itself."""
    file = tmp_path_factory.mktemp("core") / "swagger.json"
    file.write_text(json.dumps(server.call("GET", "/swagger.json")))
    return file


@pytest.fixture(scope="session", params=["ours", "the original's"])
def core(request: pytest.FixtureRequest, our_core: Path) -> Path:
    """The core document: the server's own, or the original server's."""
    if request.param == "ours":
        return our_core
    if not CORE.exists():
        pytest.skip(f"{CORE.name} is not here")
    return CORE


def codegen(document: Path, namespace: str, client: str, output: Path) -> None:
    options = ["--namespace", namespace, "--client-name", client, "--output", str(output)]
    subprocess.run([sys.executable, "-m", "mlhost", "codegen", document, *options], check=True, capture_output=True)


def run(
    python: Path, folder: Path, server: Server, *command: Path | str, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder with a generated client; it has to end well. `more` are environment variables."""
    variables = more | {
        "MLHOST_URL": server.url,
        "MLHOST_USER": "admin",
        "MLHOST_PASSWORD": PASSWORD,
        "PYTHONPATH": str(folder),
    }
    done = subprocess.run(
        [python, "-W", "error", *command],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        env=os.environ | variables,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return done


@pytest.fixture(params=["this", "3.8"])
def python(request: pytest.FixtureRequest) -> Path:
    """A Python with nothing but requests."""
    return environment(this_python() if request.param == "this" else find_python(request.param), "requests")


def test_a_service_is_consumed_through_the_client_of_its_document(
    server: Server, flowers: Path, python: Path, tmp_path: Path
) -> None:
    codegen(flowers, "flowers", "Flowers", tmp_path)
    run(python, tmp_path, server, HERE / "service_steps.py")


def test_a_service_lives_its_life_through_the_client_of_the_core_document(
    server: Server, core: Path, python: Path, tmp_path: Path
) -> None:
    codegen(core, "core", "Core", tmp_path)
    run(python, tmp_path, server, HERE / "core_steps.py")


def test_the_original_sample_program_predicts_species_as_it_stands(core: Path, tmp_path: Path) -> None:
    if not ACCEPT.exists():
        pytest.skip("the sample program is not here")
    codegen(core, "deployrclient", "DeployRClient", tmp_path)
    python = environment(this_python(), "requests")
    with serving(tmp_path) as start:  # it publishes under a name of its own, and leaves that behind
        server = start(preload="numpy,sklearn.svm,sklearn.datasets")
        for _ in range(2):  # the second time after deleting, as a person would try it again
            programs = (ACCEPT / "contract_check.py", ACCEPT / "seed_sample.py")
            done = run(python, tmp_path, server, *programs, MLHOST_REQUIRE_SUCCESS="1")
            assert " 0 error(s)" in done.stderr, done.stderr
            assert "success=false" not in done.stderr
            printed = done.stdout
            assert printed.startswith("pass\nresult: [1]\nother_result: [1]\n"), printed[:300]
            # Three calls of V1.0, whose second flower was a virginica to scikit-learn 0.18, and one of V2.0.
            assert re.findall(r'"I\. (\w+)"', printed) == ["versicolor", "versicolor", "setosa", "setosa"]
            assert re.findall(r'"errorMessage": (.*),', printed) == ['""'] * 4
            assert json.loads((tmp_path / "iris_swagger.json").read_text())["info"]["title"] == "Iris"
            token = server.login()
            server.call("DELETE", "/services/Iris/V1.0", 200, token)
            server.call("DELETE", "/services/Iris/V2.0", 404, token)  # its own last line did


@pytest.fixture(scope="session")
def openapi_clients(plants: Path, core: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clients that OpenAPI Generator makes of the two documents."""
    if not shutil.which("java"):
        pytest.skip("no java was found, which OpenAPI Generator needs")
    folder = tmp_path_factory.mktemp("openapi")
    settings = {
        "generatorName": "python",
        "outputDir": str(folder),
        "globalProperties": {
            "apis": "",
            "models": "",
            "supportingFiles": "",
            "apiDocs": "false",
            "modelDocs": "false",
            "apiTests": "false",
            "modelTests": "false",
        },
    }
    files = []
    for name, document in (("plants_client", plants), ("core_client", core)):
        files.append(folder / f"{name}.json")
        files[-1].write_text(json.dumps(settings | {"inputSpec": str(document), "packageName": name}))
    command = environment(this_python(), *GENERATOR).with_name("openapi-generator-cli")
    done = subprocess.run([command, "batch", "--fail-fast", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("program", ["openapi_service_steps.py", "openapi_core_steps.py"])
def test_clients_of_openapi_generator_work(server: Server, openapi_clients: Path, program: str) -> None:
    run(environment(this_python(), *GENERATOR), openapi_clients, server, HERE / program)


@pytest.fixture(scope="session")
def autorest_clients(flowers: Path, our_core: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clients that AutoRest 3 makes of the two documents."""
    folder, tool = tmp_path_factory.mktemp("autorest"), autorest()
    variables = {"AUTOREST_HOME": str(folder / "home"), "AUTOREST_PYTHON_EXE": this_python()}
    # Its Python side talks over standard output, after a line that must not leave the buffer before.
    variables |= {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for namespace, client, document in (("flowers_client", "Flowers", flowers), ("core_client", "Core", our_core)):
        options = [
            f"--version:{tool}/@autorest/core",
            f"--use:{tool}/@autorest/modelerfour",
            f"--use:{tool}/@autorest/python",
            "--python",
            "--python3-only=true",
            "--black=false",
            f"--input-file={document}",
            f"--output-folder={folder}",
            f"--namespace={namespace}",
            f"--override-client-name={client}",
        ]
        command = ["node", tool / "autorest/entrypoints/app.js", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=variables)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("program", ["autorest_service_steps.py", "autorest_core_steps.py"])
def test_clients_of_autorest_work(server: Server, autorest_clients: Path, program: str) -> None:
    python = environment(this_python(), *AUTOREST_CLIENT)
    # Texts of the documents have backslashes in the generated code, of which Python warns.
    run(python, autorest_clients, server, "-W", "default", HERE / program)
