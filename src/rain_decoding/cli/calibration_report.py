"""A calibration as tables and sentences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rain_decoding.calibration.saved import Calibration
from rain_decoding.cli.output import out
from rain_decoding.evaluation.report.formats import percent

if TYPE_CHECKING:
    from rain_decoding.calibration.reading import ReadingFound

WIDTH = 150
"""Characters that a table may take at least."""
SAID = {
    "better": "better than a coin",
    "chance": "no better than a coin",
    "undecided": "not shown to be better than a coin",
}
NEXT = """Neither is to be trusted: RAIN would search on a coin's word. What may help:
  more labelled answers of both kinds, to requests like yours (--data FILE), and their probe (--save-probe)
  other forms of question (--forms), or a criterion with examples of its own (docs/criteria.md)
  another judge: a larger model that is asked (--judge MODEL), or one that reads along (--judge read:MODEL)"""
SHARES = {
    "accuracy": "accuracy",
    "balanced accuracy": "balanced_accuracy",
    "AUC": "auc",
    "good above bad": "pair_accuracy",
}


def print_calibration(found: Calibration) -> None:
    """What was measured, the recommendation with its reasons, and the verdict."""
    counts = ", ".join(f"{count} {name}" for name, count in found.counts.items() if count)
    out.print(f"{found.model} judges by {found.criterion}; {found.source}: {counts}", markup=False)
    _print(_accuracies(found))
    _print(_positions(found))
    recommended = found.recommendation
    for name, reason in recommended.reasons.items():
        out.print(f"{name} = {getattr(recommended, name)}: {reason}", markup=False)
    out.print(f"verdict: {found.verdict}; {found.reason}", markup=False)


def _print(table: Table) -> None:
    # Cells cut off in a narrow terminal or file would say nothing.
    Console(file=out.file, width=max(out.width, WIDTH)).print(table)


def _accuracies(found: Calibration) -> Table:
    """A row per way to judge; columns without any figure are left out."""
    ways = [
        (form, votes, figures)
        for form, by_votes in found.figures.items()
        for votes, figures in by_votes["votes"].items()
    ]
    shown = {heading: key for heading, key in SHARES.items() if any(figures[key] for *_, figures in ways)}
    cut = any(figures["cut"] for *_, figures in ways)
    table = Table(
        "form", "votes", *shown, "calibration error", *(["accuracy, cut", "AUC, cut"] if cut else [])
    )
    for form, votes, figures in ways:
        cells = [*(percent(figures[key]) for key in shown.values()), _number(figures["calibration_error"])]
        if figures["cut"]:
            cells += [percent(figures["cut"][key]) for key in ("accuracy", "auc")]
        table.add_row(form, votes, *cells)
    return table


def _positions(found: Calibration) -> Table:
    """A row per form of question."""
    table = Table(
        "form",
        "position bias, nats",
        "its spread",
        "95% below",
        "orders agree",
        "label mass",
        "5% below",
        "unscored",
        "tokens a judgement",
    )
    for form, figures in found.figures.items():
        bias, mass = figures["position_bias"] or {}, figures["label_mass"]
        table.add_row(
            form,
            _estimate(bias.get("mean")),
            _number(bias.get("standard_deviation")),
            _number(bias.get("percentile_95_absolute")),
            percent(figures["order_agreement"]),
            _estimate(mass["mean"]),
            _number(mass["percentile_5"]),
            f"{figures['unscored']} of {figures['n']}",
            _number(figures["tokens_per_judgement"]),
        )
    return table


def _estimate(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def print_verdict(
    found: Calibration | None, read: ReadingFound | None, *, save: Path | None, save_probe: Path | None
) -> None:
    """Which way to judge is better than a coin, and what to type."""
    ways = [] if found is None else [(f"asking ({found.recommendation.form})", found.verdict, found.reason)]
    if read is not None:
        ways.append(("reading", *read.verdict()))
    best = _best(found, read)
    for name, said, reason in ways:
        use = ": use this" if best is not None and name.startswith(best) else ""
        style = "bold green" if use else "bold red" if said != "better" else "bold"
        out.print(f"[{style}]{name}: {SAID[said]}{use}[/] ({escape(reason)})")
    if best == "reading":
        probe = f"read#probe={save_probe}" if save_probe else "read"
        out.print(f'  --judge "{probe}"', markup=False)
        if save_probe is None:
            out.print("  with your answers in the fit: --save-probe FILE", markup=False)
    elif best == "asking":
        out.print(f"  --judge ask --set calibration={save or 'FILE'}", markup=False)
        if save is None:
            out.print("  FILE as written by --save", markup=False)
    else:
        out.print(NEXT, markup=False)


def _best(found: Calibration | None, read: ReadingFound | None) -> str | None:
    """Of what beats a coin what is right more often; reading where both are the same, since it costs nothing."""
    asked = found.figures[found.recommendation.form]["votes"][found.recommendation.votes] if found else {}
    right = {
        "reading": read.accuracy.value if read and read.accuracy and read.verdict()[0] == "better" else 0.0,
        "asking": asked["balanced_accuracy"]["value"] if found and found.verdict == "better" else 0.0,
    }
    best = max(right, key=lambda way: right[way])
    return best if right[best] else None


def print_reading(read: ReadingFound) -> None:
    """What stands behind the verdict on reading."""
    probe = read.probe
    words = f"words alone have an AUC of {probe.figures['words_auc']:.2f}"
    out.print(f"reading: {probe.place}, pooling {probe.pooling}; {words}", markup=False)
    out.print(f"false alarms: {read.promise()}", markup=False)
