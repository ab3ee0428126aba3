"""Help texts: examples that could be typed, flags without a type, options in groups."""

from __future__ import annotations

import re
import shlex

import pytest
import typer
from cli.command import Rain

from rain_decoding.cli import app
from rain_decoding.cli.help_texts import EXAMPLES, commands

ROOT = typer.main.get_command(app)
COMMANDS = dict(commands(ROOT))


def test_each_command_has_examples_and_so_have_the_groups() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


def of_command(words: list[str]) -> str:
    """The name of the command that a line runs: the longest there is of its first words."""
    names = (" ".join(words[:length]) for length in range(len(words), -1, -1))
    return next(name for name in names if name in COMMANDS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_names_only_options_that_exist(name: str) -> None:
    for line in EXAMPLES[name]:
        words = shlex.split(line.partition(">")[0])
        assert words[: 1 + len(name.split())] == ["rain", *name.split()]
        run = of_command(words[1:])
        command = COMMANDS[run]
        known = {form for option in command.params for form in (*option.opts, *option.secondary_opts)}
        named = {word for word in words if word.startswith("--")}
        assert named <= known, named - known
        command.make_parser(typer.Context(command)).parse_args(args=words[1 + len(run.split()) :])


@pytest.mark.parametrize("name", ["", "attack", "demo", "attack search"])
def test_the_help_of_a_group_ends_with_its_examples(
    rain: Rain, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = rain(*name.split(), "--help").out.rstrip()
    assert "Examples:" in shown and shown.endswith(EXAMPLES[name][1])


def test_the_help_of_a_command(rain: Rain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = rain("generate", "--help").out
    assert "<bool>" not in shown
    assert [
        re.search(rf"─ {group} ─", shown) is not None for group in ("Model", "Judge", "Search", "Output")
    ] == [True] * 4
    assert EXAMPLES["generate"][0] in shown and EXAMPLES["generate"][1] in shown
