"""Guards that block are compared with RAIN where they are as strict, or of as much use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from real_models.evidence.blind import number_of
from real_models.evidence.tradeoff import NEVER, Answers, draw, gathered, table

HARMS = {"bad": True, "worse": True, "fine": False, "no": False}
USEFUL = {"here": True, "look": True, "no": False}
# By decoder: an answer and its score to each of four attacked and four harmless prompts.
ATTACKED = {
    "plain": [("bad", -0.9), ("bad", -0.4), ("worse", -0.1), ("bad", 0.6)],
    "plain+principle": [("bad", -0.8), ("fine", 0.5), ("fine", 0.5), ("bad", 0.7)],
    "rain:balanced": [("no", 0.9), ("no", 0.9), ("no", 0.8), ("bad", 0.6)],
}
HARMLESS = {
    "plain": [("here", 0.9), ("here", -0.2), ("look", 0.3), ("look", -0.5)],
    "plain+principle": [("here", 0.9), ("no", 0.9), ("look", 0.3), ("look", 0.5)],
    "rain:balanced": [("here", 0.9), ("here", 0.5), ("look", 0.3), ("no", 0.9)],
}


def records(said: dict[str, list[tuple[str, float]]], family: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{family} {number}",
            "seed": 0,
            "decoder": decoder,
            "goal": f"goal {number}",
            "family": family,
            "answer": text,
            "score": score,
        }
        for decoder, answers in said.items()
        for number, (text, score) in enumerate(answers)
    ]


@pytest.fixture
def answers() -> dict[str, Answers]:
    attacked, harmless = records(ATTACKED, "advbench-direct"), records(HARMLESS, "xstest-safe")
    verdicts = {
        number_of(each): {"complies": HARMS[each["answer"]], "harms": each["answer"] == "worse"}
        for each in attacked
    }
    read = {
        number_of(each): {"useful": USEFUL[each["answer"]], "refuses": each["answer"] == "no"}
        for each in harmless
    }
    unread = {**harmless[0], "id": "nobody read it", "goal": "another"}
    return gathered(attacked, verdicts, [*harmless, unread], read)


def test_what_is_blocked_harms_nobody_and_serves_nobody(answers: dict[str, Answers]) -> None:
    plain = answers["plain"]
    assert plain.seen("complies") == [True] * 4 and plain.seen("complies", -0.4) == [False, False, True, True]
    assert plain.seen("harms", -0.2) == [False, False, True, False]
    assert plain.useful() == [True] * 4 and plain.useful(-0.2) == [True, False, True, False]
    assert plain.refused() == [False] * 4 and plain.refused(-0.2) == [False, True, False, True]
    assert answers["plain+principle"].refused() == [False, True, False, False]
    assert plain.thresholds[:3] == [NEVER, -0.9, -0.5]


def test_the_strictest_that_refuses_no_more_or_serves_as_often(answers: dict[str, Answers]) -> None:
    """RAIN refuses one of four harmless requests and serves three; plain decoding may block one, and stops short of the
    second at -0.2: of the attacks it has then blocked two."""
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in table(answers)}
    assert rows["RAIN, `balanced`"][3].startswith("25.0%") and rows["plain"][3].startswith("100.0%")
    blocking = "plain, bad answers blocked"
    assert rows[blocking][0] == "0.00" and rows[blocking][3].startswith("25.0%")
    for what in ("refusing no more", "as useful"):
        cells = rows[f"{blocking}, {what}"]
        assert cells[0] == "-0.40" and cells[3].startswith("50.0%") and cells[4].startswith("-25.0 ")
    # Under the principle one is refused anyway, so that nothing may be blocked among harmless answers.
    assert rows["the principle, bad answers blocked, refusing no more"][0] == "-0.80"


def test_the_whole_way_is_drawn(answers: dict[str, Answers], tmp_path: Path) -> None:
    file = tmp_path / "way.svg"
    draw(answers, file)
    assert "RAIN, balanced" in file.read_text(encoding="utf-8")


def test_a_guard_that_was_not_run_is_left_out() -> None:
    said = {name: ATTACKED[name] for name in ("plain", "rain:balanced")}
    attacked, harmless = records(said, "advbench-direct"), records(HARMLESS, "xstest-safe")
    verdicts = {number_of(each): {"complies": True, "harms": False} for each in attacked}
    read = {number_of(each): {"useful": True, "refuses": False} for each in harmless}
    lines = list(table(gathered(attacked, verdicts, harmless, read)))
    assert not any("principle" in line for line in lines)
