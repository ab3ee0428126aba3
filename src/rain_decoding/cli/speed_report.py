"""What `rain bench` measured, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rain_decoding.cli.output import out, print_json

Report = dict[str, Any]

WIDTH = 240
"""Characters that a table may take at least."""

TIME = {
    "seconds": "seconds",
    "overhead": "overhead",
    "in total": "overhead_in_total",
    "CPU, s": "cpu_seconds",
    "CPU overhead": "cpu_overhead",
    "first release, s": "first_release_seconds",
    "host share": "host_share",
    "answers/s": "answers_per_second",
    "tokens/s": "tokens_per_second",
}
WORK = {
    "passes": "passes",
    "passes overhead": "passes_overhead",
    "tokens forwarded": "tokens_forwarded",
    "per token released": "forwarded_per_released",
    "rewinds": "rewinds",
    "KV slots": "kv_slots",
    "KV overhead": "kv_overhead",
    "KV bytes": "kv_bytes",
    "pinned slots": "kv_pinned_slots",
}
TURNS = {
    name.replace("_", " "): name
    for name in ("turn", "prompt_tokens", "fresh_tokens", "tokens_released", "tokens_forwarded", "passes")
}
FIT = {"cost": "cost", "per released token": "per_released_token", "R²": "r_squared", "at 0": "intercept"}
"""Columns of the tables, and where the report has them."""
CASE = ("family", "max_tokens", "prompt_tokens", "concurrency", "distinct", "bad_rate")


def publish(report: Report, *, plot: Path | None, json: bool) -> None:
    """Print the report, and draw it where that is wanted."""
    results = report["results"]
    turns = report["mode"] == "turns"
    varying = [] if turns else [name for name in CASE if len({r.get(name) for r in results}) > 1]
    if plot is not None:
        from rain_decoding.benchmarks.speed.plot import plot as draw

        draw(results, varying, plot)
    if json:
        print_json(report)
        return
    machine = report["machine"]
    out.print(
        f"{report['model']}, {machine['dtype']} on {machine['device']}, {machine['threads']} of "
        f"{machine['cores']} cores, {machine['runtime']}; medians with quartiles"
    )
    if engine := report.get("engine"):
        out.print(
            f"prefill {_number(engine['prefill_per_second'])} tokens/s, decoding "
            f"{_number(engine['decode_per_second'])} tokens/s; {_mebibytes(report['resident_bytes'])} resident "
            "with the model loaded"
        )
    for columns in [TURNS] if turns else [TIME, WORK]:
        _print_table(results, varying, columns)
    if fits := report.get("fits"):
        _print_table(fits, [name for name in varying if name != "max_tokens"], FIT)
    if "note" in report:
        out.print(report["note"])


def _print_table(rows: list[dict[str, Any]], varying: list[str], columns: dict[str, str]) -> None:
    table = Table()
    for heading in (*(name.replace("_", " ") for name in varying), "contender", *columns):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in (*varying, "contender", *columns.values())))
    # Cells cut off in a narrow terminal or file would say nothing.
    Console(file=out.file, width=max(out.width, WIDTH)).print(table)


def _cell(value: Any) -> str:
    """A figure, or a median with its quartiles where they differ."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return _number(value)
    median, low, high = (_number(value[key]) for key in ("median", "low", "high"))
    return median if low == high else f"{median} ({low}-{high})"


def _mebibytes(size: int | None) -> str:
    return "?" if size is None else f"{size / 2**20:.0f} MiB"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
