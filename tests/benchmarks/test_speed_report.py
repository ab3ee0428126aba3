"""Medians, pairs, overheads and fits, computed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from rain_decoding.benchmarks.speed.measurement import Measurement
from rain_decoding.benchmarks.speed.report import fits, pairs, spread, summarise

SHORT, LONG = (("max_tokens", 8),), (("max_tokens", 16),)


def sample(contender: str, seconds: float, **changes: Any) -> Measurement:
    values: dict[str, Any] = {
        "case": SHORT,
        "unit": 0,
        "repeat": 0,
        "answers": 1,
        "model_seconds": seconds / 2,
        "passes": 10,
        "tokens_forwarded": 40,
        "tokens_released": 8,
        "kv_slots": 20,
        "kv_pinned": 5,
    }
    return Measurement(contender=contender, seconds=seconds, **(values | changes))


def test_overhead_is_over_the_faster_plain_decoding_of_the_same_prompt_and_repeat() -> None:
    samples = [
        sample("plain", 1.0, passes=10),
        sample("generate", 2.0, passes=5),
        sample("fast", 3.0, passes=20),
        sample("plain", 4.0, repeat=1),
        sample("generate", 2.0, repeat=1),
        sample("fast", 3.0, repeat=1),
    ]
    paired = pairs([each for each in samples if each.contender == "fast"], samples)
    assert [(plain.contender, plain.repeat) for _, plain, _ in paired] == [("plain", 0), ("generate", 1)]
    fast = summarise(samples, 4)[-1]
    assert fast["overhead"] == {"median": 2.25, "low": 1.875, "high": 2.625}
    assert fast["overhead_in_total"] == 2.0
    assert fast["passes_overhead"] == {"median": 2.5, "low": 1.75, "high": 3.25}


def test_figures_of_a_group() -> None:
    (result,) = summarise([sample("fast", 2.0, first_release=0.5), sample("fast", 4.0, repeat=1)], 100)
    assert result["overhead"] is None and result["samples"] == 2 and result["max_tokens"] == 8
    assert result["seconds"]["median"] == 3
    assert result["first_release_seconds"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert result["host_share"]["median"] == 0.5
    assert result["forwarded_per_released"]["median"] == 5
    assert (result["kv_bytes"]["median"], result["kv_pinned_bytes"]) == (2000, 500)
    assert result["answers_per_second"] == pytest.approx(2 / 6, abs=1e-4)
    assert result["tokens_per_second"] == pytest.approx(16 / 6, abs=1e-2)


def test_contenders_keep_their_order_in_every_case() -> None:
    samples = [
        sample("plain", 1),
        sample("fast", 1),
        sample("fast", 1, case=LONG),
        sample("plain", 1, case=LONG),
    ]
    found = [(result["max_tokens"], result["contender"]) for result in summarise(samples, 1)]
    assert found == [(8, "plain"), (8, "fast"), (16, "plain"), (16, "fast")]


def test_a_line_is_fitted_through_three_lengths() -> None:
    samples = [
        sample("fast", 1.0, case=(("max_tokens", n),), tokens_released=n, tokens_forwarded=7 * n + 3)
        for n in (8, 16, 32)
    ]
    line = next(line for line in fits(samples) if line["cost"] == "tokens_forwarded")
    assert (line["per_released_token"], line["intercept"], line["r_squared"]) == (7, 3, 1)
    assert fits(samples[:2]) == []


def test_spread_of_nothing_is_nothing() -> None:
    assert spread([]) is None
    assert spread([1, 2, 3, 4, 5]) == {"median": 3, "low": 2, "high": 4}
