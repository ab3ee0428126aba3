"""Made-up runs of the paper's analyses: every answer is there, with labels and costs drawn at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rain_decoding.evaluation.analyses import Analysis, Findings
from rain_decoding.evaluation.answering import Setting
from rain_decoding.evaluation.judges import ReplyCache, load_judge
from rain_decoding.evaluation.paper import PaperPlan, PaperRun, choose_analyses, choose_suites
from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.runner import EvaluationRun
from rain_decoding.evaluation.summary import COSTS, summarise


def record(plan: EvaluationPlan, number: int, decoder: str, seed: int, rng: random.Random) -> dict[str, Any]:
    """An answer whose labels and costs mean nothing. One in ten has no label, one in ten no score."""
    sample = plan.items[number]
    family = next(family for family in plan.suite.families if family.name == sample.family)
    labels: dict[str, Any] = {}
    for judge in plan.judges:
        labels[judge.name] = {
            metric.question: rng.choice([True, False]) if rng.random() > 0.1 else None
            for metric in family.metrics
            if metric.question in judge.questions
        } | {"malformed": rng.random() < 0.05}
    return {
        "id": sample.id,
        "family": sample.family,
        "subject": sample.subject,
        "prompt": sample.prompt,
        "format": "dialogue",
        "decoder": decoder,
        "seed": seed,
        "answer": f"Answer <b>{number}</b>",
        "finish_reason": "stop",
        "score": rng.choice([-1.0, -0.5, 0.0, 0.5, 1.0]) if rng.random() > 0.1 else None,
        "usage": {cost: rng.randint(1, 900) for cost in COSTS},
        "trace": None,
        "labels": labels,
    }


def fill(run: EvaluationRun, seed: int = 0) -> None:
    """Give a run all its answers."""
    rng = random.Random(seed)
    for decoder in run.plan.contenders:
        for draw in run.plan.seeds:
            for number in range(len(run.plan.items)):
                run.add(record(run.plan, number, decoder, draw, rng))


def paper_run(
    folder: Path,
    model: str = "demo",
    data: dict[str, Path] | None = None,
    only: Sequence[str] = (),
    *,
    limit: int = 4,
    seeds: tuple[int, ...] = (0, 1),
    filled: bool = True,
) -> PaperRun:
    """A run, by default with all its answers."""
    cache = ReplyCache(folder / "replies")
    plan = PaperPlan(
        Setting(model),
        choose_suites(data or {}, of_demo=model == "demo"),
        (),
        lambda suite: [load_judge(name, cache) for name in suite.judges],
        choose_analyses(only),
        limit,
        seeds,
    )
    run = PaperRun(plan, folder / "run", ["eval", "paper"])
    for number, (_, own) in enumerate(run.runs):
        if filled:
            fill(own, number)
    return run


def findings(run: PaperRun) -> dict[str, tuple[Analysis, Findings, list[str]]]:
    """What it all says, by analysis."""
    summaries = {own.folder: summarise(own.records, own.plan) for _, own in run.runs}
    return {analysis.name: (analysis, found, missing) for analysis, found, missing in run.findings(summaries)}
