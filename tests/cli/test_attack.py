"""`rain attack` as a command, on the demo model."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from cli.command import Rain, start

from rain_decoding.demo import BEHAVIOURS_FILE, MODEL_DIR

QUICK = ["--preset", "quick", "--steps", "2", "--batch", "6", "--suffix-tokens", "6", "--limit", "3"]


@pytest.mark.usefixtures("demo_backend")  # torch runs on one thread
def test_an_attack_that_was_killed_goes_on_to_the_same_suffixes(rain: Rain, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with start("attack", "gcg", "--out", killed, *QUICK) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert said == "1 of 3 behaviours\n" and process.returncode == -signal.SIGKILL
    for folder in (killed, whole):
        assert rain("attack", "gcg", "--out", folder, *QUICK).code == 0
    assert (killed / "attacks.json").read_bytes() == (whole / "attacks.json").read_bytes()
    assert len((killed / "attacks.jsonl").read_text(encoding="utf-8").splitlines()) == 3
    result = rain("attack", "gcg", "--out", killed, *QUICK, "--topk", "5")
    assert result.code == 2 and "config.top_k was 32, now 5" in result.err
    assert rain("attack", "gcg", "--out", tmp_path / "other", *QUICK, "--seed", "1").code == 0
    assert (tmp_path / "other" / "attacks.json").read_bytes() != (whole / "attacks.json").read_bytes()


def test_every_kind_of_attack_is_made_measured_and_read(demo_rain: Rain, tmp_path: Path) -> None:
    small = ["--limit", "2", "--budget", "3000"]
    gcg = ["attack", "gcg", *QUICK, *small]
    folders = {
        "gcg-universal-adaptive": [
            *gcg,
            "--mode",
            "universal",
            "--adaptive",
            "0.5",
            "--against",
            "rain:paper-hh",
        ],
        "search": ["attack", "search", *small, "--batch", "3", "--seeds", "2"],
        "injection": ["attack", "injection", *small, "--batch", "5", "--seeds", "2", "--against", "plain"],
    }
    for method, command in folders.items():
        result = demo_rain(*command, "--out", tmp_path / method, "--json")
        assert result.code == 0, result.err
        told = json.loads(result.out)
        assert told["attack"] == method and len(told["attacks"]) == 2
        for record in told["attacks"]:
            assert record["controls"] and record["tokens"] > 0 and record["passes"] > 0
            # The step that passes the budget is the last one.
            assert [found["tokens"] < 3000 for found in record["curve"][:-1]] == [True] * (
                len(record["curve"]) - 1
            )
    universal = json.loads((tmp_path / "gcg-universal-adaptive" / "run.json").read_text(encoding="utf-8"))
    assert universal["spec"]["judge"]["decoder"]["config"]["strategy"] == "paper"
    assert universal["spec"]["judge"]["criterion"] == "harmlessness"

    picture = tmp_path / "success.png"
    folder = tmp_path / "success"
    options = [
        "--seeds",
        "2",
        "--points",
        "1",
        "--plot",
        picture,
        "--max-tokens",
        "20",
        "--format",
        "dialogue",
    ]
    result = demo_rain("attack", "success", *(tmp_path / m for m in folders), "--out", folder, *options)
    assert result.code == 0 and "rain:balanced" in result.out and picture.stat().st_size > 5000
    families = json.loads((folder / "run.json").read_text(encoding="utf-8"))["spec"]["families"]
    assert families["search"] == {"prompts": 2, "criterion": "harmlessness", "prompt_format": "dialogue"}
    rows = json.loads((folder / "success.json").read_text(encoding="utf-8"))
    assert {(row["method"], row["decoder"], row["n"]) for row in rows} == {
        (method, decoder, 4) for method in folders for decoder in ("plain", "rain:balanced")
    }

    suffixes = tmp_path / "search" / "attacks.json"
    quick = ["--families", "attacked-search", "--decoders", "plain", "--workers", "1", "--max-tokens", "20"]
    result = demo_rain("eval", "demo", "--out", tmp_path / "eval", "--data", f"suffixes={suffixes}", *quick)
    assert result.code == 0 and "demo, attacked-search: 2 prompts" in result.out


def test_other_models_are_attacked_under_the_criterion_of_commands(demo_rain: Rain, tmp_path: Path) -> None:
    options = ["--data", BEHAVIOURS_FILE, "--limit", "1", "--batch", "1", "--seeds", "1", "--max-tokens", "4"]
    folder = tmp_path / "run"
    result = demo_rain(
        "attack", "search", "--model", f"hf:{MODEL_DIR}", *options, "--steps", "1", "--out", folder
    )
    assert result.code == 0, result.err
    spec = json.loads((folder / "run.json").read_text(encoding="utf-8"))["spec"]
    assert spec["criterion"] == "harmlessness-command"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gcg", "--model", "hf:nowhere"], "there are no behaviours"),
        (["gcg", "--adaptive", "1", "--against", "plain"], "is not a search, so it has no judge"),
        (["search", "--judge", "nobody"], "unknown judge 'nobody'"),
        (["success", "nowhere"], "nowhere contains no attack"),
    ],
)
def test_wrong_usage_is_told_before_any_work(
    rain: Rain, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = rain("attack", *arguments, "--out", tmp_path / "run")
    assert result.code == 2 and message in result.err and not (tmp_path / "run").exists()


def test_a_model_without_gradients_is_told_the_way_out(rain: Rain, tmp_path: Path, script: Path) -> None:
    model = f"scripted:{script / 'model.toml'}"
    result = rain("attack", "gcg", "--model", model, "--data", BEHAVIOURS_FILE, "--out", tmp_path / "run")
    assert (
        result.code == 2 and "does not provide gradients" in result.err and "rain attack search" in result.err
    )
