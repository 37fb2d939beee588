"""Settings: what the table says, where a value comes from, and what stops the start."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlhost.config import SETTINGS, Config, Loaded, load, template, toml_value
from mlhost.errors import Invalid

TEMPLATE = Path(__file__).parents[1] / "config" / "mlhost.toml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the mlhost.toml of whoever runs it."""
    monkeypatch.chdir(tmp_path)


def from_environment(**variables: str) -> Loaded:
    return load(None, variables, {})


def from_file(text: str, flags: Mapping[str, object] | None = None) -> Loaded:
    Path("mlhost.toml").write_text(text, "utf-8")
    return load(None, {}, flags or {})


def test_without_anything_given_every_setting_has_its_default() -> None:
    loaded = load(None, {}, {})
    assert loaded.config == Config()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.origins.keys() == SETTINGS.keys()


def test_the_defaults_themselves_are_of_the_type_and_range_they_ask_for() -> None:
    flags = {key: row.default for key, row in SETTINGS.items()}
    loaded = load(None, {}, flags)
    assert loaded.config == Config()
    assert loaded.origins["server.max_body_bytes"] == "--max-body-bytes"


def test_flags_come_before_the_environment_the_environment_before_the_file() -> None:
    Path("mlhost.toml").write_text("[server]\nhost = 'file'\nport = 1\ndrain_seconds = 1\n", "utf-8")
    environ = {"MLHOST_SERVER_HOST": "variable", "MLHOST_SERVER_PORT": "2"}
    loaded = load(None, environ, {"server.port": 3, "server.host": None})
    assert (loaded.value("server.drain_seconds"), loaded.origins["server.drain_seconds"]) == (
        1.0,
        "file mlhost.toml",
    )
    assert (loaded.value("server.host"), loaded.origins["server.host"]) == ("variable", "MLHOST_SERVER_HOST")
    assert (loaded.value("server.port"), loaded.origins["server.port"]) == (3, "--port")
    assert (loaded.value("server.data"), loaded.origins["server.data"]) == ("", "default")


def test_a_file_that_is_named_is_read_instead_of_the_one_in_the_current_directory(tmp_path: Path) -> None:
    Path("mlhost.toml").write_text("[sessions]\nmax = 1\n", "utf-8")
    named = tmp_path / "other.toml"
    named.write_text("[sessions]\nmax = 2\n", "utf-8")
    loaded = load(named, {}, {})
    assert loaded.config.sessions.max == 2
    assert loaded.origins["sessions.max"] == f"file {named}"


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"absent\.toml cannot be read: No such file"):
        load(tmp_path / "absent.toml", {}, {})


@pytest.mark.parametrize("content", [b"[server", b"\xff\xfe"])
def test_a_file_that_is_not_toml_stops_the_start_by_name(content: bytes) -> None:
    Path("mlhost.toml").write_bytes(content)
    with pytest.raises(Invalid, match=r"file mlhost\.toml is not TOML"):
        load(None, {}, {})


def test_text_from_the_environment_becomes_numbers_and_lists() -> None:
    config = from_environment(
        MLHOST_LIMITS_MEMORY_BYTES="0",
        MLHOST_LIMITS_SCORE_SECONDS="2.5",
        MLHOST_RUNTIME_PRELOAD="numpy, scipy.sparse,",
        MLHOST_RUNTIME_ENVIRONMENT="",
    ).config
    assert config.limits.memory_bytes == 0
    assert config.limits.score_seconds == 2.5
    assert config.runtime.preload == ("numpy", "scipy.sparse")
    assert config.runtime.environment == ()


def test_a_flag_may_be_typed_already_or_still_text() -> None:
    typed = {"server.port": 8080, "runtime.preload": ("numpy",)}
    text = {"server.port": "8080", "runtime.preload": "numpy"}
    assert load(None, {}, typed) == load(None, {}, text)


def test_variables_that_are_not_settings_are_left_alone() -> None:
    environ = {
        "MLHOST_URL": "http://localhost",
        "MLHOST_USER": "amy",
        "MLHOST_PASSWORD": "secret",
        "MLHOST_ADMIN_PASSWORD": "secret",
        "MLHOST_SERVER": "1",
        "SERVER_PORT": "1",
        "PATH": "/bin",
    }
    assert load(None, environ, {}).config == Config()


