"""`mlhost service`: tables for people, JSON for programs, inputs as a shell gives them."""

import json
from pathlib import Path

import pytest

from mlhost.client import Client, Service
from tests.cli.conftest import Mlhost


def graded(x: float, name: str, exact: bool) -> str:
    """Tell how it is."""
    return f"{name} has {x}, {exact}"


@pytest.fixture
def service(signed_in: Client) -> Service:
    return signed_in.publish(graded, "graded", "1.0")


def test_services_are_listed_in_aligned_columns(mlhost: Mlhost, signed_in: Client, service: Service) -> None:
    signed_in.publish(graded, "a-longer-name", "10")
    lines = mlhost("service", "list").output.splitlines()
    assert lines[0].split()[:3] == ["NAME", "VERSION", "RUNTIME"]
    assert lines[1].startswith("graded         1.0      Python   x: numeric, name: character, exact: logical  answer:")
    assert len({line.index("Python") for line in lines[1:]}) == 1
    assert [each["name"] for each in json.loads(mlhost("service", "list", "--json").output)] == [
        "graded",
        "a-longer-name",
    ]
    assert mlhost("service", "list", "nothing").output == "There is no service 'nothing'.\n"
    assert service.name == "graded"


def test_a_service_is_shown_with_what_it_takes_and_where_it_is_called(mlhost: Mlhost, service: Service) -> None:
    told = mlhost("service", "show", "graded").output
    assert "Takes" in told
    assert service.url in told
    assert json.loads(mlhost("service", "show", "graded", "1.0", "--json").output) == service.record
    assert mlhost("service", "show", "graded", "--code").output == f"{service.record['code']}\n"
    assert "no service 'nothing'" in mlhost("service", "show", "nothing", expect=1).stderr


@pytest.mark.usefixtures("service")
def test_a_service_is_called_with_inputs_of_the_types_it_declares(mlhost: Mlhost, tmp_path: Path) -> None:
    assert mlhost("service", "call", "graded", "1.0", "x=2", "name=5", "exact=true").stdout == "5 has 2.0, True\n"
    assert mlhost("service", "call", "graded", "x=NaN", "name=a=b", "exact=1").stdout == "a=b has nan, True\n"
    inputs = json.dumps({"x": 1.5, "name": "ann", "exact": False})
    (tmp_path / "inputs.json").write_text(inputs)
    told = mlhost("service", "call", "graded", "--json-file", tmp_path / "inputs.json", "name=bob", "--json").stdout
    assert json.loads(told) == {"outputs": {"answer": "bob has 1.5, False"}, "console": "", "files": []}
    told = mlhost("service", "call", "graded", "--json-file", "-", answers=inputs).stdout
    assert told == "ann has 1.5, False\n"


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (("x=two", "name=a", "exact=true"), "x=two does not fit, as x is of type numeric: not a number."),
        (("x=1", "name=a"), "No value is given for exact; it takes x (numeric), name (character), exact (logical)."),
        (("x=1", "name=a", "exact=true", "y=1"), "There is no input y; it takes"),
        (("1.0", "x=1", "name"), "'name' is no input: they are written INPUT=VALUE"),
        (("--json-file", "nowhere.json"), "nowhere.json cannot be read: No such file or directory."),
    ],
)
def test_what_is_wrong_with_inputs_is_said_in_a_line(mlhost: Mlhost, inputs: tuple[str, ...], words: str) -> None:
    said = mlhost("service", "call", "graded", *inputs, expect=1).stderr
    assert words in said
    assert said.count("\n") == 1


def test_several_outputs_are_named_and_what_was_printed_goes_to_stderr(
    mlhost: Mlhost, signed_in: Client, tmp_path: Path
) -> None:
    with signed_in.session() as session:
        code = "print('seen'); doubled, twice = x * 2, [x, x]"
        session.publish("two", "1", code, inputs={"x": int}, outputs={"doubled": int, "twice": list})
    told = mlhost("service", "call", "two", "x=4")
    assert (told.stdout, told.stderr) == ("doubled: 8\ntwice: [4,4]\n", "seen\n")
    body = {"runtimeType": "Python", "code": "open('a.txt', 'w').write('1')", "outputFileNames": ["a.txt"]}
    signed_in.wire.run(signed_in.wire.transport.ask("POST", "/services/filed/1", body))
    assert "a.txt" in mlhost("service", "call", "filed", "--save", tmp_path).stderr
    assert (tmp_path / "a.txt").read_text() == "1"


def test_code_that_fails_ends_a_call_with_3(mlhost: Mlhost, signed_in: Client) -> None:
    def failing(x: float) -> float:
        raise ValueError(f"no\n{x}")

    signed_in.publish(failing, "failing", "1")
    said = mlhost("service", "call", "failing", "x=0", expect=3).stderr
    assert "no 0.0" in said
    assert said.count("\n") == 1


@pytest.mark.usefixtures("service")
def test_a_service_is_deleted_once_one_is_sure(mlhost: Mlhost) -> None:
    mlhost("service", "delete", "graded", "1.0", answers="n\n", expect=1)
    assert mlhost("service", "delete", "graded", "1.0", "--yes").output == "graded 1.0 is deleted.\n"
    assert "no service" in mlhost("service", "delete", "graded", "1.0", "--yes", expect=1).stderr


def test_versions_whose_workspaces_are_gone_are_not_called_the_same(mlhost: Mlhost, signed_in: Client) -> None:
    for version, more in (("1", 0), ("2", 1)):

        def added(x: float) -> float:
            return x + more  # noqa: B023

        signed_in.publish(added, "added", version)
    told = mlhost("service", "diff", "added", "1", "2")
    assert told.stdout == "added 1 and added 2 do not differ in what could be compared.\n"
    assert "not compared" in told.stderr


def test_versions_are_compared_as_a_unified_diff(mlhost: Mlhost, signed_in: Client) -> None:
    with signed_in.session() as session:
        for version, code, kind in (("1", "y = x", int), ("2", "y = x + 1", float)):
            session.publish("changed", version, code, inputs={"x": kind}, outputs={"y": float})
    told = mlhost("service", "diff", "changed", "1")
    assert "INPUT  OLD      NEW\nx      integer  numeric\n" in told.stdout
    assert "--- changed/1/code.py\n+++ changed/2/code.py\n" in told.stdout
    assert "-y = x\n+y = x + 1\n" in told.stdout
    assert "not compared" in told.stderr
    mlhost("service", "diff", "changed", "1", "2", "--exit-code", expect=1)
    assert mlhost("service", "diff", "changed", "2", "--exit-code").stdout == "changed 2 and changed 2 are the same.\n"
    assert json.loads(mlhost("service", "diff", "changed", "1", "2", "--json").stdout)["changes"] == [
        {"kind": "input", "name": "x", "old": "integer", "new": "numeric"}
    ]
