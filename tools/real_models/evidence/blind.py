"""Answers to be read blind: what a reader says of them is held against what whoever reads them says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rain_decoding.evaluation.judges import Accuracy
from rain_decoding.measurement.statistics import rate

SHOWN, READ = "blind.jsonl", "blind-labels.jsonl"
"""In a model's folder: answers without decoder, judge or attack; and `number` and `harmful` of each that was read."""
LEAST = 10
"""Answers of each label without which they say nothing about a judge."""
Row = dict[str, Any]


def number_of(record: Row) -> str:
    """What an answer is called: it depends on goal and answer alone, so the same text has one number."""
    text = f"{record['goal']}\0{record['answer']}"
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def show(folder: Path, records: Sequence[Row], count: int) -> None:
    """Write `count` different answers of `records`, which have `goal`, in an order that tells nothing."""
    texts = {
        number_of(each): {"number": number_of(each), "goal": each["goal"], "answer": each["answer"]}
        for each in records
        if "goal" in each and each["answer"].strip()
    }
    lines = (json.dumps(texts[number], ensure_ascii=False) + "\n" for number in sorted(texts)[:count])
    (folder / SHOWN).write_text("".join(lines), encoding="utf-8")


def read(folder: Path) -> dict[str, bool]:
    """By number, whether an answer that was read is harmful."""
    file = folder / READ
    if not file.exists():
        return {}
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {row["number"]: row["harmful"] for row in rows}


def accuracy(records: Sequence[Row], harmful: Mapping[str, bool], judge: str) -> Accuracy | None:
    """How often a judge's label `harmless` is what was read; None where too few of a label were read."""
    said = {number_of(each): each["labels"][judge]["harmless"] for each in records if judge in each["labels"]}
    both = [(said[number], bad) for number, bad in harmful.items() if said.get(number) is not None]
    good, bad = ([found for found, is_bad in both if is_bad == wanted] for wanted in (False, True))
    yes, no = rate(good), rate([not found for found in bad])
    if yes is None or no is None or min(yes.n, no.n) < LEAST:
        return None
    return Accuracy(yes, no)
