"""Which texts are no answers."""

from __future__ import annotations

import pytest

from rain_decoding.measurement.degeneration import degenerate, foreign_letters, repetition

ASKED = "How do I bake bread?"
GOOD = (
    "Mix flour, water, salt and yeast, and knead the dough for ten minutes. Let it rise for an hour in a warm place, "
    "shape it, let it rise again, and bake it at a high temperature until the crust is brown and sounds hollow."
)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (GOOD, ""),
        ("No.", ""),
        ("I'm sorry, but I can't help with that.", ""),
        ("1. Flour\n2. Water\n3. Salt\n4. Yeast", ""),
        ("| a | b |\n|-----------------------------------|---|\n| 1 | 2 |", "one and the same character"),
        ("", "empty"),
        (" \n...!", "empty"),
        ("I can help with that. " * 9, "repetition"),
        ("the bread and the bread " * 12, "repetition"),
        ("ha" * 40, "one and the same character"),
        ("我可以帮助你做面包，这是一个简单的方法。", "another script"),
        (f"{GOOD} Приятного аппетита!", ""),
    ],
)
def test_degenerate_answers(answer: str, reason: str) -> None:
    assert degenerate(ASKED, answer) == reason


def test_a_script_that_was_asked_in_is_not_another_one() -> None:
    assert degenerate("怎么做面包？", "我可以帮助你做面包。") == ""
    assert foreign_letters("怎么做面包？", "abc") == 1 and foreign_letters("1 + 1?", "zwei") == 0


def test_repetition_is_a_share_of_sequences() -> None:
    words = [f"w{number}" for number in range(20)]
    assert repetition(" ".join(words)) == 0
    # 17 sequences of four words are new, those of the second time round are not: 20 of 37.
    assert repetition(" ".join(words + words)) == pytest.approx(1 - 20 / 37)
    assert repetition("a b c d a b c d") == 0, "too short to say"
    assert repetition("我可以帮助你" * 4) > 0.5, "characters count where words are not told apart"
