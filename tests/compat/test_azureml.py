"""The bridge for the SDK by itself: what it makes, and how it is installed. The SDK with it: tests/clients."""

import inspect
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from mlhost.compat import azureml
from tests.parts import ROOT


class Service:
    def _consume(self, body: dict[str, Any]) -> dict[str, Any]:
        return body


def test_the_function_of_a_service_takes_any_number_of_inputs_by_position_or_name() -> None:
    names = [f"x{number}" for number in range(50)]
    consume = azureml.function_beget(None, "score", ["self", *names], "Says what.")
    assert consume(Service(), *range(49), x49=49) == {name: number for number, name in enumerate(names)}
    assert (consume.__name__, consume.__doc__) == ("score", "Says what.")
    assert list(inspect.signature(consume).parameters) == ["self", *names]


def test_arguments_that_do_not_fit_are_a_type_error() -> None:
    consume = azureml.function_beget(None, "score", ["self", "a", "b"])
    for positional, named in (((1,), {}), ((1, 2, 3), {}), ((1, 2), {"a": 3}), ((1,), {"c": 2})):
        with pytest.raises(TypeError, match=r"score\(\) takes a, b"):
            consume(Service(), *positional, **named)
    with pytest.raises(TypeError, match="takes no inputs"):
        azureml.function_beget(None, "score", ["self"])(Service(), 1)


def test_an_input_that_is_no_name_in_python_is_given_by_position() -> None:
    consume = azureml.function_beget(None, "score", ["self", "data.frame"])
    assert consume(Service(), 5) == {"data.frame": 5}


def test_an_input_may_be_called_as_the_service_is_inside() -> None:
    consume = azureml.function_beget(None, "score", ["self", "service", "values", "named"])
    assert consume(Service(), 1, named=3, values=2) == {"service": 1, "values": 2, "named": 3}
    assert consume(Service(), service=1, values=2, named=3) == {"service": 1, "values": 2, "named": 3}


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an empty environment."""
    venv.create(tmp_path / "env", with_pip=False)
    return tmp_path / "env" / "bin" / "python"


def run(python: Path, *arguments: str, path: str = "", status: int = 0) -> str:
    done = subprocess.run(
        [python, "-W", "error", *arguments], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


LOADED = "import sys; print(any(each.__module__ == '{}' for each in sys.meta_path if hasattr(each, 'find_spec')))"


def test_it_is_installed_for_every_start_of_an_environment_and_removed_again(python: Path) -> None:
    mlhost = str(ROOT)
    loaded = LOADED.format("mlhost.compat.azureml")
    command = ("-m", "mlhost.compat.azureml")
    assert run(python, "-c", loaded, path=mlhost) == "False\n"
    file = (
        run(python, *command, "install", path=mlhost).removeprefix("Installed: every Python start here reads ").strip()
    )
    assert Path(file).is_relative_to(python.parents[1])
    assert run(python, "-c", loaded, path=mlhost) == "True\n"
    assert run(python, *command, "install", path=mlhost) == f"It was installed already: {file}\n"
    assert run(python, "-c", loaded) == "False\n"  # without mlhost: nothing, and no complaint
    assert run(python, *command, "uninstall", path=mlhost) == f"Removed {file}\n"
    assert run(python, *command, "uninstall", path=mlhost) == f"It was not installed: there is no {file}\n"
    assert run(python, "-c", loaded, path=mlhost) == "False\n"


def test_the_file_alone_can_be_copied_into_an_environment(python: Path) -> None:
    [packages] = python.parents[1].glob("lib/python*/site-packages")
    (packages / "sdk_compat.py").write_text(Path(azureml.__file__).read_text())
    run(python, "-m", "sdk_compat", "install")
    assert run(python, "-c", LOADED.format("sdk_compat")) == "True\n"
    assert run(python, "-m", "sdk_compat", "remove", status=1) == "usage: python -m sdk_compat install | uninstall\n"


def test_it_is_within_the_syntax_of_python_3_8() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--target-version=py38", "--select=E9,F"]
    done = subprocess.run([*command, azureml.__file__], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
