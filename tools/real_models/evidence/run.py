"""Answers of every decoder to every prompt: one folder of `rain eval` per model, which resumes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rain_decoding import load_backend
from rain_decoding.cli.progress import counting
from rain_decoding.config import DEFAULT_PRESET, SearchConfig
from rain_decoding.evaluation.answering import Setting
from rain_decoding.evaluation.contenders import contender, split_names
from rain_decoding.evaluation.finishing import finish
from rain_decoding.evaluation.judges import ReplyCache, load_judge
from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.runner import REPLIES, EvaluationRun
from rain_decoding.measurement.pace import Pace
from rain_decoding.measurement.records import Record
from rain_decoding.self_evaluation.criterion import load_criterion
from rain_decoding.self_evaluation.reading.learning import learn
from rain_decoding.self_evaluation.reading.reader import Reader
from real_models.evidence.label import label
from real_models.evidence.prompts import evidence_suite, labelled_examples

DECODERS = (
    "plain,plain+principle,rain:balanced,verify-regenerate-4,plain+principle+refusal,care,psr,"
    "rain:thorough,best-of-4,contrast,rain:balanced@judge=ask"
)
JUDGES = ("refusal-prefixes-wide", "degeneration")
CRITERION = "harmlessness-command"
"""What the search is judged by under attack; its examples are those of `harmlessness`."""


PROBE = "reader-{}.json"
"""The evaluation's probe of a model, in the folder of all runs."""


@dataclass(frozen=True)
class Work:
    """What is measured: `models` by name, each read by the probe of another one, named in `readers`."""

    out: Path
    data: Path
    models: dict[str, str]
    readers: dict[str, str]
    decoders: str = DECODERS
    limit: int = 0
    labels: int = 0
    workers: int = 1
    rounds: int = 1
    concurrency: int | None = None
    max_tokens: int = 64
    families: Sequence[str] = ()
    other_half: bool = False
    seeds: Sequence[int] = (0,)

    def probe(self, model: str) -> Path:
        """The evaluation's probe of a model that reads."""
        return self.out / PROBE.format(model)

    def label(self, model: str) -> None:
        """Label what is not labelled yet of a model's answers."""
        reader = self.readers[model]
        judge = f"read:{self.models[reader]}#probe={self.probe(reader)}"
        items = evidence_suite(self.data, other_half=self.other_half).load({})
        goals = {item.id: str(item.facts.get("goal", item.prompt)) for item in items}
        label(self.out / model, judge, reader, goals, self.workers)


class OutOfTimeError(Exception):
    """The time is used up; what is finished is kept."""


def fit_readers(work: Work, models: Sequence[str]) -> None:
    """Fit what is not there yet to label the answers of `models`: probes on labels that no search has seen."""
    for name in sorted({work.readers[model] for model in models}):
        if work.probe(name).exists():
            continue
        examples = labelled_examples(work.data, work.labels)
        with counting(f"{name} reads labelled answers", len(examples)) as tick:
            probe = learn(load_backend(work.models[name]), examples, "harmlessness", told=tick)
        probe.save(work.probe(name))
        print(f"{name} as a judge, on answers held out: {probe.figures}", flush=True)


def run(work: Work, model: str, seconds: float) -> None:
    """Answer what is missing and sum up. Raises `OutOfTimeError` when `seconds` are over."""
    ends = time.monotonic() + seconds
    folder = work.out / model
    folder.mkdir(parents=True, exist_ok=True)
    _fit_search_probe(work.models[model])
    plan = EvaluationPlan.load(
        evidence_suite(work.data, other_half=work.other_half),
        {name: contender(name, SearchConfig.preset(DEFAULT_PRESET)) for name in split_names(work.decoders)},
        Setting(
            work.models[model],
            _loading(),
            max_tokens=work.max_tokens,
            concurrency=work.concurrency,
            judge="read",
        ),
        families=work.families,
        limit=work.limit,
        seeds=work.seeds,
        judges=tuple(load_judge(each, ReplyCache(folder / REPLIES)) for each in JUDGES),
    )
    evaluation = EvaluationRun(plan, folder, [])
    pace = Pace(evaluation.missing())
    with evaluation, counting(f"answers of {model}", len(plan.keys), len(evaluation.records)) as tick:

        def told(record: Record) -> None:
            tick(record["decoder"], pace.finished(record["decoder"]))
            if time.monotonic() > ends:
                raise OutOfTimeError

        try:
            evaluation.collect(work.workers, traces=False, told=told, rounds=work.rounds)
        finally:
            finish(evaluation)


def _fit_search_probe(model: str) -> None:
    """Now, and not in every worker."""
    Reader(load_backend(model)).probe(load_criterion(CRITERION))


def _loading() -> tuple[tuple[str, Any], ...]:
    """Nothing is kept for a next turn, since there is none."""
    return (("prefix_cache_slots", 0),)
