"""The original Python SDK, its wheel untouched: on today's Python with the bridge, on 3.7 as it is."""

import ast
import functools
import json
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from mlhost.compat import azureml
from mlhost.realtime import serialize
from tests.clients.environments import SDK, environment, find_python, this_python
from tests.parts import PASSWORD, SHARED
from tests.server.conftest import Server

# The first run makes the environments.
pytestmark = [pytest.mark.untraced, pytest.mark.timeout(900)]

STEPS = Path(__file__).with_name("sdk_steps.py")
UNIT_TESTS = ("pytest", "pytest-mock", "requests-mock", "setuptools<81")  # their package asks for pkg_resources


def steps() -> list[str]:
    functions = [node for node in ast.parse(STEPS.read_text()).body if isinstance(node, ast.FunctionDef)]
    return [node.name for node in functions if [each.arg for each in node.args.args] == ["client"]]


def shimmed(folder: Path) -> dict[str, str]:
    """The variables that bring the bridge, copied alone, to an environment without mlhost."""
    shutil.copy(azureml.__file__, folder / "sdk_compat.py")
    (folder / "sitecustomize.py").write_text("import sdk_compat\n")
    return {"PYTHONPATH": str(folder), "SHIMMED": "1"}


@functools.cache
def faults(python: Path, url: str, **variables: str) -> dict[str, str]:
    done = subprocess.run(
        [python, STEPS],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"MLHOST_URL": url, "MLHOST_PASSWORD": PASSWORD} | variables,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="session")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return shimmed(tmp_path_factory.mktemp("bridge"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with models as bytes: made here, since that takes the server's Python and scikit-learn."""
    folder = tmp_path_factory.mktemp("models")
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0], "b": [2.0, 5.0, 1.0, 8.0, 3.0, 0.0, 4.0]})
    add = LinearRegression().fit(frame, frame.a + frame.b)
    multiply = make_pipeline(PolynomialFeatures(), LinearRegression()).fit(frame, frame.a * frame.b)
    (folder / "add").write_bytes(serialize(add))
    (folder / "multiply").write_bytes(serialize(multiply))
    return str(folder)


@pytest.mark.parametrize("step", steps())
def test_with_the_bridge(step: str, server: Server, bridge: dict[str, str], models: str) -> None:
    python = environment(this_python(), SDK, *UNIT_TESTS)
    assert not faults(python, server.url, MODELS=models, **bridge)[step]


@pytest.mark.parametrize("step", steps())
def test_untouched_on_python_3_7(step: str, server: Server, models: str) -> None:
    python = environment(find_python("3.7"), SDK)
    assert not faults(python, server.url, MODELS=models, SHIMMED="0")[step]


def test_the_lines_of_the_document_are_in_their_step() -> None:
    seeds = SHARED / "seeds"
    documents = [each for each in seeds.glob("*.txt") if "Consume web services in Python" in each.read_text()[:200]]
    if not documents:
        pytest.skip("the document is not here")
    blocks = "".join(documents[0].read_text().split("```")[1::2])
    lines = [line.strip() for line in blocks.splitlines() if line.startswith(("client.", "svc", "res", "print", "cap"))]
    step = STEPS.read_text()
    assert len(lines) == 12
    # Two of them only bind their answer to a name first, to be looked at.
    assert all(line in step for line in lines), [line for line in lines if line not in step]


def test_all_unit_tests_of_the_sdk_pass_with_the_bridge(bridge: dict[str, str]) -> None:
    python = environment(this_python(), SDK, *UNIT_TESTS)
    [packages] = python.parents[1].glob("lib/python*/site-packages")
    folders = ["tests/unit_tests/deploy", "tests/unit_tests/common"]
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *folders],
        capture_output=True,
        text=True,
        cwd=packages,  # two of them look for files of the SDK from here
        env=os.environ | bridge | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert "126 passed" in done.stdout, done.stdout
