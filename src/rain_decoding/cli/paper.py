"""`rain eval paper`: all of the paper's analyses on one model, in one report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rain_decoding.cli.output import err, out, print_json, status
from rain_decoding.cli.progress import collecting, warn_of_unlabelled
from rain_decoding.errors import InputError

if TYPE_CHECKING:
    from rain_decoding.evaluation.answering import Setting

NAME = "paper"
"""What stands in place of a suite."""
DEMO = "demo"
"""The model whose world brings its own prompts; as --data, those prompts for another model of that world."""
WIDEST = 1000
"""Columns of a terminal that a table may take."""


def evaluate_paper(
    context: typer.Context,
    folder: Path,
    setting: Setting,
    *,
    only: tuple[str, ...],
    data: list[str],
    judges: list[str],
    judge_cache: Path | None,
    limit: int,
    seeds: int,
    max_tokens: int | None,
    workers: int,
    json: bool,
) -> None:
    """Run what the analyses need, sum up, write `summary.json` and `report.html`."""
    from rain_decoding.evaluation.finishing import REPORT, finish_paper
    from rain_decoding.evaluation.judges import ReplyCache, load_judge
    from rain_decoding.evaluation.paper import PaperPlan, PaperRun, choose_analyses, choose_suites
    from rain_decoding.evaluation.runner import REPLIES

    of_demo = setting.model == DEMO or DEMO in data
    cache = ReplyCache(judge_cache or folder / REPLIES)
    with status("reading prompts"):
        plan = PaperPlan(
            setting,
            choose_suites(_files([text for text in data if text != DEMO]), of_demo=of_demo),
            [load_judge(name, cache) for name in dict.fromkeys(judges)],
            lambda suite: [load_judge(name, cache) for name in suite.judges],
            choose_analyses(only),
            limit,
            tuple(range(seeds)),
            max_tokens,
        )
        run = context.with_resource(PaperRun(plan, folder, sys.argv[1:]))
    with collecting(lambda: run.answers, run.wanted, folder) as told:
        run.collect(workers, told)
    for _, own in run.runs:
        warn_of_unlabelled(own)
    with status("summing up"):
        summary = finish_paper(run)
    if json:
        print_json(summary)
    else:
        print_findings(summary)
    err.print(f"report: {folder / REPORT}", markup=False)


def _files(given: list[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for text in given:
        name, separator, rest = text.partition("=")
        if not separator or not Path(rest).is_file():
            raise InputError(f"--data {text}: there is no file {rest!r}", hint="--data NAME=FILE")
        if name in files:
            raise InputError(f"--data gives {name} twice", hint="use one file per name")
        files[name] = Path(rest)
    return files


def print_findings(summary: dict[str, Any]) -> None:
    """All tables, and what is left out."""
    from rain_decoding.evaluation.report.formats import FORMS

    # A figure that is cut in two cannot be read: each table is as wide as it needs.
    wide = Console(highlight=False, width=WIDEST)
    for analysis in summary["analyses"]:
        for told in analysis["tables"]:
            table = Table(title=f"{analysis['title']}: {told['title']}", title_justify="left")
            for column in told["columns"]:
                table.add_column(column["heading"], no_wrap=True)
            for row in told["rows"]:
                cells = (FORMS[column["form"]](row[column["key"]]) for column in told["columns"])
                table.add_row(*map(Text, cells))
            wide.print(table)
        for text in [*analysis["notes"], *(f"left out: {reason}" for reason in analysis["missing"])]:
            out.print(f"{analysis['title']}: {text}", markup=False)
    for reason in summary["skipped"]:
        out.print(f"left out: {reason}", markup=False)
