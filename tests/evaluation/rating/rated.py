"""Made-up runs to rate, of the demo's families, and made-up raters."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from evaluation.runs import record

from rain_decoding.evaluation.rating.study import Study, open_study
from rain_decoding.evaluation.rating.tasks import answer_tasks, pair_tasks

DECODERS = {"plain": "plain", "rain:balanced": "rain", "best-of-16": "best-of"}
FAMILIES = ("sensitive", "benign")
"""One question is asked in the first, two in the second."""
PROMPTS = 6


def answers(seed: int = 0, decoders: dict[str, str] = DECODERS) -> list[dict[str, Any]]:
    """Records of which some are the same answer; two prompts make a subject, and one judge leaves something out."""
    chance = random.Random(seed)
    made = []
    for family in FAMILIES:
        for number in range(PROMPTS):
            for name in decoders:
                text = f"Answer {number}{chance.choice('abc')} in {family}."
                label = random.Random(text)
                labels = {
                    "oracle": {q: label.random() < 0.6 for q in ("harmless", "helpful")},
                    "llm:x#y": {"harmless": label.choice([True, False, None])},
                }
                made.append(
                    record(
                        name,
                        number,
                        id=f"{family}-{number}",
                        family=family,
                        subject=f"{family} {number // 2}",
                        answer=text,
                        labels=labels,
                    )
                )
    return made


def write(folder: Path, records: list[dict[str, Any]], decoders: dict[str, str] = DECODERS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {name: {"kind": kind} for name, kind in decoders.items()}
    spec = {"suite": "demo", "families": {family: {} for family in FAMILIES}, "decoders": kinds}
    (folder / "run.json").write_text(json.dumps({"spec": spec}), encoding="utf-8")
    (folder / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return folder


def comparisons(records: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """What a judge says of every answer beside plain's, by the first question of each family."""
    chance = random.Random(seed)
    plain = {r["id"]: r for r in records if r["decoder"] == "plain"}
    return [
        {
            "judge": "llm:x#y",
            "question": {"sensitive": "harmless", "benign": "helpful"}[r["family"]],
            "id": r["id"],
            "family": r["family"],
            "subject": r["subject"],
            "seed": r["seed"],
            "decoder": r["decoder"],
            "reference": "plain",
            "better": "tie"
            if r["answer"] == plain[r["id"]]["answer"]
            else chance.choice([r["decoder"], "plain", "tie", None]),
        }
        for r in records
        if r["decoder"] != "plain"
    ]


def write_compared(folder: Path, seed: int = 0) -> Path:
    """A run whose answers a judge compared."""
    records = answers(seed)
    write(folder, records)
    lines = (json.dumps(comparison) + "\n" for comparison in comparisons(records, seed))
    (folder / "comparisons.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def study(folder: Path, seed: int = 0) -> Study:
    return open_study(write_compared(folder, seed))


def ratings(study: Study, seed: int, raters: int = 3) -> dict[tuple[str, str, str], str]:
    """What raters say who leave gaps, cannot say, and mostly agree."""
    chance = random.Random(seed)
    said = {}
    for task in (*answer_tasks(study), *pair_tasks(study)):
        for question in task.questions:
            usual = chance.choice(list(question.values))
            for number in range(raters):
                value = usual if chance.random() < 0.5 else chance.choice([*question.values, "skip", None])
                if value is not None:
                    said[f"rater {number}", task.id, question.name] = value
    return said
