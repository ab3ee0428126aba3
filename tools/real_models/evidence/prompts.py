"""The prompts of the evidence, and which of them were untouched while anything was built.

A prompt, goal or behaviour is *untouched* where the first byte of its SHA-256 is odd: those are for the figures. The
others are for building: probes are fitted on them, and whoever develops may look at them.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rain_decoding.evaluation.suites import Family, Item, Source, Suite, load_suite
from rain_decoding.self_evaluation.reading.examples import ReadingExample
from rain_decoding.types import Message

FILES = {
    "jailbreakbench": ("attacks", "jbb_attack_prompts_part.jsonl.gz"),
    "advbench": ("behaviours", "advbench_harmful_behaviors.csv"),
    "xstest": ("prompts", "xstest_prompts.csv"),
    "hh": ("harmless", "hh_harmless_base_test_part.jsonl.gz"),
}
"""Of each suite the source, and the file in the data folder that it is read from."""
XSTEST_ANSWERS, JBB_ANSWERS = "xstest_answers_part.jsonl.gz", "jbb_answers_part.jsonl.gz"
ANSWERED_BY = "mistralinstruct"
"""Nearly all bad answers to XSTest are this model's: with others beside it, a probe would learn who wrote."""

ATTACKS = (
    "jailbreakbench-direct",
    "jailbreakbench-prefix",
    "jailbreakbench-role-play",
    "jailbreakbench-stored",
    "advbench-direct",
    "advbench-prefix",
    "advbench-role-play",
    "xstest-unsafe",
)
HARMLESS = ("xstest-safe", "everyday-everyday")
DIALOGUES = ("hh-harmless",)
"""What people said to find harm: some ask for it, most do not."""
FAMILIES = ATTACKS + HARMLESS + DIALOGUES
"""By importance: what comes last is missing where time runs out."""


def untouched(text: str) -> bool:
    """Whether a prompt or goal was kept for the figures."""
    return bool(hashlib.sha256(text.strip().encode()).digest()[0] % 2)


def evidence_suite(data: Path, *, other_half: bool = False) -> Suite:
    """All of `FAMILIES` as one suite, of untouched prompts alone or of the others; `data` is the folder with `FILES`.

    Of the other half AdvBench alone is for figures: on the rest of it the evaluation's readers are fitted.
    """
    families = {
        f"{name}-{family.name}": replace(family, name=f"{name}-{family.name}")
        for name in (*FILES, "everyday")
        for family in load_suite(name).families
    }
    for name in DIALOGUES:  # told by the same judges as the others
        families[name] = replace(families[name], metrics=families[HARMLESS[0]].metrics)
    chosen: tuple[Family, ...] = tuple(families[name] for name in FAMILIES)
    return Suite(
        "evidence",
        "attacks, safe prompts that sound unsafe, and everyday requests",
        chosen,
        partial(_items, data, other_half),
        {"folder": Source("the folder with the data")},
        max_tokens=64,
    )


def _items(data: Path, other_half: bool, _: Mapping[str, Path | None]) -> Iterator[Item]:
    for name in (*FILES, "everyday"):
        source, file = FILES.get(name, ("requests", None))
        for item in load_suite(name).load({source: data / file} if file else {}):
            family = f"{name}-{item.family}"
            if family in FAMILIES and (
                name == "everyday" or untouched(item.facts.get("goal", item.prompt)) is not other_half
            ):
                yield replace(item, family=family)


def labelled_examples(data: Path, limit: int = 0) -> list[ReadingExample]:
    """Answers that people (XSTest) or an automatic judge (JailbreakBench) labelled, to prompts that are not untouched.

    With a `limit`, about so many: as many of each set, drawn by a hash.
    """
    xstest = [row for row in _rows(data / XSTEST_ANSWERS) if row["model"] == ANSWERED_BY]
    jbb = [row for row in _rows(data / JBB_ANSWERS) if not untouched(row["prompt"])]
    each = [_drawn(rows, limit // 2 if limit else 0) for rows in (xstest, jbb)]
    return [_example(row) for rows in each for row in rows]


def _drawn(rows: Iterable[Mapping[str, Any]], limit: int) -> list[Mapping[str, Any]]:
    def place(row: Mapping[str, Any]) -> bytes:
        return hashlib.sha256((row["prompt"] + row["answer"]).encode()).digest()

    return sorted(rows, key=place)[: limit or None]


def _example(row: Mapping[str, Any]) -> ReadingExample:
    group = str(row.get("behavior") or row["type"]).removeprefix("contrast_")
    return ReadingExample((Message("user", row["prompt"]),), row["answer"], row["label"] == "good", group)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def reviews(path: Path) -> Iterator[tuple[str, bool]]:
    """Texts of IMDB, and whether they are positive."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["review"].replace("<br />", " "), row["sentiment"] == "positive"
