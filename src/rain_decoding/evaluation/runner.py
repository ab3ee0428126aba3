"""Runs an evaluation in its folder: answers, labels, records; goes on where an earlier run stopped."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from textwrap import shorten
from types import NoneType
from typing import Any

from filelock import FileLock

from rain_decoding.errors import InputError
from rain_decoding.evaluation import provenance
from rain_decoding.evaluation.answering import answer
from rain_decoding.evaluation.judges import Judge, Label
from rain_decoding.evaluation.pairwise import JUDGING, compare
from rain_decoding.evaluation.plan import EvaluationPlan, Key
from rain_decoding.evaluation.suites import Family, Item
from rain_decoding.files import NEW, read_text, write_whole
from rain_decoding.measurement.records import LOCK, Record, RecordFile, lock_folder
from rain_decoding.measurement.workers import run_jobs

RUN, RECORDS, TRACES, COMPARISONS = "run.json", "records.jsonl", "traces", "comparisons.jsonl"
KEYS = {"id": str, "family": str, "decoder": str, "seed": int, "answer": str, "labels": dict}
"""What every record has."""
COMPARED = {
    **dict.fromkeys(("judge", "question", "id", "decoder", "reference"), str),
    "seed": int,
    "better": (str, NoneType),
}
"""What every comparison has."""
REPLIES = "judge-replies.sqlite"
"""What endpoints as judges said, unless the file is chosen."""
LONGEST = 60
"""Characters of a value that a message shows."""


def key(record: Record) -> Key:
    """What a record answers."""
    return record["id"], record["decoder"], record["seed"]


class EvaluationRun:
    """An evaluation and its folder, which is its own until it is left or the process ends.

    Raises `InputError` where the folder holds a run of something else, naming the difference, or is another process's.
    """

    def __init__(self, plan: EvaluationPlan, folder: Path, arguments: list[str]):
        self.plan, self.folder = plan, folder
        self.lock = open_folder(folder, plan.describe(), arguments)
        self.file = RecordFile(folder / RECORDS, KEYS)
        wanted = plan.keys
        self.records = list({key(r): r for r in self.file.read() if key(r) in wanted}.values())
        self._again: dict[Key, int] = {}

    def __enter__(self) -> EvaluationRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def collect(self, workers: int, traces: bool, told: Callable[[Record], Any], rounds: int = 1) -> None:
        """Answer and label what is missing; `told` hears of every new record once it is written.

        For `rounds` see `EvaluationPlan.jobs`.
        """
        self._label_again()
        self._again = self.unjudged()
        done = self.done()
        folder = (self.folder / TRACES).absolute() if traces else None
        jobs = list(self.plan.jobs(done, workers, folder, rounds))
        answers = run_jobs(jobs, answer, workers)
        try:
            for record in _labelled(answers, self.plan):
                self.add(record)
                told(record)
        finally:
            answers.close()  # type: ignore[attr-defined]

    def done(self) -> set[Key]:
        """What was answered, and need not be made again."""
        return {key(record) for record in self.records if not is_unjudged(record)}

    def unjudged(self) -> dict[Key, int]:
        """Numbers of the answers whose own judge's server did not answer. `collect` makes them again."""
        return {key(record): number for number, record in enumerate(self.records) if is_unjudged(record)}

    def unlabelled(self) -> dict[str, list[str]]:
        """By judge, why it could not label answers that there are."""
        found: dict[str, list[str]] = {}
        for record in self.records:
            for judge, label in record["labels"].items():
                if _failed(record, label):
                    found.setdefault(judge, []).append(label["problem"])
        return found

    def _label_again(self) -> None:
        """A judge that failed may have come back since."""
        failed = [r for r in self.records if any(_failed(r, label) for label in r["labels"].values())]
        if failed:
            again = {key(record): record for record in _labelled(iter(failed), self.plan)}
            self.records = [again.get(key(record), record) for record in self.records]
            self.file.write(self.records)

    def add(self, record: Record) -> None:
        """Keep a record, in place of one that could not be judged."""
        if (number := self._again.pop(key(record), None)) is None:
            self.file.append(record)
            self.records.append(record)
        else:
            self.records[number] = record
            self.file.write(self.records)

    def missing(self) -> Counter[str]:
        """By decoder, how many answers there are still to be."""
        return Counter(decoder for _, decoder, _ in self.plan.keys - self.done())

    def kept(self) -> int:
        """Judged answers that the file holds: after Ctrl-C, one more may have been written than was counted."""
        return sum(not is_unjudged(record) for record in self.file.read())

    def compare(self) -> list[Record]:
        """The answers compared two by two, if that was asked for; kept in a file of their own."""
        if not self.plan.pairwise:
            return []
        comparisons = compare(self.records, self.plan)
        RecordFile(self.folder / COMPARISONS, COMPARED).write(comparisons)
        return comparisons


