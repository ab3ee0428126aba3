"""What raters are shown: answers without who gave them, in an order of each rater's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rain_decoding.evaluation.rating.questions import Question, about_one, about_two
from rain_decoding.evaluation.rating.study import Study
from rain_decoding.measurement.records import Record
from rain_decoding.search.randomness import derive_seed, uniforms


@dataclass(frozen=True, slots=True)
class Task:
    """One answer to a prompt, or two beside each other, with what is asked about them.

    Neither it nor its id says who answered: the same answer by several decoders or seeds is one task.
    """

    id: str
    prompt: str
    format: str
    answers: tuple[str, ...]
    questions: tuple[Question, ...]


def answer_id(record: Record) -> str:
    """A name of prompt and answer, whoever gave it."""
    return _digest(record["id"], record["answer"])


def pair_id(one: Record, other: Record) -> str:
    """A name of two answers to a prompt, in either order."""
    return _digest("pair", *sorted((answer_id(one), answer_id(other))))


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def answer_tasks(study: Study) -> list[Task]:
    """Every answer of the study, once."""
    tasks: dict[str, Task] = {}
    for record in study.records:
        questions = tuple(about_one(name) for name in _asked(study, record))
        task = Task(answer_id(record), record["prompt"], record["format"], (record["answer"],), questions)
        tasks.setdefault(task.id, task)
    return list(tasks.values())


def pair_tasks(study: Study) -> list[Task]:
    """Every decoder's answer beside the reference's to the same prompt and seed, where they differ.

    The question is the first one of the family. First is the answer whose id is the smaller one.
    """
    tasks: dict[str, Task] = {}
    for ours, theirs in pairs(study):
        if ours["answer"] != theirs["answer"]:
            answers = tuple(record["answer"] for record in sorted((ours, theirs), key=answer_id))
            question = about_two(_asked(study, ours)[0])
            task = Task(pair_id(ours, theirs), ours["prompt"], ours["format"], answers, (question,))
            tasks.setdefault(task.id, task)
    return list(tasks.values())


def pairs(study: Study) -> Iterator[tuple[Record, Record]]:
    """Each other decoder's record with the reference's for the same prompt and seed, where there is one."""
    reference = {(r["id"], r["seed"]): r for r in study.records if r["decoder"] == study.reference}
    for record in study.records:
        theirs = reference.get((record["id"], record["seed"]))
        if theirs is not None and record["decoder"] != study.reference:
            yield record, theirs


def _asked(study: Study, record: Record) -> list[str]:
    return list(dict.fromkeys(metric.question for metric in study.metrics[record["family"]]))


def for_rater(tasks: Sequence[Task], rater: str) -> list[Task]:
    """The tasks in this rater's order, and two answers on this rater's sides. The same at every call."""
    ordered = sorted(tasks, key=lambda task: task.id)
    order = uniforms(derive_seed(0, (), f"order of {rater}")).permutation(len(ordered))
    return [_sided(ordered[index], rater) for index in order]


def _sided(task: Task, rater: str) -> Task:
    if len(task.answers) == 1 or derive_seed(0, (), f"sides of {task.id} for {rater}") % 2:
        return task
    questions = tuple(question.turned() for question in task.questions)
    return replace(task, answers=task.answers[::-1], questions=questions)
