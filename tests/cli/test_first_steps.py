"""What a person meets first: a file of settings, completion, and what `mlhost serve` prints."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from mlhost.cli import main
from mlhost.config import Config, load, template
from tests.cli.conftest import Mlhost


def test_init_writes_all_settings_at_their_defaults_and_replaces_nothing_unasked(
    mlhost: Mlhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "mlhost serve\n" in mlhost("init").output
    assert Path("mlhost.toml").read_text() == template()
    assert load(None, {}, {}).config == Config()
    Path("mlhost.toml").write_text("[server]\nport = 1\n")
    assert "--force" in mlhost("init", expect=1).stderr
    assert load(None, {}, {}).config.server.port == 1
    mlhost("init", "--force")
    assert Path("mlhost.toml").read_text() == template()
    assert "mlhost serve --config other.toml" in mlhost("init", "other.toml").output
    assert Path("other.toml").stat().st_mode & 0o777 == 0o644
    assert "cannot be written" in mlhost("init", "no/such/folder.toml", expect=5).stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_what_completes_commands(mlhost: Mlhost, shell: str) -> None:
    assert f"_MLHOST_COMPLETE={shell}_complete" in mlhost("completion", shell).output
    mlhost("completion", "cmd", expect=2)


def test_commands_and_options_are_completed() -> None:
    completed = ShellComplete(main, {}, "mlhost", "_MLHOST_COMPLETE")
    assert [each.value for each in completed.get_completions([], "ser")] == ["serve", "service"]
    assert "--json" in [each.value for each in completed.get_completions(["service", "list"], "--")]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_takes_what_completes_commands(mlhost: Mlhost, tmp_path: Path) -> None:
    (tmp_path / "mlhost").write_text(
        f"#!{sys.executable}\nimport sys\nsys.argv[0] = 'mlhost'\nfrom mlhost.cli import main\nmain()\n"
    )
    (tmp_path / "mlhost").chmod(0o755)
    script = mlhost("completion", "bash").output + "COMP_WORDS=(mlhost snap); COMP_CWORD=1; _mlhost_completion mlhost\n"
    said = subprocess.run(
        ["bash", "-c", script + 'echo "${COMPREPLY[@]}"'],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout == "snapshot\n", said.stderr


def test_serve_prints_what_one_needs_next(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mlhost", "serve", "--port", "0", "--data", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"MLHOST_RUNTIME_PROFILE": "embedded"},
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith("Ready"):
            break
    process.terminate()
    process.communicate(timeout=20)
    url = lines[0].rpartition(" ")[2]
    assert lines[1] == f"Console at {url}/console"
    assert lines[2] == f"Data in {tmp_path / 'data'}"
    assert lines[3].startswith("Log in as admin with the password ")
    assert str(tmp_path / "data" / "admin-password") in lines[4]
    assert lines[5] == f"For commands and notebooks: mlhost login {url}"
