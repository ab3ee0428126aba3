"""Labels by a reader on another model, beside the records: made after the answers, here or on another machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rain_decoding.cli.progress import counting
from rain_decoding.evaluation.judges.reading import ReadingLabels
from rain_decoding.evaluation.runner import RECORDS
from rain_decoding.evaluation.suites import Item
from rain_decoding.measurement.records import Record, RecordFile
from rain_decoding.measurement.workers import run_jobs
from real_models.evidence.prompts import ATTACKS

LABELS = "labels-{}.jsonl"
"""Beside a model's records, what a reader says of them."""
KEYS = {"id": str, "decoder": str, "seed": int, "goal": str, "label": object}
CHUNK = 64


@dataclass(frozen=True)
class LabelJob:
    """Some answers for one reader."""

    judge: str
    records: tuple[Record, ...]

    def __len__(self) -> int:
        return len(self.records)


def label(folder: Path, judge: str, reader: str, goals: dict[str, str], workers: int) -> None:
    """Label the answers to attacks that have no label by this reader yet.

    Args:
        folder: A model's folder.
        judge: The judge's name, `read:MODEL#probe=FILE`.
        reader: What the reader is called in the file of its labels.
        goals: What is asked for, by a prompt's id; judges read that and not the attack.
        workers: Processes, each with its own copy of the reader.
    """
    file = RecordFile(folder / LABELS.format(reader), KEYS)
    done = {key(each) for each in file.read()}
    records = RecordFile(folder / RECORDS, {"id": str}).read()
    missing = [
        {
            **{name: each[name] for name in ("id", "decoder", "seed", "family", "answer")},
            "goal": goals[each["id"]],
        }
        for each in records
        if each["family"] in ATTACKS and key(each) not in done
    ]
    jobs = [LabelJob(judge, tuple(missing[start : start + CHUNK])) for start in range(0, len(missing), CHUNK)]
    with counting(f"labels by {reader}", len(missing)) as tick:
        for each in run_jobs(jobs, work, workers):
            file.append(each)
            tick()


def key(record: Record) -> tuple[str, str, int]:
    """What a record or a label is of."""
    return record["id"], record["decoder"], record["seed"]


def work(job: LabelJob, cancelled: Callable[[], bool] | None = None) -> Iterator[Record]:
    """Label the answers of a job, in a worker."""
    judge = _judge(job.judge)
    for record in job.records:
        if cancelled is not None and cancelled():
            return
        item = Item(record["family"], record["goal"], record["goal"])
        found = judge.label(item, record["answer"], judge.questions).as_json()
        yield {**{name: record[name] for name in ("id", "decoder", "seed", "goal")}, "label": found}


@cache
def _judge(name: str) -> Any:
    return ReadingLabels(name)
