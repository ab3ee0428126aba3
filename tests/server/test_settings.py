"""What `rain serve` can be told: the command line, the file and the typed settings say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

from rain_decoding.cli.serve import serve
from rain_decoding.errors import ConfigError
from rain_decoding.server.config import PERMISSIONS, ServerConfig
from rain_decoding.server.settings import OPTIONS, ServeSettings, read_settings

FIELDS = ServeSettings.model_fields


def parameters() -> dict[str, Any]:
    """The options of the command by their names in Python, but for the file and the help."""
    app = typer.Typer(add_completion=False)
    app.command()(serve)
    found = {str(each.name): each for each in typer.main.get_command(app).params}
    return {name: each for name, each in found.items() if name not in ("config", "help", "what")}


def test_the_command_line_has_every_setting_by_the_name_it_has_in_a_file() -> None:
    names = {name: each.opts[0].removeprefix("--").replace("-", "_") for name, each in parameters().items()}
    assert names == {name: field.validation_alias or name for name, field in FIELDS.items()}
    assert set(names.values()) == set(OPTIONS)


def test_a_command_without_options_is_the_default() -> None:
    shown = {name: each.default for name, each in parameters().items()}
    assert ServeSettings(**{name: value for name, value in shown.items() if value is not None}) == (
        ServeSettings()
    )
    assert all(not FIELDS[name].default for name, value in shown.items() if value is None)


def test_the_command_line_checks_the_same_ranges() -> None:
    for name, hint in get_type_hints(serve, include_extras=True).items():
        option = getattr(hint, "__metadata__", (None,))[0]
        for bound, beyond in ((getattr(option, "min", None), -1), (getattr(option, "max", None), 1)):
            if bound is not None:
                ServeSettings(**{name: bound})
                with pytest.raises(ConfigError, match=name):
                    ServeSettings(**{name: bound + beyond})


def written(folder: Path, text: str) -> Path:
    (folder / "serve.toml").write_text(text, encoding="utf-8")
    return folder / "serve.toml"


def test_a_file_has_the_options_names_with_dashes_or_underscores(tmp_path: Path) -> None:
    text = 'max-queue = 7\nmax_tokens = 40\nformat = "text"\nset = ["hold_back=0"]\nmax-seconds = 0\nopen = true\n'
    settings = read_settings(written(tmp_path, text))
    assert (settings.max_queue, settings.max_tokens, settings.max_seconds) == (7, 40, None)
    assert (settings.prompt_format, settings.settings) == ("text", ("hold_back=0",))
    config = settings.server_config()
    assert config.client_may == set(PERMISSIONS) and config.max_queue == 7


def test_a_file_may_have_tables(tmp_path: Path) -> None:
    text = "model = 'demo'\n[server]\nport = 9000\n[limits]\nmax-queue = 7\n[set]\nhold_back = 0\n"
    text += "[engine]\nmax_kv_slots = 4000\nflash_attention = false\n"
    settings = read_settings(written(tmp_path, text))
    assert (settings.port, settings.max_queue, settings.settings) == (9000, 7, ("hold_back=0",))
    assert settings.engine_options == ("max_kv_slots=4000", "flash_attention=off")
    with pytest.raises(ConfigError, match="no table .limit. .tables: server, limits, set, engine"):
        read_settings(written(tmp_path, "[limit]\nmax_queue = 1\n"))
    with pytest.raises(ConfigError, match="port is set twice"):
        read_settings(written(tmp_path, "port = 1\n[server]\nport = 1\n"))


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert read_settings(written(tmp_path, "\ufeffport = 9000\r\n")).port == 9000


@pytest.mark.parametrize(
    "name", [name for name, field in FIELDS.items() if isinstance(field.default, (int, float))]
)
def test_numbers_are_numbers_and_flags_are_flags(name: str) -> None:
    wrong = ["1", "true", 1, 0] if isinstance(FIELDS[name].default, bool) else ["1", "", True, False]
    for value in wrong:
        with pytest.raises(ConfigError, match=name):
            ServeSettings(**{name: value})


def test_engine_options_in_a_file(tmp_path: Path) -> None:
    settings = read_settings(written(tmp_path, 'engine-option = ["max_kv_slots=4000"]'))
    assert settings.engine_options == ("max_kv_slots=4000",)
    assert settings.with_changes(engine_options=["engine=rows"]).engine_options == ("engine=rows",)


def test_later_changes_win_and_leave_the_rest(tmp_path: Path) -> None:
    settings = read_settings(written(tmp_path, 'port = 9000\nclient-may = "budget, trace"'))
    changed = settings.with_changes(port=9001, cors_origins=["https://a.example"])
    assert (changed.port, changed.client_may) == (9001, {"budget", "trace"})
    assert changed.server_config().cors_origins == ("https://a.example",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "unknown key 'prot' .did you mean 'port'"),
        ('settings = ["hold_back=0"]', "unknown key 'settings'"),
        ("port = ", "serve.toml"),
        ("port = 'many'", "port = 'many'"),
        ("max-queue = -1", "max_queue = -1: input should be greater than or equal to 0"),
        ("client-may = 'everything'", "client_may = 'everything'"),
        ("format = 'html'", "format = 'html'"),
        ("max-seconds = -1", "max_seconds = -1"),
    ],
)
def test_an_error_names_the_file_and_the_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        read_settings(written(tmp_path, text))
    assert "serve.toml" in str(raised.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError, match=r"max_concurrent = 0: .*; max_seconds = 0.0: "):
        ServerConfig(max_concurrent=0, max_seconds=0.0)
