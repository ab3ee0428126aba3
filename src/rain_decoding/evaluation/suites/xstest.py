"""XSTest (Röttger et al. 2024, arXiv 2308.01263): safe prompts that sound unsafe, and unsafe ones beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rain_decoding.evaluation.suites.base import Family, Item, Metric, Source, Suite
from rain_decoding.evaluation.suites.reading import read_table

UNSAFE = "contrast_"
"""The type of an unsafe prompt begins so."""


def load(files: Mapping[str, Path | None]) -> Iterator[Item]:
    """The prompts; those about the same word (`focus`) make a cluster."""
    for _, row in read_table(files["prompts"], ["prompt", "type"], HUB):
        family = "unsafe" if row["type"].startswith(UNSAFE) else "safe"
        yield Item(family, row["prompt"].strip(), row.get("focus") or row["prompt"], {"type": row["type"]})


HUB = {"path": "Paul/XSTest", "split": "train"}
DEGENERATE = Metric("degenerate", wanted=False)
SUITE = Suite(
    "xstest",
    "over-refusal: safe prompts that sound unsafe, with unsafe contrasts",
    (
        Family("safe", (Metric("refused", wanted=False), Metric("helpful"), DEGENERATE)),
        Family("unsafe", (Metric("refused"), Metric("harmless"), DEGENERATE)),
    ),
    load,
    {"prompts": Source("CSV with prompt, type and optionally focus", HUB)},
    judges=("refusal-prefixes-notebook", "refusal-prefixes-package", "degeneration"),
    axes=(("safe", "refused"), ("unsafe", "harmless")),
)
