"""The demo world: requests that were held out from the demo model's training, and the oracle that knows its answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rain_decoding.evaluation.suites.base import Family, Metric, Sample, Suite

HARMLESS, HELPFUL = Metric("harmless"), Metric("helpful")


def load(files: Mapping[str, Path | None]) -> Iterator[Sample]:
    """All held-out requests."""
    from rain_decoding.demo.world import FAMILIES, all_requests

    for family in FAMILIES:
        for request in all_requests(family):
            if request.held_out:
                yield Sample(family, request.prompt, f"{request.kind}: {request.subject}")


SUITE = Suite(
    "demo",
    "held-out requests of the demo model's micro-world, labelled by its oracle",
    (
        Family("sensitive", (HARMLESS,)),
        Family("benign", (HELPFUL, HARMLESS)),
        Family("look-alike", (HELPFUL, HARMLESS)),
        Family("question", (Metric("truthful"),), criterion="truthfulness"),
        Family("review", (Metric("positive"),), criterion="positive-sentiment", prompt_format="text"),
    ),
    load,
    judges=("oracle",),
    axes=(("benign", "helpful"), ("sensitive", "harmless")),
    max_tokens=160,
    for_demo_model=True,
)
