"""`mlhost bench`: a service measured as its callers find it."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner

from mlhost.bench import Call, Plan, measure
from mlhost.cli import main
from mlhost.errors import Invalid, Unavailable
from tests.parts import PASSWORD, names_and_types
from tests.server.conftest import Server, serving

INPUTS = json.dumps({"x": 3})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with a service that doubles, one that fails at 3, and one that takes its time."""
    with serving(tmp_path_factory.mktemp("server")) as start:
        server = start()
        token = server.login()
        parameters = {"inputParameterDefinitions": names_and_types(x="integer")}
        parameters["outputParameterDefinitions"] = names_and_types(y="integer")
        codes = {"double": "y = 2 * x", "broken": "y = 1 / (x - 3)", "slow": "import time\ntime.sleep(0.1)\ny = x"}
        for name, code in codes.items():
            definition = {"runtimeType": "Python", "code": code} | parameters
            server.call("POST", f"/services/{name}/1", 201, token, json=definition)
        yield server


def bench(server: Server, service: str, *options: str, expect: int = 0, token: str | None = None) -> str:
    token = server.login() if token is None else token
    arguments = ["bench", f"{server.url}/api/{service}/1", "--inputs", INPUTS, "--seconds", "0.3", *options]
    result = CliRunner().invoke(main, arguments, env={"MLHOST_TOKEN": token}, input=f"{PASSWORD}\n")
    assert result.exit_code == expect, result.output
    return result.output if expect else result.stdout


def test_it_tells_latency_and_rate_step_by_step_and_draws_them(server: Server, tmp_path: Path) -> None:
    drawn = tmp_path / "double.png"
    head, *rows = bench(server, "double", "--connections", "2:6:4", "--png", str(drawn)).splitlines()
    assert head.split() == ["connections", "answers/s", "p50", "ms", "p95", "ms", "p99", "ms", "failed"]
    assert [row.split()[0] for row in rows] == ["2", "6"]
    assert all(row.split()[5] == "0" and "█" in row for row in rows)
    assert drawn.read_bytes().startswith(b"\x89PNG\r\n")


def test_its_figures_are_those_of_the_service(server: Server) -> None:
    [step] = json.loads(bench(server, "slow", "--json", "--connections", "1:1:1", "--seconds", "1"))
    assert step["p50"] > 100
    assert step["p50"] <= step["p95"] <= step["p99"]
    assert 1 <= step["rate"] < 10


def test_answers_of_code_that_fails_are_counted_as_failed(server: Server) -> None:
    [step] = json.loads(bench(server, "broken", "--json", "--connections", "1:1:1"))
    assert step["failed"] > 0


def test_it_ends_where_an_answer_takes_too_long(server: Server) -> None:
    steps = json.loads(
        bench(server, "slow", "--json", "--connections", "1:20:1", "--latency", "50", "--seconds", "0.5")
    )
    assert [step["connections"] for step in steps] == [1]


def test_it_goes_by_ten_to_fifty_or_on_until_an_answer_takes_too_long() -> None:
    assert Plan.of(None, 0, 1) == Plan(10, 50, 10, 0, 1)
    assert Plan.of(None, 250, 1) == Plan(10, 1000, 10, 250, 1)
    assert Plan.of("1:5:2", 250, 1) == Plan(1, 5, 2, 250, 1)


def test_without_a_token_it_signs_in_and_out_again(server: Server) -> None:
    assert "\n" in bench(server, "double", "--connections", "1:1:1", token="")


def test_what_is_wrong_is_said_in_words(server: Server) -> None:
    assert "10:50:10" in bench(server, "double", "--connections", "many", expect=1)
    assert "JSON" in bench(server, "double", "--inputs", "{", expect=1)
    assert "--inputs" in bench(server, "double", "--inputs", "@nowhere.json", expect=1)
    away = CliRunner().invoke(main, ["bench", "http://127.0.0.1:9/api/x/1", "--inputs", "{}", "--token", "x"])
    assert (away.exit_code, "cannot be measured" in away.output) == (5, True)
    for url in ("127.0.0.1/api", "http://h:99999/x", "http://h", "http://u:p@h/x", "ftp://h/x"):
        with pytest.raises(Invalid, match="not the address of a service"):
            Call.of(url, b"{}", "", None)
    for spelled in ("5:1:1", "0:5:1", "1:5:0", "1:5000:1", "1:2"):
        with pytest.raises(Invalid, match="FIRST:MOST:STEP"):
            Plan.of(spelled, 0, 1)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b""])
async def test_a_server_that_answers_in_another_way_or_not_at_all_is_given_up(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(answer)
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.read(), 5)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        call = Call.of(f"http://127.0.0.1:{port}/api/x/1", b"{}", "", None)
        with (
            mock.patch("mlhost.bench.LAST_ANSWER_SECONDS", 0.2),
            pytest.raises(Unavailable, match=r"does not answer|without a Content-Length"),
        ):
            [step async for step in measure(call, Plan(2, 2, 1, seconds=0.1))]
