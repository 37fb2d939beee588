"""`mlhost codegen`: where documents come from, what is written, what is left alone."""

import json
import subprocess
import sys
from pathlib import Path

from tests.codegen.conftest import Echo
from tests.codegen.documents import ODD


def codegen(*arguments: str, stdin: str = "", status: int = 0) -> str:
    command = [sys.executable, "-m", "mlhost", "codegen", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_package_is_made_from_a_file_the_standard_input_or_a_url(tmp_path: Path, echo: Echo) -> None:
    text = json.dumps(ODD)
    file = tmp_path / "odd.json"
    file.write_text(text)
    echo.answers(ODD)
    options = ("--client-name", "OddClient", "--output", str(tmp_path / "out"))
    said = codegen(str(file), "--namespace", "from_file", *options)
    assert said == (
        f"Wrote __init__.py, models.py, odd_client.py, py.typed, support.py to {tmp_path / 'out' / 'from_file'}.\n"
    )
    codegen("-", "--namespace", "deep.from_input", *options, stdin=text)
    codegen(echo.url, "--namespace", "from_url", *options)
    made = [tmp_path / "out" / name for name in ("from_file", "deep/from_input", "from_url")]
    texts = [{path.name: path.read_text() for path in folder.iterdir()} for folder in made]
    assert texts[0] == texts[1] == texts[2]


def test_running_again_replaces_what_was_made_and_leaves_everything_else(tmp_path: Path) -> None:
    options = ("--namespace", "odd", "--output", str(tmp_path))
    codegen("-", "--client-name", "First", *options, stdin=json.dumps(ODD))
    (tmp_path / "odd" / "notes.txt").write_text("mine")
    (tmp_path / "odd" / "extra.py").write_text("mine = 1\n")
    (tmp_path / "odd" / "models.py").write_text(
        (tmp_path / "odd" / "models.py").read_text().replace("class Colour", "class Color")
    )
    said = codegen("-", "--client-name", "Second", *options, stdin=json.dumps(ODD))
    assert "Removed first.py, made before and not any more." in said
    assert "Left extra.py, notes.txt as found: not made by mlhost codegen." in said
    assert "class Colour" in (tmp_path / "odd" / "models.py").read_text()
    assert (tmp_path / "odd" / "extra.py").read_text() == "mine = 1\n"


def test_a_file_of_someone_else_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "models.py").write_text("mine = 1\n")
    options = ("--namespace", "odd", "--client-name", "Odd", "--output", str(tmp_path))
    said = codegen("-", *options, stdin=json.dumps(ODD), status=1)
    assert "models.py was not made by mlhost codegen and would be overwritten; nothing was written." in said
    assert [path.name for path in (tmp_path / "odd").iterdir()] == ["models.py"]


def test_what_is_wrong_is_said_by_place_and_nothing_is_written(tmp_path: Path, echo: Echo) -> None:
    options = ("--namespace", "odd", "--client-name", "Odd", "--output", str(tmp_path / "out"))
    assert codegen("-", *options, stdin='{"swagger": "2.0", "paths": 1}', status=1) == (
        "Error: #/paths: an object was expected here.\n"
    )
    assert "cannot be read: " in codegen(str(tmp_path / "none.json"), *options, status=1)
    echo.answers({}, status=401)
    assert "Fetch it with your token and give it as -." in codegen(echo.url, *options, status=1)
    assert not (tmp_path / "out").exists()


def test_a_client_named_like_a_module_of_the_package_is_put_elsewhere(tmp_path: Path) -> None:
    options = ("--namespace", "odd", "--client-name", "Models", "--output", str(tmp_path))
    assert "models_client.py" in codegen("-", *options, stdin=json.dumps(ODD))
    imported = [sys.executable, "-c", "import odd; odd.Models('http://unused')"]
    assert subprocess.run(imported, cwd=tmp_path).returncode == 0
