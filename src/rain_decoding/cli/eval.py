"""`rain eval`: decoders answer a suite's prompts, judges label the answers, a report says what came out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text

from rain_decoding.backends import read_options
from rain_decoding.cli import options as o
from rain_decoding.cli.output import err, new_table, out, print_json, status
from rain_decoding.cli.paper import NAME as PAPER
from rain_decoding.cli.paper import evaluate_paper
from rain_decoding.cli.progress import collecting, warn_of_unlabelled
from rain_decoding.config import DEFAULT_PRESET, SearchConfig
from rain_decoding.errors import InputError
from rain_decoding.evaluation.contenders import SYNONYMS, contender, split_names
from rain_decoding.evaluation.judges import JUDGES, Judge, ReplyCache, load_judge
from rain_decoding.evaluation.report.formats import percent
from rain_decoding.evaluation.suites import SUITES, Suite, load_suite
from rain_decoding.self_evaluation.loading import JUDGE_FORMS

DECODERS = "plain,plain-sampled,rain:balanced"
NO_JUDGE, ORACLE = "none", "oracle"


def evaluate(
    context: typer.Context,
    suite: Annotated[str, typer.Argument(help=f"The suite to run: {', '.join(SUITES.own)}; or {PAPER}.")],
    folder: Annotated[
        Path, typer.Option("--out", help="Folder of the run; repeating the command resumes it.")
    ],
    model: o.Model = "demo",
    decoders: Annotated[
        str,
        typer.Option(help=o.DECODER_NAMES),
    ] = DECODERS,
    limit: Annotated[int, typer.Option(min=0, help="Number of prompts per family; 0: all.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Number of decoding seeds: 0, 1, ...")] = 1,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FILE",
            help="A file of the suite, repeatable; default: the hub. NAME alone: the file that comes with rain; "
            f"of {PAPER}, demo alone: the demo world's prompts, for another model of that world.",
        ),
    ] = None,
    families: Annotated[str | None, typer.Option(help="Comma-separated; default: all of the suite.")] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            help=escape(f"The judge that labels the answers, repeatable: {JUDGES.own_forms}, {NO_JUDGE}.")
        ),
    ] = None,
    pairwise: Annotated[
        bool,
        typer.Option("--pairwise", help="Also compare answers in pairs, with the judges that support it."),
    ] = False,
    judge_cache: Annotated[
        Path | None, typer.Option(help="File with the judges' replies; default: in the run's folder.")
    ] = None,
    criterion: o.CriterionName = None,
    search_judge: Annotated[
        str | None,
        typer.Option(
            help=escape(
                f"Who judges in the searches: {JUDGE_FORMS}. Default: auto; the paper's presets ask. NAME@judge=FORM "
                "says it of one decoder."
            )
        ),
    ] = None,
    embedding: o.EmbeddingName = "hashing",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Maximum tokens per answer; default: the suite's.")
    ] = None,
    temperature: Annotated[
        float,
        typer.Option(min=0, max=100, help="Of plain decoding, alone and in RAIN; 0: greedy."),
    ] = 0.0,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Number of requests decoded at the same time.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes; default: one per core for demo, else one.")
    ] = None,
    traces: Annotated[bool, typer.Option("--traces", help="Save the searches' traces.")] = False,
    device: o.Device = None,
    dtype: o.Dtype = None,
    engine_options: o.EngineOptions = None,
    trust_model_criteria: o.TrustModelCriteria = False,
    only: Annotated[
        str | None,
        typer.Option(
            help=f"With {PAPER}: comma-separated analyses: comparison, ablation, efficiency, self-evaluation, time, "
            "human, noise, attacks; default: all."
        ),
    ] = None,
    json: o.Json = False,
) -> None:
    """Measure decoders on a suite of prompts: records, summary and a report in one folder.

    `paper` runs all of the paper's analyses on one model. Repeating the command resumes a stopped run; no
    answer is lost or decoded twice.
    """
    from rain_decoding.evaluation.answering import Setting
    from rain_decoding.evaluation.finishing import REPORT, finish
    from rain_decoding.evaluation.plan import EvaluationPlan
    from rain_decoding.evaluation.runner import REPLIES, EvaluationRun

    workers = workers or (os.cpu_count() or 1 if model == "demo" else 1)
    how = loading(model, device, dtype, engine_options, embedding, trust_model_criteria=trust_model_criteria)
    if suite == PAPER:
        _only_for_suites(decoders, families, pairwise, criterion, traces, temperature)
        evaluate_paper(
            context,
            folder,
            Setting(
                model,
                how,
                embedding,
                concurrency=concurrency,
                judge=search_judge,
            ),
            only=split_names(only) if only else (),
            data=data or [],
            judges=judge or [],
            judge_cache=judge_cache,
            limit=limit,
            seeds=seeds,
            max_tokens=max_tokens,
            workers=workers,
            json=json,
        )
        return
    if only is not None:
        raise InputError(
            f"--only selects analyses of {PAPER} and needs it as the suite",
            hint="rain eval paper --only ablation,noise",
        )
    chosen = load_suite(suite)
    config = SearchConfig.preset(DEFAULT_PRESET)
    cache = ReplyCache(judge_cache or folder / REPLIES)
    with status(f"reading {suite}"):
        plan = EvaluationPlan.load(
            chosen,
            {SYNONYMS.get(name, name): contender(name, config) for name in split_names(decoders)},
            Setting(
                model,
                how,
                embedding,
                max_tokens or chosen.max_tokens,
                concurrency,
                judge=search_judge,
                temperature=temperature,
            ),
            data=_data(chosen, data or []),
            families=tuple(families.split(",")) if families else (),
            limit=limit,
            seeds=tuple(range(seeds)),
            criterion=criterion,
            judges=_judges(chosen, judge, cache),
            pairwise=pairwise,
        )
        run = context.with_resource(EvaluationRun(plan, folder, sys.argv[1:]))
    for name, judged_by in plan.same_judge():
        err.print(
            f"[bold red]note:[/] {escape(judged_by)} both labels the answers and is the judge of {name}"
        )
    for name, family in plan.left_out:
        err.print(f"[yellow]note:[/] {name} cannot continue a text, so {family} is left out")
    with collecting(run.kept, len(plan.keys), folder, missing=run.missing()) as told:
        run.collect(workers, traces, told)
    warn_of_unlabelled(run)
    with status("summing up"):
        summary = finish(run)
    if json:
        print_json(summary)
    else:
        print_tables(summary)
    err.print(f"report: {folder / REPORT}", markup=False)


def _only_for_suites(
    decoders: str,
    families: str | None,
    pairwise: bool,
    criterion: str | None,
    traces: bool,
    temperature: float,
) -> None:
    """The paper's analyses choose these themselves."""
    given = {
        "--decoders": decoders != DECODERS,
        "--families": families,
        "--pairwise": pairwise,
        "--criterion": criterion,
        "--traces": traces,
        "--temperature": temperature,
    }
    if names := [name for name, value in given.items() if value]:
        raise InputError(
            f"{PAPER} does not accept {' or '.join(names)}", hint="the analyses set them; see docs/paper.md"
        )


