"""The report's figures drawn: overhead over plain decoding, and tokens forwarded per token released."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rain_decoding.measurement.plots import new_figure

PANELS = (
    ("overhead", "wall time, times the faster plain decoding"),
    ("forwarded_per_released", "tokens forwarded per token released"),
)


def plot(results: Sequence[dict[str, Any]], varying: Sequence[str], path: Path) -> None:
    """Draw results of `report.summarise`: a group of bars per case (named by what varies), a bar per contender.

    Bars are medians, lines reach from the first to the third quartile.
    """
    contenders = list(dict.fromkeys(result["contender"] for result in results))
    cases = list(dict.fromkeys(case_label(result, varying) for result in results))
    figure = new_figure(figsize=(4 + 0.35 * len(cases) * len(contenders), 8), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(2, 1), PANELS, strict=True):
        for offset, contender in enumerate(contenders):
            drawn = [r for r in results if r["contender"] == contender and r[name] is not None]
            places = [cases.index(case_label(r, varying)) + offset / (len(contenders) + 1) for r in drawn]
            heights = [r[name]["median"] for r in drawn]
            spread = [[abs(r[name][end] - r[name]["median"]) for r in drawn] for end in ("low", "high")]
            axes.bar(places, heights, 1 / (len(contenders) + 2), yerr=spread, capsize=2, label=contender)
        middle = (len(contenders) - 1) / (len(contenders) + 1) / 2
        axes.set_xticks([place + middle for place in range(len(cases))], cases)
        axes.set(yscale="log", title=title)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.grid(axis="y", alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(path)


def case_label(result: dict[str, Any], varying: Sequence[str]) -> str:
    """What tells a result's case from the others."""
    return "\n".join(f"{name.replace('_', ' ')} {result[name]}" for name in varying)
