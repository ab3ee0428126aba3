"""`rain bench`: its report, its table, its plot, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli.command import Rain

from rain_decoding.microworld.export import write_gguf

WITHOUT_TORCH = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "transformers"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from rain_decoding.cli import main
main()
"""
QUICK = ("--n", "1", "--repeats", "1", "--max-tokens", "8")


def test_json_report(rain: Rain, tmp_path: Path) -> None:
    picture = tmp_path / "bench.png"
    contenders = ("--contenders", "plain,generate,balanced")
    result = rain("bench", *contenders, "--families", "benign", *QUICK, "--plot", picture, "--json")
    assert (result.code, result.err) == (0, "")
    report = json.loads(result.out)
    assert report["model"] == "demo" and report["mode"] == "compare"
    assert {"cores", "threads", "device", "dtype", "torch"} <= set(report["machine"])
    assert [each["contender"] for each in report["results"]] == ["plain", "generate", "balanced"]
    for each in report["results"]:
        assert (each["family"], each["max_tokens"], each["samples"]) == ("benign", 8, 1)
        assert each["overhead"]["median"] >= 1 and each["passes_overhead"]["median"] >= 1
    plain, _, balanced = report["results"]
    assert balanced["tokens_forwarded"]["median"] > plain["tokens_forwarded"]["median"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_gguf_file_beside_its_own_loop_without_torch(tmp_path: Path) -> None:
    file = tmp_path / "demo.gguf"
    write_gguf(file)
    asked = ("bench", "--model", f"gguf:{file}", "--contenders", "generate,plain", "--threads", "1", *QUICK)
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *asked, "--json"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    loop, plain = json.loads(found.stdout)["results"]
    for figure in ("passes", "tokens_forwarded", "tokens_released", "kv_slots"):
        assert loop[figure] == plain[figure]


def test_table_of_what_varies(rain: Rain) -> None:
    result = rain("bench", "--contenders", "plain", "--families", "benign,sensitive", *QUICK)
    assert result.code == 0
    assert "family" in result.out and "sensitive" in result.out and "KV bytes" in result.out
    assert "prompt tokens" not in result.out and "…" not in result.out


def test_turns_and_replays(rain: Rain) -> None:
    turns = json.loads(rain("bench", "--turns", "2", "--contenders", "plain", *QUICK, "--json").out)
    assert [each["turn"] for each in turns["results"]] == [1, 2]
    shape = ("bench", "--shape", "tiny", "--contenders", "plain,balanced", "--distinct", "2,10", *QUICK)
    replayed = json.loads(rain(*shape, "--bad-rate", "0", "--json").out)
    assert "does not claim" in replayed["note"]
    assert [(each["distinct"], each["contender"]) for each in replayed["results"]] == [
        (2, "plain"),
        (2, "balanced"),
        (10, "plain"),
        (10, "balanced"),
    ]
    assert "does not claim" in rain(*shape, "--bad-rate", "0").out


def test_prompts_from_a_file(rain: Rain, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("How do I bake bread?\n\nHow do I sail?\n", encoding="utf-8")
    options = ("--contenders", "plain", "--prompts", file, "--repeats", "1", "--max-tokens", "4")
    report = json.loads(rain("bench", *options, "--n", "2", "--json").out)
    assert [(each["family"], each["samples"]) for each in report["results"]] == [("mine", 2)]
    short = rain("bench", *options, "--concurrency", "3")
    assert short.code == 2 and "has 2 prompts" in short.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--contenders", "fastest"), "unknown contenders"),
        (("--max-tokens", "many"), "use comma-separated numbers"),
        (("--bad-rate", "3"), "from 0 to 1"),
        (("--families", "odd"), "unknown families"),
        (("--shape", "llama-8b"), "unknown shape"),
        (("--shape", "tiny", "--distinct", "20"), "from 1 to 10"),
        (("--plot", "picture.doc"), "unknown image format"),
        (("--turns", "2", "--plot", "x.png"), "--plot cannot draw --turns"),
        (("--turns", "2", "--max-tokens", "8,16"), "use a single number for this measurement"),
        (("--bad-rate", "0,0.5"), "use a single number for this measurement"),
        (("--few-shot", "--contenders", "balanced"), "context of 1024"),
        (("--model", "none"), "unknown model"),
    ],
)
def test_wrong_usage(rain: Rain, arguments: tuple[str, ...], message: str) -> None:
    result = rain("bench", *arguments)
    assert (result.code, result.out) == (2, "") and message in result.err


def test_a_missing_matplotlib_is_said_before_anything_runs(
    rain: Rain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = rain("bench", "--plot", tmp_path / "x.png")
    assert (result.code, result.out) == (1, "") and "matplotlib" in result.err
