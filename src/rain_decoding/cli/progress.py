"""Progress of long commands, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import ProgressColumn as Column
from rich.text import Text

from rain_decoding.cli.output import INTERRUPTED, err
from rain_decoding.measurement.pace import Pace

if TYPE_CHECKING:
    from rain_decoding.evaluation.runner import EvaluationRun

SPAN = 3600
"""Seconds over which the speed is taken."""
STEPS = 10
"""Where no terminal is there, so many lines tell how far it is."""


class Left(TimeRemainingColumn):
    """The time that is left, where the steps say it; else as the last ones were."""

    def render(self, task: Task) -> Text:
        left = task.fields.get("left")
        return (
            super().render(task)
            if left is None
            else Text(f"{duration(left)} left", style="progress.remaining")
        )


def duration(seconds: float) -> str:
    """A time as people say it: 40 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Speed(Column):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "-/s", style="progress.data.speed")


@contextmanager
def counting(what: str, total: int, done: int = 0) -> Iterator[Callable[..., Any]]:
    """Count up to `total`; the function it gives takes one step, and shows what is being done.

    It may be told how many seconds are `left`.
    """
    if not err.is_terminal:
        yield _lines(what, total, done)
        return
    columns = (BarColumn(), MofNCompleteColumn(), Speed(), TimeElapsedColumn(), Left())
    # Steps of slow models are minutes apart, and what computes meanwhile may leave no time to draw.
    with Progress("{task.description}", *columns, console=err, speed_estimate_period=SPAN) as progress:
        bar = progress.add_task(what, total=total, completed=done)

        def tick(doing: str = "", left: float | None = None) -> None:
            description = f"{what} ({doing})" if doing else what
            progress.update(bar, advance=1, description=description, left=left, refresh=True)

        yield tick


@contextmanager
def collecting(
    found: Callable[[], int],
    total: int,
    folder: Path,
    what: str = "answers",
    about: Callable[[Mapping[str, Any]], str] = lambda record: record["decoder"],
    missing: Mapping[str, int] | None = None,
) -> Iterator[Callable[[Mapping[str, Any]], Any]]:
    """Count records up to `total`, saying something `about` each; `found` says how many there are.

    Where it is known how many are `missing` of those about which the same is said, the time that is left allows for
    some being slower than others. Ctrl-C tells that they are kept, and exits.
    """
    try:
        with counting(what, total, found()) as tick:
            pace = Pace(missing) if missing is not None else None

            def told(record: Mapping[str, Any]) -> None:
                kind = about(record)
                tick(kind, pace.finished(kind) if pace else None)

            yield told
    except KeyboardInterrupt:
        err.print(
            f"stopped after {found()} of {total} {what}, kept in {folder}; repeat the command to resume",
            markup=False,
        )
        raise typer.Exit(INTERRUPTED) from None


def _lines(what: str, total: int, done: int) -> Callable[..., Any]:
    count = done

    def tick(doing: str = "", left: float | None = None) -> None:
        nonlocal count
        before, count = count, count + 1
        if before * STEPS // total != count * STEPS // total:
            rest = f", about {duration(left)} left" if left else ""
            err.print(f"{count} of {total} {what}{rest}", markup=False)

    return tick


def warn_of_unlabelled(run: EvaluationRun) -> None:
    """Say which judges left answers of a run without a label, and why; and how many were not judged when made."""
    if again := len(run.unjudged()):
        err.print(
            f"[yellow]warning:[/] {again} of {len(run.records)} answers could not be judged while they were made, as "
            "the judge's server did not answer. Repeat the command to make them again."
        )
    for judge, problems in run.unlabelled().items():
        err.print(
            f"[yellow]warning:[/] {escape(judge)} left {len(problems)} of {len(run.records)} answers unlabelled: "
            f"{escape(problems[0])}. Repeat the command to ask it again."
        )
