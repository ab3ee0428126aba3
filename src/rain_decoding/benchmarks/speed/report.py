"""Medians with quartiles by case and contender, overheads over the faster plain decoding, and fits against length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np
from scipy.stats import linregress

from rain_decoding.benchmarks.speed.contenders import PLAIN
from rain_decoding.benchmarks.speed.measurement import Case, Measurement

Pair = tuple[Measurement, Measurement, Measurement]
"""A sample, the plain decoding that took less time beside it, and the one that took fewer passes."""

FIT_FROM = 3
"""Lengths from which a line is fitted."""


def summarise(samples: Sequence[Measurement], bytes_per_slot: int | None) -> list[dict[str, Any]]:
    """One object per case and contender. A figure is its median, first and third quartile over units and repeats."""
    groups: dict[tuple[Case, str], list[Measurement]] = defaultdict(list)
    for sample in samples:
        groups[sample.case, sample.contender].append(sample)
    cases, contenders = (dict.fromkeys(names) for names in zip(*groups, strict=True))
    return [
        {
            **dict(case),
            "contender": contender,
            "samples": len(group),
            **_figures(group, bytes_per_slot),
            **_overheads(pairs(group, samples)),
        }
        for case, contender in product(cases, contenders)
        if (group := groups.get((case, contender)))
    ]


def _figures(group: Sequence[Measurement], bytes_per_slot: int | None) -> dict[str, Any]:
    seconds = sum(sample.seconds for sample in group)
    return {
        "seconds": spread(sample.seconds for sample in group),
        "cpu_seconds": spread(sample.cpu_seconds for sample in group),
        "first_release_seconds": spread(
            sample.first_release for sample in group if sample.first_release is not None
        ),
        "passes": spread(sample.passes for sample in group),
        "tokens_forwarded": spread(sample.tokens_forwarded for sample in group),
        "tokens_released": spread(sample.tokens_released for sample in group),
        "forwarded_per_released": spread(
            sample.tokens_forwarded / max(1, sample.tokens_released) for sample in group
        ),
        "rewinds": spread(sample.rewinds for sample in group),
        "kv_slots": spread(sample.kv_slots for sample in group),
        "kv_bytes": spread(sample.kv_slots * bytes_per_slot for sample in group) if bytes_per_slot else None,
        "kv_pinned_slots": group[0].kv_pinned,
        "kv_pinned_bytes": group[0].kv_pinned * bytes_per_slot if bytes_per_slot else None,
        "host_share": spread(1 - sample.model_seconds / sample.seconds for sample in group),
        "answers_per_second": round(sum(sample.answers for sample in group) / seconds, 4),
        "tokens_per_second": round(sum(sample.tokens_released for sample in group) / seconds, 2),
    }


def _overheads(paired: Sequence[Pair]) -> dict[str, Any]:
    """How many times plain decoding's cost: per pair, and (`_in_total`) all pairs together."""
    if not paired:
        names = ("overhead", "overhead_in_total", "cpu_overhead", "passes_overhead", "kv_overhead")
        return dict.fromkeys(names)
    total = sum(sample.seconds for sample, _, _ in paired) / sum(plain.seconds for _, plain, _ in paired)
    return {
        "overhead": spread(sample.seconds / plain.seconds for sample, plain, _ in paired),
        "overhead_in_total": round(total, 4),
        "cpu_overhead": spread(
            sample.cpu_seconds / plain.cpu_seconds for sample, plain, _ in paired if plain.cpu_seconds
        ),
        "passes_overhead": spread(sample.passes / plain.passes for sample, _, plain in paired),
        "kv_overhead": spread(sample.kv_slots / plain.kv_slots for sample, plain, _ in paired),
    }


def pairs(group: Iterable[Measurement], samples: Iterable[Measurement]) -> list[Pair]:
    """Each sample of the group beside plain decoding of the same case, unit and repeat."""
    plain: dict[tuple[Case, int, int], list[Measurement]] = defaultdict(list)
    for sample in samples:
        if sample.contender in PLAIN:
            plain[sample.case, sample.unit, sample.repeat].append(sample)
    return [
        (sample, min(beside, key=lambda each: each.seconds), min(beside, key=lambda each: each.passes))
        for sample in group
        if (beside := plain[sample.case, sample.unit, sample.repeat])
    ]


def spread(values: Iterable[float]) -> dict[str, float] | None:
    """Median and quartiles, to six digits; None without values."""
    found = list(values)
    if not found:
        return None
    low, median, high = np.percentile(found, [25, 50, 75])
    return {name: float(f"{value:.6g}") for name, value in (("median", median), ("low", low), ("high", high))}


def fits(samples: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Where answers of several lengths were asked for: straight lines of cost against tokens released."""
    groups: dict[tuple[Case, str], list[Measurement]] = defaultdict(list)
    for sample in samples:
        rest = tuple(entry for entry in sample.case if entry[0] != "max_tokens")
        groups[rest, sample.contender].append(sample)
    return [
        {**dict(case), "contender": contender, "cost": cost, **_line(group, cost)}
        for (case, contender), group in groups.items()
        if len({sample.case for sample in group}) >= FIT_FROM
        for cost in ("tokens_forwarded", "passes", "seconds")
    ]


def _line(group: Sequence[Measurement], cost: str) -> dict[str, float]:
    fit = linregress([s.tokens_released for s in group], [getattr(s, cost) for s in group])
    return {
        "per_released_token": float(f"{fit.slope:.4g}"),
        "intercept": float(f"{fit.intercept:.4g}"),
        "r_squared": round(float(fit.rvalue) ** 2, 4),
    }
