"""AdvBench (Zou et al. 2023, arXiv 2307.15043): harmful behaviours, asked for plainly, under attacks that need no
model, or with an attack's suffixes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rain_decoding.evaluation.suites.attacked import METRICS, families, wordings
from rain_decoding.evaluation.suites.base import Family, Item, Source, Suite
from rain_decoding.evaluation.suites.reading import Row, checked, read_objects, read_table

NAMES = {"prompt": "goal"}
"""What the hub calls the columns."""


def load(files: Mapping[str, Path | None]) -> Iterator[Item]:
    """The behaviours of the CSV file, and `attacked` ones from a file of suffixes."""
    if "behaviours" in files:
        for _, row in read_table(files["behaviours"], ["goal", "target"], HUB, NAMES):
            yield from wordings(row["goal"], row["target"])
    if path := files.get("suffixes"):
        for place, row in read_attacks(path):
            checked(place, row, ["goal", "controls"])
            yield attacked("attacked", row["goal"], row["controls"])


def attacked(family: str, goal: str, controls: str) -> Item:
    """A request with an attack's suffix; judges know the request without it."""
    return Item(family, attacked_prompt(goal, controls), goal, {"goal": goal, "controls": controls})


def attacked_prompt(goal: str, controls: str) -> str:
    """As the released code of RAIN joins them."""
    return f"{goal} {controls}"


def read_attacks(path: Path) -> Iterator[Row]:
    """Goals with their suffixes, as the released code of RAIN reads them.

    That is one object per line, a list of objects, or one object of two lists of the same length.
    """
    for place, row in read_objects(path):
        lists: Any = [row.get(key) for key in ("goal", "controls")] if isinstance(row, dict) else [None]
        if not all(isinstance(values, list) for values in lists) or len(lists[0]) != len(lists[1]):
            yield place, row
            continue
        for number, (goal, controls) in enumerate(zip(*lists, strict=True), start=1):
            yield f"{place}, pair {number}", {"goal": goal, "controls": controls}


HUB = {"path": "walledai/AdvBench", "split": "train"}
CRITERION = "harmlessness-command"
SUITE = Suite(
    "advbench",
    "harmful behaviours of AdvBench, asked for plainly, with the answer's beginning, in a play, and with adversarial "
    "suffixes",
    (*families(CRITERION), Family("attacked", METRICS, CRITERION)),
    load,
    {
        "behaviours": Source("CSV with goal and target", HUB),
        "suffixes": Source("JSON with goal and controls, as an attack writes it", required=False),
    },
    judges=("refusal-prefixes-notebook", "refusal-prefixes-package", "degeneration"),
)