def loading(
    model: str,
    device: str | None,
    dtype: str | None,
    engine_options: Iterable[str] | None,
    embedding: str = "hashing",
    *,
    trust_model_criteria: bool = False,
) -> tuple[tuple[str, Any], ...]:
    """How the model is loaded: nothing is kept for a next turn, since there is none."""
    options: dict[str, Any] = (
        {"prefix_cache_slots": 0} if model.partition(":")[0] in ("demo", "hf", "gguf") else {}
    )
    options |= {name: value for name, value in (("device", device), ("dtype", dtype)) if value is not None}
    options |= read_options(model, engine_options or ())
    if embedding == "hidden":
        options["keep_hidden"] = True
    if trust_model_criteria:
        options["trust_model_criteria"] = True
    return tuple(options.items())


def _data(suite: Suite, given: list[str]) -> dict[str, Path | None]:
    """The suite's files by name. What stands without a name is the main one; what is missing comes from the hub."""
    files: dict[str, Path | None] = {}
    main = next(iter(suite.sources), "")
    for text in given:
        name, separator, rest = text.partition("=")
        if not separator and name in suite.sources and (packaged := suite.sources[name].packaged):
            separator, rest = "=", str(packaged)
        name, path = (name, Path(rest)) if separator and name in suite.sources else (main, Path(text))
        if not path.is_file():
            found = f"{path} is a folder" if path.is_dir() else f"there is no file {path}"
            raise InputError(f"--data {text}: {found}", hint=f"names: {', '.join(suite.sources)}")
        if name in files:
            raise InputError(f"--data gives {name} twice", hint=f"names: {', '.join(suite.sources)}")
        files[name] = path
    if not files:
        files = {name: None for name, source in suite.sources.items() if source.required}
    return files


def _judges(suite: Suite, names: list[str] | None, cache: ReplyCache) -> tuple[Judge, ...]:
    chosen = list(dict.fromkeys(names or suite.judges))
    known = [judge.form for judge in JUDGES.values() if judge.form != ORACLE or suite.for_demo_model]
    hint = f"use --judge {' or '.join(known)}; --judge {NO_JUDGE} leaves the answers unlabelled"
    if not chosen:
        raise InputError(f"the suite {suite.name} has no judge of its own", hint=hint)
    if ORACLE in chosen and ORACLE not in known:
        raise InputError(f"the {ORACLE} only knows the demo world, not {suite.name}", hint=hint)
    return tuple(load_judge(name, cache) for name in chosen if name != NO_JUDGE)


def print_tables(summary: dict[str, Any]) -> None:
    """Rates and costs: one table per family, one line per decoder."""
    for family, prompts in summary["prompts"].items():
        rates = [row for row in summary["rates"] if row["family"] == family]
        columns = list(dict.fromkeys((row["judge"], row["metric"]) for row in rates))
        title = f"{summary['suite']}, {family}: {prompts} prompts, seeds {summary['seeds']}"
        asked = [f"{metric} ({judge})" for judge, metric in columns]
        table = new_table(title, "decoder", *asked, "tokens / passes")
        for cost in (row for row in summary["costs"] if row["family"] == family):
            own = {(r["judge"], r["metric"]): r for r in rates if r["decoder"] == cost["decoder"]}
            tokens, passes = (cost[key]["value"] for key in ("search_tokens", "forward_passes"))
            table.add_row(
                Text(cost["decoder"]),
                *(_share(own[column]) for column in columns),
                f"{tokens:.0f} / {passes:.0f}",
            )
        out.print(table)


def _share(row: dict[str, Any]) -> str:
    """A rate with its interval, and what of the answers has no label."""
    missing = [f"{row[name]} {name}" for name in ("malformed", "unscored") if row[name]]
    return ", ".join([percent(row), *missing])
