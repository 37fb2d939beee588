"""The programs in examples/, each run as somebody would run it, and what they print."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mlhost.testing import Server, serve
from tests.parts import ROOT

pytestmark = pytest.mark.untraced

EXAMPLES = ROOT / "examples"
PRINTED = {
    "iris": """\
one flower: setosa
a batch of 38: 37 right
""",
    "texts": """\
cold rain and wind: weather (78%)
soup with bread: food (75%)
['weather', 'food']
""",
    "images": """\
a 0 is read as 0, by 32 features
91 of 100 are right
""",
    "pipeline": """\
shop
north    182.9
south    196.4
unusual days: 5
month,north,south
2026-01,2044.4,4624.4
2026-02,2679.6,2332.2
2026-03,2301.1,3998.6
""",
    "onnx_model": """\
answered by: onnx
the server says: 199.8 73.4 172.9
scikit-learn says: 199.8 73.4 172.9
""",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server as people have it."""
    with serve(profile="isolated") as server:
        yield server


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_prints_what_it_should_and_leaves_nothing_behind(server: Server, name: str) -> None:
    done = subprocess.run(
        [sys.executable, f"{name}.py", "--url", server.url],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=EXAMPLES,
        env=os.environ | {"MLHOST_PASSWORD": server.password},
    )
    assert done.stdout == PRINTED[name], done.stderr
    with server.connect() as ml:
        assert ml.services() == []
        assert ml.snapshots() == []
        assert ml.sessions() == []


def test_every_example_is_run_and_told_of() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(PRINTED)
    told = (EXAMPLES / "README.md").read_text("utf-8")
    assert all(f"[{name}.py]({name}.py)" in told for name in PRINTED)