def test_an_unknown_variable_of_a_known_section_stops_the_start() -> None:
    with pytest.raises(Invalid) as caught:
        from_environment(MLHOST_SERVER_PROT="1")
    assert str(caught.value) == "server.prot: no such setting (MLHOST_SERVER_PROT); did you mean server.port?"
    assert caught.value.details == {"field": "server.prot", "origin": "MLHOST_SERVER_PROT"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1", "server.prot: no such setting (file mlhost.toml); did you mean server.port?"),
        (
            "[server]\nlevel = 'info'",
            "server.level: no such setting (file mlhost.toml); did you mean logs.level?",
        ),
        ("[sever]\nport = 1", "sever: no such setting (file mlhost.toml); did you mean server?"),
        ("[sever]", "sever: no such setting (file mlhost.toml); did you mean server?"),
        ("port = 1", "port: no such setting (file mlhost.toml); did you mean server.port?"),
        ("[pool]\nqqwwzz = 1", "pool.qqwwzz: no such setting (file mlhost.toml)"),
        ("pool = 1", "pool: a section, to be written [pool] (file mlhost.toml)"),
        ("[[pool]]\nworkers = 1", "pool: a section, to be written [pool] (file mlhost.toml)"),
    ],
)
def test_an_unknown_key_in_the_file_stops_the_start_and_the_likely_one_is_named(text: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        from_file(text)
    assert str(caught.value) == message


def test_an_unknown_flag_is_refused_too() -> None:
    with pytest.raises(Invalid, match=r"server\.prot: no such setting \(flags\)"):
        load(None, {}, {"server.prot": 1})


@pytest.mark.parametrize(
    ("key", "written", "reason"),
    [
        ("server.port", "'80'", "Expected `int`, got `str`"),
        ("server.port", "true", "Expected `int`, got `bool`"),
        ("server.port", "65536", "Expected `int` <= 65535"),
        ("server.port", "-1", "Expected `int` >= 0"),
        ("server.host", "''", "Expected `str` of length >= 1"),
        ("server.data", "2020-01-01", "Expected `str`, got `date`"),
        ("limits.memory_bytes", "99999999999999999999", "Expected `int` <="),
        ("limits.score_seconds", "0", "Expected `float` > 0"),
        ("limits.score_seconds", "nan", "Expected `float` > 0"),
        ("limits.score_seconds", "inf", "Expected `float` <="),
        ("runtime.preload", "'numpy'", "Expected `array`, got `str`"),
        ("runtime.preload", "['numpy', 1]", "Expected `str`, got `int`"),
        ("pool.queue", "{ a = 1 }", "Expected `int`, got `object`"),
        ("logs.level", "'INFO'", "Invalid enum value 'INFO'"),
    ],
)
def test_a_value_that_does_not_fit_stops_the_start(key: str, written: str, reason: str) -> None:
    section, name = key.split(".")
    with pytest.raises(Invalid) as caught:
        from_file(f"[{section}]\n{name} = {written}\n")
    assert str(caught.value).startswith(f"{key} = ")
    assert f"(file mlhost.toml): {reason}" in str(caught.value)
    assert str(caught.value).endswith(SETTINGS[key].sentence)
    assert caught.value.details == {"field": key, "origin": "file mlhost.toml"}


def test_a_value_that_does_not_fit_is_refused_even_where_a_flag_overrides_it() -> None:
    with pytest.raises(Invalid, match=r"server\.port = 'x' \(file mlhost\.toml\)"):
        from_file("[server]\nport = 'x'\n", {"server.port": 1})


@pytest.mark.parametrize(("variable", "text"), [("MLHOST_SERVER_PORT", "http"), ("MLHOST_SERVER_PORT", "")])
def test_a_variable_that_does_not_fit_is_named(variable: str, text: str) -> None:
    with pytest.raises(Invalid, match=rf"server\.port = '{text}' \({variable}\): Expected `int`, got `str`"):
        from_environment(**{variable: text})


def test_the_commented_file_is_made_from_the_table() -> None:
    command = "python -c 'from mlhost.config import template; print(template(), end=\"\")' > config/mlhost.toml"
    assert TEMPLATE.read_text("utf-8") == template(), f"make it again: {command}"


def test_the_commented_file_holds_every_setting_its_sentence_and_its_default() -> None:
    lines = TEMPLATE.read_text("utf-8").splitlines()
    uncommented = [line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in lines]
    written = {
        (section, name): value
        for section, table in tomllib.loads("\n".join(uncommented)).items()
        for name, value in table.items()
    }
    defaults = {(row.section, row.name): row.default for row in SETTINGS.values()}
    assert {key: tuple(value) if isinstance(value, list) else value for key, value in written.items()} == defaults
    sentences = [line.removeprefix("# ") for line in lines[lines.index("[server]") :] if line.startswith("# ")]
    assert sentences == [row.sentence for row in SETTINGS.values()]


def test_the_commented_file_changes_nothing() -> None:
    assert load(TEMPLATE, {}, {}) == load(None, {}, {})


def test_every_setting_has_a_sentence_and_every_quantity_its_unit() -> None:
    for row in SETTINGS.values():
        assert row.sentence.endswith("."), row.key
        for unit, words in {"_seconds": "econds", "_bytes": "bytes"}.items():
            assert not row.name.endswith(unit) or words in row.sentence, row.key


def test_no_two_settings_share_a_variable() -> None:
    assert len({row.variable for row in SETTINGS.values()}) == len(SETTINGS)


@pytest.mark.parametrize("value", ['a "quoted" \'é\n\\', 0, -1.5, 1e300, ("a", "b"), ()])
def test_a_value_written_as_toml_reads_back_the_same(value: object) -> None:
    read = tomllib.loads(f"value = {toml_value(value)}")["value"]
    assert (tuple(read) if isinstance(read, list) else read) == value


def test_settings_cannot_be_changed_once_loaded() -> None:
    config = load(None, {}, {}).config
    with pytest.raises(AttributeError):
        config.server.port = 1  # type: ignore[misc]
