"""A calibration as tables and sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rain_decoding.calibration.saved import Calibration
from rain_decoding.cli.output import out, print_json
from rain_decoding.self_evaluation.reading.probe import Probe

WIDTH = 150
"""Characters that a table may take at least."""
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
        (placement, votes, figures)
        for placement, by_votes in found.figures.items()
        for votes, figures in by_votes["votes"].items()
    ]
    shown = {heading: key for heading, key in SHARES.items() if any(figures[key] for *_, figures in ways)}
    cut = any(figures["cut"] for *_, figures in ways)
    table = Table(
        "placement", "votes", *shown, "calibration error", *(["accuracy, cut", "AUC, cut"] if cut else [])
    )
    for placement, votes, figures in ways:
        cells = [*(_share(figures[key]) for key in shown.values()), _number(figures["calibration_error"])]
        if figures["cut"]:
            cells += [_share(figures["cut"][key]) for key in ("accuracy", "auc")]
        table.add_row(placement, votes, *cells)
    return table


def _positions(found: Calibration) -> Table:
    """A row per placement."""
    table = Table(
        "placement",
        "position bias, nats",
        "its spread",
        "95% below",
        "orders agree",
        "label mass",
        "5% below",
        "unscored",
        "tokens a judgement",
    )
    for placement, figures in found.figures.items():
        bias, mass = figures["position_bias"] or {}, figures["label_mass"]
        table.add_row(
            placement,
            _estimate(bias.get("mean")),
            _number(bias.get("standard_deviation")),
            _number(bias.get("percentile_95_absolute")),
            _share(figures["order_agreement"]),
            _estimate(mass["mean"]),
            _number(mass["percentile_5"]),
            f"{figures['unscored']} of {figures['n']}",
            _number(figures["tokens_per_judgement"]),
        )
    return table


def _share(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate['value']:.1%} ({estimate['low']:.1%}-{estimate['high']:.1%})"


def _estimate(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def print_probe(probe: Probe, file: Path, *, json: bool) -> None:
    """What reading makes of the answers, the verdict first, and what to type."""
    figures = probe.figures
    if json:
        print_json(
            {"probe": str(file), "layers": probe.layers, "false_alarms": probe.false_alarms, **figures}
        )
        return
    area, right = figures["auc"], figures["balanced_accuracy"]
    verdict = "use this" if area["low"] > 0.5 else "no better than a coin"
    out.print(
        f"reading: right in {right['value']:.0%} ({right['low']:.0%}-{right['high']:.0%}) of {figures['examples']} "
        f"answers held out: {verdict}"
    )
    out.print(f'  --judge "read#probe={file}"', markup=False)
    out.print(
        f"AUC {area['value']:.2f} ({area['low']:.2f}-{area['high']:.2f}), of words alone {figures['words_auc']:.2f}; "
        f"{probe.place}, pooling {probe.pooling}; {probe.false_alarms:.1%} of good answers called bad"
    )
