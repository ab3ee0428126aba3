"""The command that measures all real models: what it writes, and that it goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from real_models import speed

from rain_decoding.microworld.export import write_gguf

OPTIONS = ("--n", "2", "--repeats", "2", "--max-tokens", "8", "--threads", "1")


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    write_gguf(tmp_path / "small.gguf")
    contenders = ("--contenders", "plain,generate,balanced,care")
    return [f"gguf:{tmp_path / 'small.gguf'}", "--out", str(tmp_path / "out"), *contenders, *OPTIONS]


def test_figures_are_kept_as_they_come_and_none_is_measured_twice(asked: list[str], tmp_path: Path) -> None:
    assert speed.main(asked) == 0
    out = tmp_path / "out"
    lines = (out / "small.jsonl").read_text("utf-8").splitlines(keepends=True)
    assert len(lines) == 4 * 2 * 2
    kept = lines[:5]
    (out / "small.jsonl").write_text("".join(kept) + '{"case": [["fam', "utf-8")  # stopped in the middle
    assert speed.main(asked) == 0
    again = (out / "small.jsonl").read_text("utf-8").splitlines(keepends=True)
    assert again[:5] == kept and len(again) == len(lines)
    keys = [(each["contender"], each["unit"], each["repeat"]) for each in map(json.loads, again)]
    assert len(set(keys)) == len(keys)
    table = (out / "table.md").read_text("utf-8")
    assert table.count("| small |") == 1 + 4 and "`care`" in table
    assert (out / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_that_fails_leaves_the_others_their_figures(asked: list[str], tmp_path: Path) -> None:
    missing = f"gguf:{tmp_path / 'missing.gguf'}"
    assert speed.main([missing, *asked, "--contenders", "plain", "--repeats", "1"]) == 1
    assert "| small |" in (tmp_path / "out" / "table.md").read_text("utf-8")
