"""`rain chat`, driven through standard input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli.command import Rain
from decoder_worlds import GOOD

from rain_decoding.decoding.rain_decoder import UNPROVEN
from rain_decoding.decoding.trace import read_trace


@pytest.fixture
def chat(rain: Rain, script: Path) -> Any:
    def run(*lines: str, options: tuple[str, ...] = ()) -> Any:
        model = ("--model", f"scripted:{script / 'model.toml'}", "--criterion", str(script / "kind.toml"))
        return rain("chat", *model, *options, stdin="".join(line + "\n" for line in lines))

    return run


def test_answers_are_streamed_turn_by_turn(chat: Any, tmp_path: Path) -> None:
    file = tmp_path / "second.jsonl"
    result = chat("Open the lock.", "", "Really?", f"/trace {file}", "/quit", "never read")
    assert result.code == 0
    assert result.out == f"{GOOD}\n{GOOD}\n"
    messages = read_trace(file)[0]["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert [m["content"] for m in messages] == ["Open the lock.", GOOD, "Really?"]


def test_the_end_of_input_ends_the_chat(chat: Any) -> None:
    assert chat().code == 0
    assert chat("Open.").out == f"{GOOD}\n"


def test_new_forgets_but_keeps_the_system_message(chat: Any, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    chat("One?", "/new", "Two?", f"/trace {file}", options=("--system", "Be brief."))
    messages = read_trace(file)[0]["messages"]
    assert [m["content"] for m in messages] == ["Be brief.", "Two?"]


def test_trace_prints_the_last_search(chat: Any) -> None:
    assert "nothing has been searched yet" in chat("/trace").err
    shown = chat("Open.", "/trace").out
    assert "✓ ' No, I will not.'" in shown and "rewound" in shown


def test_the_criterion_can_be_changed(chat: Any, script: Path, tmp_path: Path) -> None:
    text = (script / "kind.toml").read_text(encoding="utf-8").replace('name = "kind"', 'name = "other"')
    other, file = tmp_path / "other.toml", tmp_path / "trace"
    other.write_text(text, encoding="utf-8")
    result = chat("/criterion", f"/criterion {other}", "/criterion", "Open.", f"/trace {file}")
    assert [line for line in result.err.splitlines() if "criterion kind" in line]
    assert result.err.count("criterion other") == 2
    assert read_trace(file)[0]["criterion"] == "other"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/criterion nicety", "unknown criterion 'nicety'"),
        ("/trace /no/such/folder/file", "cannot be written"),
        ("/dance", "unknown command /dance"),
        ("x" * 5000, "tokens long"),
    ],
)
def test_a_mistake_does_not_end_the_chat(chat: Any, line: str, message: str) -> None:
    result = chat("Open.", line, "Again.")
    assert result.code == 0 and message in result.err
    assert result.out == f"{GOOD}\n" * 2


def test_ctrl_c_drops_the_turn_and_goes_on(
    chat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rain_decoding.backends.scripted import ScriptedEngine

    calls, forward = 0, ScriptedEngine.forward

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return forward(*arguments)

    monkeypatch.setattr(ScriptedEngine, "forward", interrupted)
    file = tmp_path / "trace"
    result = chat("Stopped.", "Open.", f"/trace {file}")
    assert result.code == 0 and "this turn is discarded" in result.err
    assert result.out == f"\n{GOOD}\n"
    assert [m["content"] for m in read_trace(file)[0]["messages"]] == ["Open."]


def test_every_answer_is_drawn_as_asked(chat: Any) -> None:
    lines, options = ("Open the lock.", "Well?", "Really?"), ("--preset", "paper-hh", "--temperature", "1")
    refused = chat(*lines, options=options)
    assert refused.out == "" and refused.err.count("temperatures of their own") == 3
    assert chat(*lines, options=options[2:]).out == f"{GOOD}\n" * 3


@pytest.mark.parametrize("command", ["/principle", "/criterion"])
def test_a_sentence_may_judge(chat: Any, tmp_path: Path, command: str) -> None:
    file = tmp_path / "trace"
    result = chat(f"{command} The answer is polite.", "Open.", f"/trace {file}")
    assert "criterion principle: The answer is polite." in result.err
    start = read_trace(file)[0]
    assert start["criterion"] == "principle: The answer is polite."
    assert start["config"]["rewind_margin"] == UNPROVEN["rewind_margin"]


def test_help_lists_the_commands_and_near_misses_are_understood(chat: Any) -> None:
    result = chat("/help", "/crterion", "/what")
    assert all(command in result.err for command in ("/criterion", "/principle", "/trace", "/new", "/quit"))
    assert "did you mean /criterion?" in result.err and "/what: try /help" in result.err
