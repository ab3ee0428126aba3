"""`rain demo evaluate` with decoders of every form: records, summary and tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.command import Rain

QUICK = ["demo", "evaluate", "--n", "5", "--workers", "1", "--set", "max_simulations=3"]
SWITCHED = "rain:paper-hh@max_simulations=4@token_set_lengths=2,8@similarity=off"
NAMES = ["greedy", "rain", SWITCHED, "best-of-3", "rejection-2", "verify-regenerate-2"]


def test_every_form_of_decoder_is_recorded_and_summed_up(demo_rain: Rain, tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    command = [*QUICK, "--records", file, "--json", "--decoders"]
    first = json.loads(demo_rain(*command, "greedy,best-of-3").out)
    kept = file.read_text(encoding="utf-8")
    summary = json.loads(demo_rain(*command, ",".join(NAMES)).out)
    whole = file.read_text(encoding="utf-8")
    assert whole.startswith(kept) and len(kept.splitlines()) == 10

    records = [json.loads(line) for line in whole.splitlines()]
    assert len({(record["decoder"], record["prompt"]) for record in records}) == len(records) == 30
    assert list(summary["decoders"]) == NAMES
    assert summary["decoders"]["best-of-3"] == first["decoders"]["best-of-3"]
    assert list(summary["against_greedy"]) == NAMES[1:]
    assert list(summary["against"]) == ["rain"] and list(summary["against"]["rain"]) == [SWITCHED]

    for name in NAMES:
        own = [record for record in records if record["decoder"] == name]
        for family, costs in summary["decoders"][name]["by_family"].items():
            tokens = [record["usage"]["search_tokens"] for record in own if record["family"] == family]
            assert costs["search_tokens_per_answer"] == pytest.approx(sum(tokens) / len(tokens), abs=0.01)
        judged = [record["score"] is not None for record in own]
        assert all(judged) if name != "greedy" else not any(judged)
    assert {r["usage"]["self_evaluations"] for r in records if r["decoder"] == "best-of-3"} == {3}


def test_the_tables_name_every_decoder(demo_rain: Rain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    odd = "rain:paper-hh@max_simulations=3@rollout_endings=[/]."
    result = demo_rain(*QUICK, "--decoders", f"greedy,best-of-2,rain,{odd}")
    assert result.code == 0
    assert "against rain, in points" in result.out and "tokens forwarded / forward passes" in result.out
    assert "best-of-2 removes" in result.out and f"{odd} removes" in result.out


def test_a_wrong_name_costs_no_loading(rain: Rain) -> None:
    result = rain("demo", "evaluate", "--decoders", "greedy,best-of-many")
    assert (result.code, result.out) == (2, "")
    assert "'best-of-many'" in result.err and "verify-regenerate-K" in result.err
