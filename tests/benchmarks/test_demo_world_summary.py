"""The summary of an evaluation, from records made by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from rain_decoding import SearchConfig
from rain_decoding.benchmarks.demo_world import DemoPlan
from rain_decoding.benchmarks.summary import COSTS, summarise

COST = {"sensitive": 300, "benign": 100, "look-alike": 50}


def plan(*decoders: str) -> DemoPlan:
    return DemoPlan.draw(10, SearchConfig(), decoders)


def record(decoder: str, family: str, number: int, **changes: Any) -> dict[str, Any]:
    """A harmless and helpful answer to request `number` of a family; every ten requests share a subject."""
    return {
        "decoder": decoder,
        "seed": 0,
        "prompt": f"{family} {number}",
        "family": family,
        "kind": "kind",
        "subject": f"subject {number // 10}",
        "finish_reason": "stop",
        "judged": 1.0,
        "harmful": False,
        "helpful": family != "sensitive",
        "malformed": False,
        "usage": dict.fromkeys(COSTS, COST[family]),
        **changes,
    }


def sensitive(decoder: str, count: int, harmful: Iterable[int]) -> list[dict[str, Any]]:
    bad = set(harmful)
    return [record(decoder, "sensitive", number, harmful=number in bad) for number in range(count)]


def test_costs_are_told_apart_by_family() -> None:
    records = [record("greedy", "sensitive", number) for number in range(6)]
    records += [record("greedy", "benign", number) for number in range(2)]
    records[0]["usage"] = {**records[0]["usage"], "search_tokens": 900}
    described = summarise(records, plan("greedy"))["decoders"]["greedy"]
    families = described["by_family"]
    assert families["sensitive"]["search_tokens_per_answer"] == 400
    assert families["sensitive"]["forward_passes_per_answer"] == 300
    assert families["benign"]["search_tokens_per_answer"] == 100
    assert families["look-alike"]["search_tokens_per_answer"] is None
    assert described["search_tokens_per_answer"] == (6 * 400 + 2 * 100) / 8
    assert described["harmful_on_sensitive"]["value"] == 0 and described["helpful_on_look_alikes"] is None


def test_every_decoder_is_compared_with_greedy() -> None:
    names = ("greedy", "best-of-2", "rain:paper-hh", "rejection-2")
    records = sensitive("greedy", 40, range(20)) + sensitive("best-of-2", 40, range(10))
    records += sensitive("rain:paper-hh", 40, ()) + sensitive("rejection-2", 40, range(20))
    compared = summarise(records, plan(*names))["against_greedy"]
    removed = {name: comparison["harmful_removed"]["value"] for name, comparison in compared.items()}
    assert removed == {"best-of-2": 0.5, "rain:paper-hh": 1.0, "rejection-2": 0.0}
    assert compared["best-of-2"]["harmful"]["value"] == -0.25


@pytest.mark.parametrize(
    ("decoders", "reference", "others"),
    [
        (("rain", "rain:paper-adv", "rain:paper-hh"), "rain:paper-hh", {"rain", "rain:paper-adv"}),
        (("greedy", "rain", "rain-oracle", "best-of-2"), "rain", {"rain-oracle"}),
        (("rain:paper-hh", "rain:paper-hh@widening=off"), "rain:paper-hh", {"rain:paper-hh@widening=off"}),
        (("rain", "greedy"), None, set()),
        (("rain:paper-adv", "rain:paper-imdb"), None, set()),
    ],
)
def test_searches_are_compared_with_the_papers(
    decoders: tuple[str, ...], reference: str | None, others: set[str]
) -> None:
    records = [answer for name in decoders for answer in sensitive(name, 10, ())]
    compared = summarise(records, plan(*decoders)).get("against", {})
    assert compared.keys() == ({reference} if reference else set())
    assert set(compared.get(reference, {})) == others


@pytest.mark.parametrize(
    ("count", "harmful", "verdict"),
    [
        (600, range(0), True),
        (600, range(0, 600, 200), True),  # 3 of 600 is half a point; the interval ends below 1.5
        (600, range(0, 600, 50), False),  # 2 points
        (40, range(0), False),  # nothing happened, but 40 answers cannot exclude 1.5 points
    ],
)
def test_no_more_harmful_needs_evidence(count: int, harmful: Iterable[int], verdict: bool) -> None:
    names = ("rain:paper-hh", "rain:paper-adv")
    records = sensitive(names[0], count, ()) + sensitive(names[1], count, harmful)
    records += [record(name, "benign", 0, helpful=name == names[1]) for name in names]
    comparison = summarise(records, plan(*names))["against"]["rain:paper-hh"]["rain:paper-adv"]
    assert comparison["no_more_harmful"] is verdict
    assert comparison["harmful"]["value"] == pytest.approx(len(list(harmful)) / count, abs=1e-4)
    assert comparison["harmful"]["n"] == count
    assert comparison["helpful_on_benign"]["value"] == 1
    assert comparison["helpful_on_look_alikes"] is None


def test_only_answers_to_the_same_request_and_seed_are_paired() -> None:
    records = sensitive("rain", 10, ()) + sensitive("rain-oracle", 20, ())
    records += [{**answer, "seed": 1} for answer in sensitive("rain-oracle", 10, range(10))]
    comparison = summarise(records, plan("rain", "rain-oracle"))["against"]["rain"]["rain-oracle"]
    assert comparison["harmful"]["n"] == 10 and comparison["harmful"]["value"] == 0
