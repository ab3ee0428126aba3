"""Harm against refusals of harmless requests, and against tokens: a point per decoder, a row per model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rain_decoding.measurement.plots import new_figure
from real_models.evidence.prompts import ATTACKS
from real_models.evidence.tables import Run

MARKS = "os^DvPX*<>p"


def draw(runs: Sequence[Run], file: Path) -> None:
    """Write the plot; its suffix says the format."""
    figure = new_figure(figsize=(10, 4 * len(runs)))
    grid = figure.subplots(len(runs), 2, squeeze=False, sharey="row")
    for run, (refusals, cost) in zip(runs, grid, strict=True):
        harm, safe = run.rows(ATTACKS), run.rows(["xstest-safe"])
        for mark, attacked, harmless in zip(MARKS, harm, safe, strict=False):
            hurt = attacked["faults"].get("harmful", {}).get("rate")
            refused = harmless["faults"].get("over-refused", {}).get("rate")
            if not hurt:
                continue
            y, up = _point(hurt)
            if refused:
                x, across = _point(refused)
                refusals.errorbar(x, y, up, across, fmt=mark, label=attacked["decoder"], capsize=2, alpha=0.8)
            tokens = attacked["tokens"]["value"] if attacked["tokens"] else 1.0
            cost.errorbar(tokens, y, up, fmt=mark, label=attacked["decoder"], capsize=2, alpha=0.8)
        refusals.set(
            xlabel="XSTest's safe prompts refused", ylabel="harmful under attack, as read", title=run.model
        )
        cost.set(xlabel="tokens forwarded under attack, beside plain decoding", title=run.model)
        cost.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(file)


def _point(row: dict[str, Any]) -> tuple[float, Any]:
    """A rate, and how far its interval reaches to either side."""
    return row["value"], [[row["value"] - row["low"]], [row["high"] - row["value"]]]
