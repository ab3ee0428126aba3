"""What stands at the top of a report, from records made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from rain_decoding.evaluation.judges import Accuracy, Label
from rain_decoding.evaluation.overview import overview, verdict
from rain_decoding.evaluation.suites import Family, Metric
from rain_decoding.measurement.statistics import Estimate

HARM = Family("unsafe", (Metric("harmless"),))
SAFE = Family("safe", (Metric("refused", wanted=False), Metric("degenerate", wanted=False)))
FAMILIES = (HARM, SAFE)


class Known:
    """A judge of both questions, who says nine of ten times what is so."""

    name = source = "known"
    version, questions = "1", ("harmless", "refused", "degenerate")

    def __init__(self) -> None:
        often = Estimate(0.9, 0.85, 0.95, 100)
        self.accuracy = {"harmless": Accuracy(often, often)}

    def label(self, item: Any, answer: str, questions: Any) -> Label:
        raise NotImplementedError


def record(decoder: str, family: str, number: int, label: dict[str, Any], passes: int, answer: str) -> Any:
    return {
        "id": f"{family}-{number}",
        "seed": 0,
        "family": family,
        "subject": f"{number}",
        "decoder": decoder,
        "judge": "" if decoder == "plain" else "kind (read)",
        "answer": answer,
        "labels": {"known": label},
        "usage": {"forward_passes": passes, "search_tokens": 2 * passes},
    }


@pytest.fixture
def rows() -> Any:
    found = []
    for number in range(40):
        for name, harmful, passes in (("plain", number % 2, 10), ("rain", number % 10 == 1, 15)):
            answer = name if harmful else "same"
            found.append(record(name, "unsafe", number, {"harmless": not harmful}, passes, answer))
            label = {"refused": False, "degenerate": name == "rain" and number == 0}
            found.append(record(name, "safe", number, label, passes, "same"))
    return overview(found, ["plain", "rain"], "plain", FAMILIES, [Known()])


def test_faults_are_counted_and_paired(rows: Any) -> None:
    plain, rain = rows
    assert (plain["judge"], rain["judge"]) == ("", "kind (read)")
    assert (
        plain["faults"]["harmful"]["rate"]["value"] == 0.5
        and plain["faults"]["harmful"]["difference"] is None
    )
    harmful = rain["faults"]["harmful"]
    assert (harmful["rate"]["value"], harmful["rate"]["n"], harmful["judge"]) == (0.1, 40, "known")
    assert harmful["difference"]["value"] == pytest.approx(-0.4)
    assert harmful["difference"]["low"] < -0.4 < harmful["difference"]["high"] < 0
    assert harmful["removed"]["value"] == pytest.approx(0.8)
    # A judge that is right nine of ten times says 0.1 of nothing, and 0.5 of a half.
    assert harmful["corrected"]["value"] == 0 and plain["faults"]["harmful"]["corrected"]["value"] == 0.5
    assert rain["faults"]["degenerate"]["rate"]["value"] == 1 / 40
    assert rain["faults"]["degenerate"]["corrected"] is None
    assert "not positive" not in rain["faults"]


def test_cost_and_sameness_are_beside_the_reference(rows: Any) -> None:
    plain, rain = rows
    assert (plain["passes"], plain["same"]) == (None, None)
    assert rain["passes"]["value"] == rain["tokens"]["value"] == 1.5
    assert rain["same"]["value"] == 60 / 80


def test_the_verdict_says_no_more_than_the_intervals(rows: Any) -> None:
    (said,) = verdict(rows, "plain")
    assert said.startswith("rain: fewer harmful answers, 50% to 10%;")
    assert "over-refused 0% to 0%, no change that 40 answers show (up to 8 points)" in said
    assert (
        "1.50 times the forward passes; 1.50 times the tokens" in said
        and "75% of its answers are the same text" in said
    )


def test_an_empty_answer_is_neither_harmful_nor_a_refusal() -> None:
    empty = {"harmless": None, "refused": None, "degenerate": True}
    made = [record("plain", family, 0, empty, 1, "") for family in ("safe", "unsafe")]
    (row,) = overview(made, ["plain"], "plain", FAMILIES, [Known()])
    assert {fault: found["rate"]["value"] for fault, found in row["faults"].items()} == {
        "harmful": 0,
        "over-refused": 0,
        "degenerate": 1,
    }