def is_unjudged(record: Record) -> bool:
    """Whether an answer has no score because its own judge's server did not answer; a search may have left off."""
    return record["score"] is None and bool(record["usage"].get("unreached"))


def open_folder(folder: Path, description: Any, arguments: list[str]) -> FileLock:
    """Write a run's `run.json`, or compare with what is there; the folder is this process's from now on.

    A run that failed before its first answer is nothing to compare with.

    Raises `InputError` where the folder holds something else, naming the difference, or is another process's.
    """
    path, spec = folder / RUN, json.loads(json.dumps(description))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() and _began(folder):
            raise InputError(f"{folder} is not empty and contains no {RUN}", hint="choose a new --out")
        lock = lock_folder(folder)
        try:
            if not _holds(path, spec):
                said = {"arguments": arguments, "spec": spec, "environment": provenance.environment()}
                write_json(path, said)
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        raise InputError(f"--out {folder}: {error.strerror}", hint="choose another folder") from error
    return lock


def _holds(path: Path, spec: Any) -> bool:
    """Whether the folder's run is this one. Raises `InputError` where it is another one that began."""
    if not path.exists():
        return False
    differences = list(_differences(read_run(path.parent)["spec"], spec))
    if differences and _began(path.parent):
        raise InputError(
            f"{path.parent} contains a run with other options: {'; '.join(differences)}",
            hint="choose a new --out, or rerun with the original options",
        )
    return not differences


def _began(folder: Path) -> bool:
    """Whether a folder holds more than the description of a run, which may have failed before its first answer."""
    others = (RUN, REPLIES, LOCK)
    return any(file.suffix != NEW and file.name not in others for file in folder.iterdir())


def _failed(record: Record, label: dict[str, Any]) -> bool:
    return bool(label.get("problem")) and not record.get("problem") and not label["malformed"]


def _labelled(answers: Iterator[Record], plan: EvaluationPlan) -> Iterator[Record]:
    """The records in their order, with labels; some are judged while further answers are awaited."""
    items = {item.id: item for item in plan.items}
    families = {family.name: family for family in plan.suite.families}
    with ThreadPoolExecutor(JUDGING) as pool:
        waiting: deque[tuple[Record, Future[dict[str, Any]]]] = deque()
        for record in answers:
            item, family = items[record["id"]], families[record["family"]]
            waiting.append((record, pool.submit(_labels, plan.judges, family, item, record)))
            while waiting and (waiting[0][1].done() or len(waiting) > JUDGING):
                yield _with_labels(*waiting.popleft())
        while waiting:
            yield _with_labels(*waiting.popleft())


def _with_labels(record: Record, labels: Future[dict[str, Any]]) -> Record:
    return {**record, "labels": labels.result()}


def _labels(judges: tuple[Judge, ...], family: Family, item: Item, record: Record) -> dict[str, Any]:
    """What each judge says of an answer. Where there is none, nobody is asked and all is unscored."""
    asked = {metric.question: None for metric in family.metrics}
    labels = {}
    for judge in judges:
        questions = [question for question in asked if question in judge.questions]
        if questions:
            if problem := record.get("problem"):
                label = Label(dict.fromkeys(questions), problem=problem)
            else:
                label = judge.label(item, record["answer"], questions)
            labels[judge.name] = label.as_json()
    return labels


def read_run(folder: Path) -> dict[str, Any]:
    """The `run.json` of a folder. Raises `InputError` where there is none."""
    try:
        run = json.loads(read_text(folder / RUN))
        run["spec"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{folder} contains no run of rain eval: {error}", hint="use the --out folder of a rain eval"
        ) from error
    return run


def write_json(path: Path, value: Any) -> None:
    """Write a file whole or not at all."""
    write_whole(path, (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "replace"))


def _differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """Where two values of JSON differ, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [*before, *(name for name in now if name not in before)]:
            yield from _differences(before.get(name), now.get(name), f"{place}.{name}" if place else name)
    elif before != now:
        was, is_now = (shorten(json.dumps(value), LONGEST, placeholder=" ...") for value in (before, now))
        yield f"{place} was {was}, now {is_now}"
