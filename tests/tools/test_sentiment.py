"""Reviews as texts to read: a beginning, and how it goes on."""

from __future__ import annotations

import csv
from pathlib import Path

from real_models.sentiment import as_answers, beginnings

from rain_decoding.calibration import read_labelled


def test_a_review_is_parted_behind_eight_words_and_cut(tmp_path: Path) -> None:
    long, short = (
        " ".join(f"w{number}" for number in range(80)),
        "Too short, but\nquite  good all in all, yes",
    )
    with (tmp_path / "labelled.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [("review", "sentiment"), (long, "negative"), (short, "positive"), (long, "negative")]
        csv.writer(file).writerows(rows)
    found = list(beginnings(tmp_path / "labelled.csv", 2))
    assert [each.good for each in found] == [False, True]
    assert [each.messages[0].content for each in found] == [
        "w0 w1 w2 w3 w4 w5 w6 w7",
        "Too short, but quite good all in all,",
    ]
    assert found[0].answer.startswith(" w8 w9") and found[0].answer.endswith(" w55")
    assert found[1].answer == " yes" and len({each.group for each in found}) == 2


def test_labelled_beginnings_are_labelled_answers(tmp_path: Path) -> None:
    with (tmp_path / "labelled.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [
            (" ".join(f"{word}{number}" for number in range(20)), word) for word in ("negative", "positive")
        ]
        csv.writer(file).writerows([("review", "sentiment"), *rows])
    as_answers(tmp_path / "labelled.csv", tmp_path / "labelled.jsonl")
    found = list(read_labelled(tmp_path / "labelled.jsonl"))
    assert [each.label for each in found] == ["negative", "positive"]
    assert [each.answer for each in found] == [
        each.answer for each in beginnings(tmp_path / "labelled.csv", 2)
    ]
