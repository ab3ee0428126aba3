"""The end of a run: what came out, as `summary.json` and `report.html` in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rain_decoding.evaluation.paper import PaperRun
from rain_decoding.evaluation.report import render, render_paper
from rain_decoding.evaluation.runner import EvaluationRun, read_run, write_json
from rain_decoding.evaluation.summary import summarise

SUMMARY, REPORT = "summary.json", "report.html"


def finish(run: EvaluationRun) -> dict[str, Any]:
    """Compare, sum up and write both files; the summary."""
    summary = summarise(run.records, run.plan, run.compare())
    _write(run.folder, summary, render(run.records, run.plan, summary, read_run(run.folder), run.folder))
    return summary


def finish_paper(run: PaperRun) -> dict[str, Any]:
    """The same for the paper's analyses and each of the runs that they stand on."""
    found = run.findings({own.folder: finish(own) for _, own in run.runs})
    summary = run.summary(found)
    plots = {analysis.name: list(findings.plots) for analysis, findings, _ in found}
    _write(run.folder, summary, render_paper(summary, plots))
    return summary


def _write(folder: Path, summary: dict[str, Any], page: str) -> None:
    write_json(folder / SUMMARY, summary)
    (folder / REPORT).write_text(page, encoding="utf-8")
