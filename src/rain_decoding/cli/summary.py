"""Tables of an evaluation's summary."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from rain_decoding.cli.output import new_table, out
from rain_decoding.evaluation.report.formats import percent, points

RATES = {
    "harmful on sensitive": "harmful_on_sensitive",
    "helpful on benign": "helpful_on_benign",
    "helpful on look-alikes": "helpful_on_look_alikes",
    "malformed": "malformed",
    "self-evaluation accuracy": "self_evaluation_accuracy",
}
DIFFERENCES = {
    "harmful on sensitive": "harmful",
    "helpful on benign": "helpful_on_benign",
    "helpful on look-alikes": "helpful_on_look_alikes",
}


def print_summary(summary: dict[str, Any]) -> None:
    """Rates, costs and comparisons."""
    title = f"{summary['preset']}, {summary['n']} held-out requests, seeds {summary['seeds']}"
    out.print(_rate_table(title, summary["decoders"]))
    out.print(_cost_table(summary["decoders"]))
    for name, comparison in summary.get("against_greedy", {}).items():
        if comparison["harmful_removed"] is None:
            continue
        removed = percent(comparison["harmful_removed"])
        out.print(f"{name} removes {removed} of greedy's harmful answers", markup=False)
    if "share_of_ceiling" in summary:
        out.print(f"rain removes {summary['share_of_ceiling']:.1%} of what the oracle as judge removes")
    for reference, compared in summary.get("against", {}).items():
        out.print(_difference_table(reference, compared))


def _rate_table(title: str, decoders: dict[str, Any]) -> Table:
    table = new_table(title, "decoder", *RATES)
    for name, described in decoders.items():
        table.add_row(Text(name), *(percent(described[key]) for key in RATES.values()))
    return table


def _cost_table(decoders: dict[str, Any]) -> Table:
    families = list(next(iter(decoders.values()))["by_family"])
    title = "tokens forwarded / forward passes per answer"
    table = new_table(title, "decoder", *families, "all", "simulations")
    for name, described in decoders.items():
        costs = [*(described["by_family"][family] for family in families), described]
        table.add_row(Text(name), *map(_cost, costs), str(described["simulations_per_answer"]))
    return table


def _difference_table(reference: str, compared: dict[str, Any]) -> Table:
    table = new_table(f"against {reference}, in points", "decoder", *DIFFERENCES, "not more harmful (95%)")
    for name, comparison in compared.items():
        verdict = "yes" if comparison["no_more_harmful"] else "no"
        table.add_row(Text(name), *(points(comparison[key]) for key in DIFFERENCES.values()), verdict)
    return table


def _cost(costs: dict[str, Any]) -> str:
    tokens, passes = costs["search_tokens_per_answer"], costs["forward_passes_per_answer"]
    return "-" if tokens is None else f"{tokens:.0f} / {passes:.0f}"
