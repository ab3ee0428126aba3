"""`rain calibrate`: whether a model's judgement beats a coin, and how to let it judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from rain_decoding.calibration import MIN_LABEL_MASS, Calibration
from rain_decoding.calibration.judging import Judged, judge_answers
from rain_decoding.calibration.labelled import FORMS, LabelledAnswer, check_labels, read_labelled
from rain_decoding.cli import options as o
from rain_decoding.cli.calibration_report import print_calibration, print_reading, print_verdict
from rain_decoding.cli.output import INTERRUPTED, err, print_json, status
from rain_decoding.errors import InputError
from rain_decoding.measurement.plots import check_plot
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import SelfEvaluator
from rain_decoding.self_evaluation.loading import ASK
from rain_decoding.self_evaluation.question_forms import USUAL, question_forms, usual_forms

if TYPE_CHECKING:
    from rain_decoding.calibration.reading import ReadingFound

NOT_BETTER = 3
"""Exit code where self-evaluation was not shown to beat a coin."""
DEMO_ANSWERS = 200

AT_ONCE = 8
"""Judgements that run at the same time: few enough for the bar to move while a slow model works."""

Data = Annotated[
    Path | None,
    typer.Option(help="JSONL file (may be .gz) of labelled answers or pairs; the demo model brings its own."),
]
N = Annotated[
    int | None,
    typer.Option(min=1, help="Lines drawn from the file, or demo answers.", show_default="all; demo: 200"),
]
VotesKind = Annotated[
    Literal["hard", "soft", "debiased"] | None,
    typer.Option(help="Recommend for these votes.", show_default="those that fit"),
]
LabelMass = Annotated[
    float, typer.Option(min=0, max=1, help="Judgements whose labels hold less together are unscored.")
]
Save = Annotated[Path | None, typer.Option(help="Write the result, for --set calibration=FILE.")]
SaveProbe = Annotated[
    Path | None,
    typer.Option(
        help='Fit a probe on these answers and the criterion\'s own, for --judge "read#probe=FILE".'
    ),
]
FormNames = Annotated[
    str | None,
    typer.Option(
        help=f"Forms of question to ask by, with commas: {', '.join(question_forms())}.",
        metavar="NAMES",
        show_default=f"those of {', '.join(USUAL)} that fit",
    ),
]
Only = Annotated[
    Literal["ask", "read"] | None, typer.Option(help="Measure one way only.", show_default="both")
]
FalseAlarms = Annotated[
    float | None,
    typer.Option(
        min=0, max=0.5, help="Share of good answers that the probe may call bad.", show_default="most right"
    ),
]
Plot = Annotated[Path | None, typer.Option(help="Draw the calibration curve: .png, .svg or .pdf.")]


def calibrate(
    model: o.Model = "demo",
    criterion: o.CriterionName = None,
    principle: o.Principle = None,
    data: Data = None,
    n: N = None,
    votes: VotesKind = None,
    min_label_mass: LabelMass = MIN_LABEL_MASS,
    prompt_format: o.Format = "auto",
    seed: o.Seed = 0,
    device: o.Device = None,
    dtype: o.Dtype = None,
    engine_options: o.EngineOptions = None,
    trust_model_criteria: o.TrustModelCriteria = False,
    save: Save = None,
    save_probe: SaveProbe = None,
    false_alarms: FalseAlarms = None,
    forms: FormNames = None,
    only: Only = None,
    plot: Plot = None,
    json: o.Json = False,
) -> None:
    """Measure how well a model judges by a criterion, asked and read, and say which to use.

    It is asked by several forms of question, and its hidden states are read by a probe, on answers of which neither
    was fitted or chosen. Exit code 0: better than chance; 3: no better than chance, or not shown to be.
    """
    from rain_decoding.calibration.reading import read_answers, readable
    from rain_decoding.calibration.summary import summarise
    from rain_decoding.microworld.labelled import FORMATS

    _check_files(save, plot, save_probe)
    if save_probe is not None and only is None and save is None and plot is None:
        only = "read"
    labelled = read_labelled(data, n, seed=seed) if data else None
    setup = o.set_up(
        model,
        judge=ASK,
        criterion=criterion,
        principle=principle,
        prompt_format=prompt_format,
        device=device,
        dtype=dtype,
        engine_options=engine_options or (),
        trust_model_criteria=trust_model_criteria,
    )
    asked = _criterion(setup)
    answers = _demo_answers(setup, n, seed) if labelled is None else labelled
    if prompt_format == "auto" and labelled is None:
        prompt_format = FORMATS.get(asked.name, "auto")
    check_labels(asked, answers)
    found: Calibration | None = None
    read: ReadingFound | None = None
    whole = True
    if only != "read":
        named = [name.strip() for name in (forms or "").split(",") if name.strip()]
        names = named or usual_forms(asked, setup.backend.codec)
        judged = _judge(setup, asked, answers, names, prompt_format)
        whole = len(judged) == len(answers) * len(names)
        if not whole:
            err.print(
                f"stopped after {len(judged)} of {len(answers) * len(names)} judgements; what there is:"
            )
        with status("summing up"):
            found = summarise(
                setup.backend,
                asked,
                judged,
                min_label_mass=min_label_mass,
                votes=votes,
                seed=seed,
                source=str(data or "demo world"),
            )
    if whole and only != "ask" and (only == "read" or readable(setup.backend, asked, answers)):
        with _progress("reading") as progress:
            bar = progress.add_task("reading", total=None)
            read = read_answers(
                setup.backend,
                asked,
                answers,
                false_alarms=false_alarms,
                prompt_format=prompt_format,  # type: ignore[arg-type]
                seed=seed,
                told=lambda done, of: progress.update(bar, completed=done, total=of),
            )
        if save_probe is not None:
            read.probe.save(save_probe)
    _publish(found, read, plot=plot, save=save if whole else None, save_probe=save_probe, json=json)
    if not whole:
        raise typer.Exit(INTERRUPTED)
    if "better" not in {found.verdict if found else "", read.verdict()[0] if read else ""}:
        raise typer.Exit(NOT_BETTER)


def _progress(what: str) -> Progress:
    """A bar with the remaining time, where a terminal is there."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(what, *columns, console=err, disable=not err.is_terminal)


