"""`rain rate --report` in words and tables."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from rain_decoding.cli.output import new_table, out
from rain_decoding.evaluation.rating.store import POOLED
from rain_decoding.evaluation.report.formats import Row, decimal, percent


def print_report(rows: dict[str, list[Row]]) -> None:
    """Tables of what `rating_rows` gives."""
    for family in dict.fromkeys(row["family"] for row in rows["rates"]):
        out.print(_rates(family, [row for row in rows["rates"] if row["family"] == family]))
    if rows["preferences"]:
        out.print(_preferences(rows["preferences"]))
    if rows["raters"]:
        out.print(_raters(rows["raters"]))
    if rows["judges"]:
        out.print(_judges(rows["judges"]))
    if rows["pair_judges"]:
        out.print(_pair_judges(rows["pair_judges"]))
    if any(row["rater"] == POOLED for row in (*rows["rates"], *rows["preferences"])):
        out.print(f"{POOLED}: a tie counts as not having the label; judges are not compared with it.")


def _rates(family: str, rows: list[Row]) -> Table:
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    cells = {(row["rater"], row["decoder"], row["metric"]): _rate(row) for row in rows}
    table = new_table(f"Answers to {family}", "rater", "decoder", *metrics)
    for rater, decoder in dict.fromkeys((row["rater"], row["decoder"]) for row in rows):
        _add(table, rater, decoder, *(cells.get((rater, decoder, metric), "-") for metric in metrics))
    return table


def _rate(row: Row) -> str:
    besides = [f"{name} {row[name]}" for name in ("skipped", "ties", "unrated") if row[name]]
    return ", ".join([f"{percent(row)} of {row['n']}", *besides])


def _preferences(rows: list[Row]) -> Table:
    title = f"Which of two answers is better: the decoder's or that of {rows[0]['reference']}"
    table = new_table(title, "rater", "decoder", "question", "won / lost / ties / skipped", "won of decided")
    for row in rows:
        counts = " / ".join(str(row[name]) for name in ("wins", "losses", "ties", "skipped"))
        won = percent(row["win_rate"])
        _add(table, row["rater"], row["decoder"], f"{row['metric']}, {row['family']}", counts, won)
    return table


def _raters(rows: list[Row]) -> Table:
    table = new_table("Agreement between raters", "rated", "question", "raters", "agreement", "same labels")
    for row in rows:
        agreement = f"{row['measure']} {decimal(row['value'])}"
        same = f"{row['agreed']:.0%}, n {row['n']}"
        _add(table, row["rated"], f"{row['question']}, {row['family']}", row["raters"], agreement, same)
    return table


def _judges(rows: list[Row]) -> Table:
    counts = ("both", "rater_only", "judge_only", "neither", "unscored")
    title = (
        "Agreement of judges with raters; counts: yes by both / rater only / judge only / neither / unscored"
    )
    table = new_table(title, "rater", "judge", "question", "same label", "kappa", "counts")
    for row in rows:
        question = f"{row['question']}, {row['family']}"
        cells = (percent(row), decimal(row["kappa"]), " / ".join(str(row[name]) for name in counts))
        _add(table, row["rater"], row["judge"], question, *cells)
    return table


def _pair_judges(rows: list[Row]) -> Table:
    title = "Agreement of judges with raters on pairs of answers"
    table = new_table(title, "rater", "judge", "question", "same preference", "kappa", "unscored")
    for row in rows:
        question = f"{row['question']}, {row['family']}"
        cells = (f"{percent(row)} of {row['n']}", decimal(row["kappa"]), str(row["unscored"]))
        _add(table, row["rater"], row["judge"], question, *cells)
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*(Text(cell) for cell in cells))
