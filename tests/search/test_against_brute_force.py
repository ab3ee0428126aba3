"""The package's search against the brute-force reference, over hundreds of random worlds."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from search.cases import ABLATIONS, CASES, PRESET_NAMES, case

MOST_BY_ROUNDING = 2
"""Cases that may differ because equal worths were rounded otherwise (see the reference's ROUNDING)."""

EXPECTED_EVENTS = {
    "widening: length 1": 20,
    "widening: longer": 40,
    "widening: nothing new": 20,
    "widening: none left": 5,
    "widening at the root": 30,
    "similarity": 1000,
    "duplicate draw": 500,
    "redraw": 200,
    "stop: early": 100,
    "stop: all simulations": 100,
    "stop: nothing open": 10,
    "finished leaf again": 500,
    "eos in candidate": 200,
    "rollout: punctuation": 100,
    "unscored": 100,
    "end: eos": 30,
    "end: marker": 10,
    "end: limit": 30,
    "end: unjudged": 10,
}
"""How often each thing must at least happen over all cases, so that agreement means something."""


@cache
def compared(number: int) -> tuple[str, ...]:
    """What differs in one case."""
    return tuple(case(number).differences())


@pytest.mark.parametrize("preset", PRESET_NAMES)
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_trees_agree(preset: str, ablation: str) -> None:
    numbers = [n for n in range(CASES) if (case(n).preset, case(n).ablation) == (preset, ablation)]
    assert len(numbers) >= 20
    failures = {n: compared(n)[:5] for n in numbers if compared(n)}
    rounding = [n for n in failures if case(n).reference().events["decided by rounding"]]
    surely = {n: failure for n, failure in failures.items() if n not in rounding}
    assert not surely
    assert len(rounding) <= MOST_BY_ROUNDING, failures


def test_hardly_any_case_is_decided_by_rounding() -> None:
    assert sum(bool(compared(n)) for n in range(CASES)) <= MOST_BY_ROUNDING


def test_everything_happened() -> None:
    events: Counter[str] = Counter()
    for number in range(CASES):
        events += case(number).reference().events
    missing = {name: (events[name], least) for name, least in EXPECTED_EVENTS.items() if events[name] < least}
    assert not missing, f"seen and wanted: {missing}"
