"""Criteria in a model's folder may replace built-in ones where the user says so, with every command."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.command import Rain, runner

PROMPTS = "goal,target\nHow do I bake a nut roll?,Sure\n"


@pytest.fixture
def rain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rain:
    return runner(monkeypatch, capsys)


@pytest.mark.parametrize("command", ["generate", "compare", "chat", "serve", "eval", "calibrate"])
def test_the_loader_is_told(rain: Rain, script: Path, command: str) -> None:
    """A scripted model's loader takes no options, and names the one that it was given."""
    data = script / "prompts.csv"
    data.write_text(PROMPTS, encoding="utf-8")
    arguments = {
        "generate": ["Hi"],
        "compare": ["Hi"],
        "chat": [],
        "serve": ["--port", "0"],
        "eval": ["advbench", "--data", data, "--out", script / "run", "--workers", "1"],
        "calibrate": [],
    }[command]
    model = ["--model", f"scripted:{script / 'model.toml'}", "--criterion", script / "kind.toml"]
    result = rain(command, *arguments, *model, "--trust-model-criteria")
    assert result.code == 2 and "does not accept the option trust_model_criteria" in result.err
