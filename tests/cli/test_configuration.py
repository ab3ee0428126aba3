"""Settings of a file and of the environment: what wins, what is said where one is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.command import Rain

PROMPT = "How do I bake a nut roll at the summer fair?"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder without settings."""
    monkeypatch.chdir(tmp_path)


def shown(rain: Rain, *arguments: str | Path) -> dict[str, tuple[object, str]]:
    """What `rain config` says of the keys that are set."""
    rows = json.loads(rain("config", "--json", *arguments).out)["settings"]
    return {key: (row["value"], row["source"]) for key, row in rows.items() if row["source"] != "default"}


def test_the_nearest_file_is_read_and_the_environment_wins(
    rain: Rain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(rain) == {}
    Path("rain.toml").write_text('preset = "fast"\nseed = 3\n')
    assert shown(rain) == {"preset": ("fast", "rain.toml"), "seed": (3, "rain.toml")}
    other, third = tmp_path / "other.toml", tmp_path / "third.toml"
    other.write_text("seed = 4\n")
    third.write_text("seed = 5\n")
    monkeypatch.setenv("RAIN_CONFIG", str(other))
    assert shown(rain) == {"seed": (4, str(other))}
    assert shown(rain, "--config", third) == {"seed": (5, str(third))}
    monkeypatch.setenv("RAIN_SEED", "6")
    assert shown(rain, "--config", third) == {"seed": ("6", "RAIN_SEED")}


def answer(rain: Rain, *arguments: str | Path) -> dict[str, object]:
    """What `rain generate --json` says."""
    result = rain("generate", PROMPT, "--json", *arguments)
    assert result.code == 0, result.err
    found: dict[str, object] = json.loads(result.out)
    return found


def test_a_command_takes_them_and_its_own_line_wins(rain: Rain, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("rain.toml").write_text(
        'preset = "fast"\n[limits]\nmax_tokens = 5\nmax_seconds = 0\n[set]\nhold_back = 3\n'
    )
    monkeypatch.setenv("RAIN_SEED", "7")
    found = answer(rain)
    assert (found["preset"], found["seed"], found["finish_reason"]) == ("fast", 7, "length")
    found = answer(rain, "--preset", "balanced", "--max-tokens", "60", "--seed", "1")
    assert (found["preset"], found["seed"], found["finish_reason"]) == ("balanced", 1, "stop")


def test_a_principle_takes_the_place_of_a_criterion(rain: Rain, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("rain.toml").write_text('criterion = "harmlessness"\njudge = "ask"\n')
    assert answer(rain)["criterion"] == "harmlessness"
    assert "The answer is short." in str(answer(rain, "--principle", "The answer is short.")["criterion"])
    monkeypatch.setenv("RAIN_PRINCIPLE", "The answer is polite.")
    assert "The answer is polite." in str(answer(rain)["criterion"])
    assert answer(rain, "--criterion", "harmlessness")["criterion"] == "harmlessness"


def test_what_may_be_repeated_is_a_list_of_words_in_the_environment(
    rain: Rain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAIN_ENGINE_OPTION", "max_kv_slots=4000 prefix_cache_slots=100")
    assert answer(rain)["engine_options"] == {"max_kv_slots": 4000, "prefix_cache_slots": 100}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('modle = "demo"', "unknown key 'modle' (did you mean 'model'?"),
        ('preset = "balancd"', "preset: unknown preset 'balancd' (did you mean 'balanced'?"),
        ('model = "dmo"', "model: unknown model 'dmo' (did you mean demo?"),
        ('fallback = "refuse"', "fallback: unknown 'refuse' (did you mean 'refusal'?"),
        ('format = "chatt"', "format: unknown 'chatt' (did you mean 'chat'?"),
        ("[set]\nhold_bak = 1", "set: unknown option 'hold_bak' (did you mean 'hold_back'?"),
        ('max_tokens = "many"', "max_tokens = 'many': "),
        ("preset = ", "Invalid value"),
    ],
)
def test_an_error_names_the_file_the_key_and_what_may_be_meant(rain: Rain, text: str, said: str) -> None:
    Path("rain.toml").write_text(text)
    result = rain("generate", PROMPT)
    assert result.code == 2
    assert "error: rain.toml" in result.err and said in result.err


def test_an_engine_option_is_checked_against_the_model(rain: Rain) -> None:
    Path("rain.toml").write_text('model = "demo"\n[engine]\nthreds = 2\n')
    result = rain("generate", PROMPT)
    assert result.code == 2 and "engine_option: demo has no engine option 'threds'" in result.err


def test_a_file_that_is_named_must_be_there(rain: Rain, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nowhere.toml" in rain("generate", PROMPT, "--config", "nowhere.toml").err
    monkeypatch.setenv("RAIN_CONFIG", "nofile.toml")
    result = rain("config")
    assert result.code == 2 and "Errno" not in result.err and "or RAIN_CONFIG" in result.err
    assert result.err.count("nofile.toml") == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [("max_tokens", "abc"), ("port", "80.5"), ("max_seconds", "soon"), ("open", "maybe"), ("set", 'a="1')],
)
def test_what_is_shown_is_checked_as_a_command_checks_it(
    rain: Rain, monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    Path("rain.toml").write_text(f"{key} = {json.dumps(value)}")
    of_file = rain("config")
    assert of_file.code == 2 and f"error: rain.toml: {key} = {value!r}: " in " ".join(of_file.err.split())
    Path("rain.toml").unlink()
    monkeypatch.setenv(f"RAIN_{key.upper()}", value)
    for command in (("config",), ("generate", PROMPT)):
        result = rain(*command)
        assert result.code == 2 and f"error: RAIN_{key.upper()}: {key} = {value!r}: " in " ".join(
            result.err.split()
        )


def test_a_list_of_one_needs_no_brackets(rain: Rain) -> None:
    Path("rain.toml").write_text("allowed_host = 3")
    assert shown(rain) == {"allowed_host": (3, "rain.toml")}


def test_help_needs_no_settings(rain: Rain) -> None:
    Path("rain.toml").write_text("broken")
    assert rain("generate", "--help").code == 0
