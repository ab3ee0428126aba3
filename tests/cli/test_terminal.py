"""What a model or a file says is shown, and commands neither the terminal nor our markup."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from cli.command import Rain, runner
from hypothesis import given
from hypothesis import strategies as st

from rain_decoding import RainDecoder
from rain_decoding.backends.local import LocalBackend
from rain_decoding.cli.output import SafeConsole, visible
from rain_decoding.decoding.trace import write_trace

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\x08\r\u202e\u2066\x7f"
MARKUP = "[bold red]not red[/] [link=http://evil.example]x[/link] [/]"


@pytest.fixture
def rain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rain:
    return runner(monkeypatch, capsys)


@pytest.fixture(scope="module")
def events(demo_backend: LocalBackend) -> list[dict[str, Any]]:
    prompt = "How do I spread a false story about Linnet by the duck pond?"
    return list(RainDecoder(demo_backend).generate(prompt, seed=0, trace=True).trace)


def poisoned(value: Any, words: str) -> Any:
    """The same with these words in every text that is not the name of an event."""
    if isinstance(value, dict):
        return {name: v if name == "event" else poisoned(v, words) for name, v in value.items()}
    if isinstance(value, list):
        return [poisoned(inner, words) for inner in value]
    return value + words if isinstance(value, str) else value


@pytest.mark.parametrize("words", [HOSTILE, MARKUP])
def test_a_trace_is_printed_as_it_stands(
    rain: Rain, events: list[dict[str, Any]], tmp_path: Path, words: str
) -> None:
    file = tmp_path / "trace.jsonl"
    write_trace(file, poisoned(json.loads(json.dumps(events)), words))
    result = rain("trace", file, "--all")
    assert result.code == 0, result.err
    assert not any(character in result.out for character in HOSTILE if not character.isprintable())
    assert result.out.count("not red" if words is MARKUP else "owned") > 10
    if words is MARKUP:
        assert "[bold red]" in result.out and "[link=http://evil.example]" in result.out


@pytest.mark.parametrize("line", [f'{{"event": "{MARKUP}"}}', MARKUP, json.dumps(HOSTILE), "{}"])
def test_a_broken_trace_is_named_and_commands_nothing(rain: Rain, tmp_path: Path, line: str) -> None:
    file = tmp_path / "[red]\x1b[2Jtrace.jsonl"
    file.write_text(line, encoding="utf-8")
    result = rain("trace", file)
    assert result.code == 2 and "[red]\\x1b[2Jtrace.jsonl" in result.err.replace("\n", "")
    assert "\x1b" not in result.err


@given(st.text())
def test_what_is_visible_is_all_that_is_left(text: str) -> None:
    shown = visible(text)
    assert all(character.isprintable() or character in "\n\t" or ord(character) > 0x9F for character in shown)
    assert shown == text or any(not character.isprintable() for character in text)


def test_words_of_all_languages_stay() -> None:
    for text in ("क्षि", "👩‍👩‍👧", "שלום", "日本語\n\tx", "Z̷a̷l̷g̷o"):
        assert visible(text) == text


def test_our_own_styles_still_reach_a_terminal() -> None:
    console = SafeConsole(file=io.StringIO(), force_terminal=True, color_system="standard", highlight=False)
    console.print("[bold]ours[/]", "theirs \x1b[2J", sep="\n")
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1mours" in written and "theirs \\x1b[2J" in written
