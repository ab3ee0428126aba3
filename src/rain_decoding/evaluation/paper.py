"""The paper's analyses on one model: their experiments, each a run of its own, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rain_decoding.config import DEFAULT_PRESET, SearchConfig
from rain_decoding.errors import InputError
from rain_decoding.evaluation import provenance
from rain_decoding.evaluation.analyses import ANALYSES, Analysis, Experiment, Findings, Part, Table
from rain_decoding.evaluation.analyses.paper_figures import paper_table
from rain_decoding.evaluation.answering import Setting
from rain_decoding.evaluation.contenders import contender
from rain_decoding.evaluation.judges import Judge
from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.runner import EvaluationRun, key
from rain_decoding.evaluation.suites import SUITES, Family, Suite
from rain_decoding.measurement.records import Record

Files = Mapping[str, Path | None]


@dataclass(frozen=True)
class PaperPlan:
    """What is asked: `analyses` of the model in `setting`, on `limit` prompts (0: all) of each family and `seeds`.

    `suites` are those that there are data for. Of `judges` each suite is labelled by those that can, or by its own.
    The tokens of an answer are at most `max_tokens`, None: as many as the suite has it.
    """

    setting: Setting
    suites: Sequence[tuple[Suite, Files]]
    judges: Sequence[Judge]
    own_judges: Callable[[Suite], Sequence[Judge]]
    analyses: Sequence[Analysis]
    limit: int = 20
    seeds: tuple[int, ...] = (0,)
    max_tokens: int | None = None

    @property
    def experiments(self) -> list[Experiment]:
        """What the analyses need, each once."""
        return list({analysis.experiment.name: analysis.experiment for analysis in self.analyses}.values())

    def plans(self) -> Iterator[tuple[Experiment, EvaluationPlan | str]]:
        """The runs of each experiment, or why there is none: one per suite and criterion."""
        for suite, files in self.suites:
            present = {item.family for item in suite.load(files)}
            families = [family for family in suite.families if family.name in present]
            for experiment in self.experiments:
                chosen = experiment.families(families)
                for criterion in dict.fromkeys(family.criterion for family in chosen):
                    own = [family for family in chosen if family.criterion == criterion]
                    yield experiment, self._plan(experiment, suite, files, own)

    def _plan(
        self, experiment: Experiment, suite: Suite, files: Files, families: Sequence[Family]
    ) -> EvaluationPlan | str:
        asked = {metric.question for family in families for metric in family.metrics}
        judges = [judge for judge in self.judges or self.own_judges(suite) if asked & set(judge.questions)]
        names = [family.name for family in families]
        if not judges:
            return f"{suite.name}, {', '.join(names)}: no judge labels what is {' or '.join(sorted(asked))}"
        setting = replace(self.setting, max_tokens=self.max_tokens or suite.max_tokens)
        config = SearchConfig.preset(DEFAULT_PRESET)
        return EvaluationPlan.load(
            suite,
            {name: contender(name, config) for name in experiment.decoders(suite, families)},
            replace(setting, concurrency=1) if experiment.alone else setting,
            data=files,
            families=tuple(names),
            limit=self.limit,
            seeds=self.seeds,
            judges=tuple(judges),
        )


class PaperRun:
    """The runs of the paper's analyses, in folders of one folder, which are its own until it is left.

    Raises `InputError` where a folder holds something else, or nothing is left to run.
    """

    def __init__(self, plan: PaperPlan, folder: Path, arguments: list[str]):
        self.plan, self.folder, self.arguments = plan, folder, arguments
        found = list(plan.plans())
        self.skipped = list(dict.fromkeys(reason for _, reason in found if isinstance(reason, str)))
        plans = [(experiment, own) for experiment, own in found if isinstance(own, EvaluationPlan)]
        if not plans:
            raise InputError(
                "there is nothing to run for these analyses" + "".join(f"; {s}" for s in self.skipped),
                hint="choose --data and --judge that these analyses can use",
            )
        _check_folder(folder)
        self.runs = [
            (experiment, EvaluationRun(own, folder / experiment.name / _part_name(own), arguments))
            for experiment, own in plans
        ]

    def __enter__(self) -> PaperRun:
        return self

    def __exit__(self, *details: object) -> None:
        for _, run in self.runs:
            run.lock.release()

    @property
    def answers(self) -> int:
        """How many answers there are."""
        return sum(len(run.records) for _, run in self.runs)

    @property
    def wanted(self) -> int:
        """How many answers there are to be."""
        return sum(len(run.plan.keys) for _, run in self.runs)

    def collect(self, workers: int, told: Callable[[Record], Any]) -> None:
        """Answer and label what is missing. An answer that one run has is not made again for another."""
        for _, run in self.runs:
            for record in list(self._known(run)):
                run.add(record)
                told(record)
            run.collect(workers, False, told)

    def _known(self, run: EvaluationRun) -> Iterator[Record]:
        """Missing answers that other runs gave under the same conditions."""
        missing = run.plan.keys - {key(record) for record in run.records}
        for _, other in self.runs:
            if other is not run and _conditions(other.plan) == _conditions(run.plan):
                for record in other.records:
                    if key(record) in missing:
                        missing.discard(key(record))
                        yield record

    def findings(
        self, summaries: Mapping[Path, dict[str, Any]]
    ) -> list[tuple[Analysis, Findings, list[str]]]:
        """What each analysis finds, and why there is nothing where it finds nothing."""
        found = []
        for analysis in self.plan.analyses:
            parts = [
                Part(run.plan, run.records, run.folder, summaries[run.folder])
                for experiment, run in self.runs
                if experiment == analysis.experiment
            ]
            findings = analysis.find(parts)
            beside = paper_table(analysis.name, self.plan.setting.model)
            if parts and beside:
                findings = replace(findings, tables=[*findings.tables, beside])
            found.append((analysis, findings, [] if parts else [analysis.without]))
        return found

    def summary(self, found: Sequence[tuple[Analysis, Findings, list[str]]]) -> dict[str, Any]:
        """Everything the report shows but for the plots, as JSON."""
        return {
            "model": self.plan.setting.model,
            "seeds": list(self.plan.seeds),
            "limit": self.plan.limit,
            "answers": self.answers,
            "code": provenance.code(),
            "arguments": self.arguments,
            "runs": [
                {
                    "folder": run.folder.relative_to(self.folder).as_posix(),
                    "answers": len(run.records),
                    "decoders": list(run.plan.contenders),
                }
                for _, run in self.runs
            ],
            "skipped": self.skipped,
            "analyses": [
                {
                    "name": analysis.name,
                    "title": analysis.title,
                    "reading": analysis.reading,
                    "missing": missing,
                    "same_judge": self._same_judge(analysis),
                    "notes": list(findings.notes),
                    "tables": [_as_json(table) for table in findings.tables],
                }
                for analysis, findings, missing in found
            ],
        }

    def _same_judge(self, analysis: Analysis) -> list[list[str]]:
        """Judges of the evaluation, each with a decoder whose search asked the same one."""
        runs = [run for experiment, run in self.runs if experiment == analysis.experiment]
        return [list(pair) for pair in dict.fromkeys(pair for run in runs for pair in run.plan.same_judge())]


def choose_analyses(names: Sequence[str]) -> list[Analysis]:
    """The analyses of these names; without any, all. Raises `InputError` naming those there are."""
    for name in names:
        if name not in ANALYSES:
            raise InputError(f"unknown analysis {name!r}", hint=f"analyses: {', '.join(ANALYSES)}")
    return [ANALYSES[name] for name in names or ANALYSES]


def choose_suites(data: Mapping[str, Path], *, of_demo: bool) -> list[tuple[Suite, Files]]:
    """The suites that files are given for, with them; for a demo model its own, whatever files there are.

    Raises `InputError` for a name that no suite reads, and for another model without data.
    """
    demo = SUITES["demo"]
    suites = [demo] if of_demo else [suite for suite in SUITES.values() if suite is not demo]
    known = {name for suite in suites for name in suite.sources}
    for name in data:
        if name not in known:
            raise InputError(
                f"--data {name} is unknown",
                hint=f"names: {', '.join(sorted(known)) or 'none'}",
            )
    if of_demo:
        packaged = {name: source.packaged for name, source in demo.sources.items() if source.packaged}
        return [(demo, {**packaged, **data})]
    chosen = [(suite, {n: f for n, f in data.items() if n in suite.sources}) for suite in suites]
    if not data:
        raise InputError(
            "there are no prompts",
            hint=f"use --data NAME=FILE with one of {', '.join(sorted(known))}, or --data demo for a demo model",
        )
    return [(suite, files) for suite, files in chosen if files]


def _conditions(plan: EvaluationPlan) -> tuple[Any, ...]:
    """All that an answer and its labels depend on beside prompt, decoder and seed."""
    return (
        plan.suite.name,
        plan.setting,
        plan.used_families[0].criterion,
        [(judge.name, judge.version) for judge in plan.judges],
    )


def _part_name(plan: EvaluationPlan) -> str:
    return f"{plan.suite.name}-{plan.used_families[0].criterion}"


def _check_folder(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        known = {analysis.experiment.name for analysis in ANALYSES.values()}
        if not any((folder / name).is_dir() for name in known):
            raise InputError(
                f"{folder} is not empty and contains none of the paper's analyses",
                hint="choose a new --out",
            )


def _as_json(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "columns": [asdict(column) for column in table.columns],
        "rows": table.rows,
    }
