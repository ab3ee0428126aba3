"""A calibration drawn: what scores promise against what is good, and the figures of every way to judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rain_decoding.calibration.saved import Calibration
from rain_decoding.measurement.plots import new_figure

SHARES = {"accuracy": "accuracy", "auc": "AUC", "pair_accuracy": "good above bad"}


def plot(calibration: Calibration, path: Path) -> None:
    """Draw the calibration curve of the recommended votes, and shares with their 95% intervals."""
    figure = new_figure(figsize=(11, 5), layout="constrained")
    curve, shares = figure.subplots(1, 2)
    figure.suptitle(
        f"{calibration.model} judges by {calibration.criterion}: {calibration.counts['answers']} answers"
    )
    _draw_curve(curve, calibration)
    _draw_shares(shares, calibration)
    figure.savefig(path)


def _draw_curve(axes: Any, calibration: Calibration) -> None:
    votes = calibration.recommendation.votes
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1, label="perfectly calibrated")
    for placement, figures in calibration.figures.items():
        found = figures["votes"][votes]
        points = found["curve"]
        if not points:
            continue
        axes.errorbar(
            [point["predicted"] for point in points],
            [point["good"]["value"] for point in points],
            yerr=_spread([point["good"] for point in points]),
            marker="o",
            capsize=2,
            label=f"{placement}, error {found['calibration_error']:.3f}",
        )
    axes.set(
        title=f"calibration curve, {votes} votes",
        xlabel="predicted probability of a good answer, (score + 1) / 2",
        ylabel="share of good answers",
    )
    axes.grid(alpha=0.3)
    axes.legend()


def _draw_shares(axes: Any, calibration: Calibration) -> None:
    names, ways = [], []
    for placement, figures in calibration.figures.items():
        for votes, found in figures["votes"].items():
            names.append(f"{placement}\n{votes}")
            ways.append(found)
    for offset, (key, label) in enumerate(SHARES.items()):
        drawn = [(place, found[key]) for place, found in enumerate(ways) if found[key]]
        if not drawn:
            continue
        axes.errorbar(
            [place + (offset - 1) * 0.2 for place, _ in drawn],
            [estimate["value"] for _, estimate in drawn],
            yerr=_spread([estimate for _, estimate in drawn]),
            linestyle="none",
            marker="o",
            capsize=2,
            label=label,
        )
    axes.axhline(0.5, color="grey", linestyle="--", linewidth=1, label="a coin")
    axes.set(title="figures at threshold 0, with 95% intervals", ylabel="share", ylim=(0, 1.02))
    axes.set_xticks(range(len(names)), names)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="lower left")


def _spread(estimates: list[dict[str, Any]]) -> list[list[float]]:
    """How far the intervals reach down and up."""
    return [[abs(estimate["value"] - estimate[end]) for estimate in estimates] for end in ("low", "high")]
