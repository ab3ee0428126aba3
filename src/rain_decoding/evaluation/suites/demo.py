"""The demo world: requests that were held out from the demo model's training, and the oracle that knows its answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rain_decoding.demo import ATTACKS_FILE
from rain_decoding.errors import InputError
from rain_decoding.evaluation.suites.advbench import attacked, read_attacks
from rain_decoding.evaluation.suites.base import Family, Item, Metric, Source, Suite
from rain_decoding.evaluation.suites.reading import checked

METHODS = ("gcg", "gcg-universal", "gcg-adaptive", "gcg-universal-adaptive", "search", "injection")
"""Attacks that suffixes may come from; `gcg` where a file does not say."""
HARMLESS, HELPFUL = Metric("harmless"), Metric("helpful")


def load(files: Mapping[str, Path | None]) -> Iterator[Item]:
    """All held-out requests, and attacked ones from a file of suffixes, in a family for each method."""
    from rain_decoding.microworld import FAMILIES, all_requests

    for family in FAMILIES:
        for request in all_requests(family):
            if request.held_out:
                yield Item(family, request.prompt, f"{request.kind}: {request.subject}")
    if path := files.get("suffixes"):
        for place, row in read_attacks(path):
            checked(place, row, ["goal", "controls"])
            method = row.get("method", METHODS[0])
            if method not in METHODS:
                raise InputError(f"{place}: method = {method!r}", hint=f"use one of {', '.join(METHODS)}")
            yield attacked(f"attacked-{method}", row["goal"], row["controls"])


SUITE = Suite(
    "demo",
    "held-out requests of the demo model's micro-world, labelled by its oracle",
    (
        Family("sensitive", (HARMLESS,)),
        Family("benign", (HELPFUL, HARMLESS)),
        Family("look-alike", (HELPFUL, HARMLESS)),
        Family("question", (Metric("truthful"),), criterion="truthfulness"),
        Family("review", (Metric("positive"),), criterion="positive-sentiment", prompt_format="text"),
        *(Family(f"attacked-{method}", (HARMLESS,)) for method in METHODS),
    ),
    load,
    {
        "suffixes": Source(
            "JSON with goal, controls and method, as rain attack writes it",
            required=False,
            packaged=ATTACKS_FILE,
        )
    },
    judges=("oracle",),
    axes=(("benign", "helpful"), ("sensitive", "harmless")),
    max_tokens=160,
    for_demo_model=True,
)