def _check_files(save: Path | None, plot: Path | None, save_probe: Path | None) -> None:
    """Say at once what would fail after the judging."""
    for option, file in (("--save", save), ("--save-probe", save_probe)):
        if file is not None and not file.parent.is_dir():
            raise InputError(f"{option} {file}: there is no folder {file.parent}")
    if plot is not None:
        check_plot(plot)


def _demo_answers(setup: o.Setup, n: int | None, seed: int) -> list[LabelledAnswer]:
    if setup.model != "demo":
        raise InputError(
            f"nothing is known of {setup.model} to calibrate it on",
            hint=f"give labelled answers with --data FILE, a JSON object a line: {FORMS}",
        )
    from rain_decoding.microworld.labelled import demo_answers

    return demo_answers(setup.criterion.name, n or DEMO_ANSWERS, seed=seed)


def _criterion(setup: o.Setup) -> Criterion:
    """The one criterion that the model judges itself by."""
    evaluator = setup.criterion
    if not isinstance(evaluator, SelfEvaluator) or evaluator.criterion.placement == "template":
        raise InputError(
            f"{evaluator.name} is no criterion that a model judges itself by",
            hint="calibrate one criterion at a time; combinations, classifiers and guard models have no question",
        )
    return evaluator.criterion


def _judge(
    setup: o.Setup, criterion: Criterion, answers: list[LabelledAnswer], forms: list[str], prompt_format: str
) -> list[Judged]:
    """Judge the answers with a progress bar; after Ctrl-C, what there is."""
    judged: list[Judged] = []
    with _progress("asking") as progress:
        bar = progress.add_task("asking", total=len(answers) * len(forms))
        try:
            for one in judge_answers(
                setup.backend,
                criterion,
                answers,
                forms=forms,
                prompt_format=prompt_format,  # type: ignore[arg-type]
                concurrency=AT_ONCE,
            ):
                judged.append(one)
                progress.advance(bar)
        except KeyboardInterrupt:
            pass
    return judged


def _publish(
    found: Calibration | None,
    read: ReadingFound | None,
    *,
    plot: Path | None,
    save: Path | None,
    save_probe: Path | None,
    json: bool,
) -> None:
    """Print the report, the verdict first, and write the files."""
    if plot is not None and found is not None:
        from rain_decoding.calibration.plot import plot as draw

        draw(found, plot)
    if save is not None and found is not None:
        found.save(save)
    if json:
        asked = found.as_dict() if found else {}
        print_json(asked | {"reading": read.as_dict() if read else None})
        return
    print_verdict(found, read, save=save, save_probe=save_probe)
    if read is not None:
        print_reading(read)
    if found is not None:
        print_calibration(found)
