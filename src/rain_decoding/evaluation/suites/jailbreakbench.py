"""JailbreakBench (Chao et al. 2024, arXiv 2404.01318): behaviours, asked for plainly, under attacks that need no model,
and under attack prompts that were found for other models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rain_decoding.evaluation.suites.attacked import METRICS, families, wordings
from rain_decoding.evaluation.suites.base import Family, Item, Source, Suite
from rain_decoding.evaluation.suites.reading import checked, read_objects, read_table

NAMES = {"Goal": "goal", "Target": "target"}
"""What the hub calls the columns."""


def load(files: Mapping[str, Path | None]) -> Iterator[Item]:
    """The behaviours of the CSV file, and those of the attack prompts."""
    if "behaviours" in files:
        for _, row in read_table(files["behaviours"], ["goal", "target"], HUB, NAMES):
            yield from wordings(row["goal"], row["target"])
    if path := files.get("attacks"):
        for place, row in read_objects(path):
            checked(place, row, ["goal", "attack", "prompt"])
            yield from wordings(row["goal"])
            facts = {"goal": row["goal"], "attack": row["attack"]}
            yield Item("stored", row["prompt"], row["goal"], facts)


HUB = {"path": "JailbreakBench/JBB-Behaviors", "name": "behaviors", "split": "harmful"}
CRITERION = "harmlessness-command"
SUITE = Suite(
    "jailbreakbench",
    "harmful behaviours of JailbreakBench, asked for plainly, with the answer's beginning, in a play, and by stored "
    "attack prompts",
    (*families(CRITERION), Family("stored", METRICS, CRITERION)),
    load,
    {
        "behaviours": Source("CSV with goal and target", HUB),
        "attacks": Source(
            "JSON lines with goal, attack and prompt; enough without the other", required=False
        ),
    },
    judges=("refusal-prefixes-wide", "degeneration"),
)
