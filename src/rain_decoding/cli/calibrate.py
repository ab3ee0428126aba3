"""`rain calibrate`: whether a model's judgement beats a coin, and how to let it judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from rain_decoding.calibration import MIN_LABEL_MASS, Calibration
from rain_decoding.calibration.judging import PLACEMENTS, Judged, judge_answers
from rain_decoding.calibration.labelled import FORMS, LabelledAnswer, check_labels, read_labelled
from rain_decoding.cli import options as o
from rain_decoding.cli.calibration_report import print_calibration, print_probe
from rain_decoding.cli.output import INTERRUPTED, err, print_json, status
from rain_decoding.errors import InputError
from rain_decoding.measurement.plots import check_plot
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import SelfEvaluator
from rain_decoding.self_evaluation.loading import ASK
from rain_decoding.self_evaluation.reading.examples import ReadingExample, examples_of
from rain_decoding.self_evaluation.reading.probe import Probe

NOT_BETTER = 3
"""Exit code where self-evaluation was not shown to beat a coin."""
DEMO_ANSWERS = 200

WARNINGS = {
    "chance": "self-evaluation is no better than chance with this model and criterion, so RAIN cannot help",
    "undecided": "undecided: these examples do not show that self-evaluation is better than chance",
}

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
    save: Save = None,
    save_probe: SaveProbe = None,
    false_alarms: FalseAlarms = None,
    plot: Plot = None,
    json: o.Json = False,
) -> None:
    """Measure how well a model judges by a criterion, and recommend how to let it judge.

    With --save-probe, fit a probe that reads the model's hidden states instead of asking it.
    Exit code 0: better than chance; 3: no better than chance, or not shown to be.
    """
    from rain_decoding.calibration.summary import summarise
    from rain_decoding.microworld.labelled import FORMATS

    _check_files(save, plot, save_probe)
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
    )
    asked = _criterion(setup)
    answers = _demo_answers(setup, n, seed) if labelled is None else labelled
    if prompt_format == "auto" and labelled is None:
        prompt_format = FORMATS.get(asked.name, "auto")
    check_labels(asked, answers)
    if save_probe is not None:
        probe = _fit_probe(setup, asked, answers, prompt_format, false_alarms, seed)
        probe.save(save_probe)
        print_probe(probe, save_probe, json=json)
        if probe.figures["auc"]["low"] <= 0.5:
            raise typer.Exit(NOT_BETTER)
        return
    judged = _judge(setup, asked, answers, prompt_format)
    whole = len(judged) == len(answers) * len(PLACEMENTS)
    if not whole:
        err.print(
            f"stopped after {len(judged)} of {len(answers) * len(PLACEMENTS)} judgements; what there is:"
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
    _publish(found, plot=plot, save=save if whole else None, json=json)
    if not whole:
        raise typer.Exit(INTERRUPTED)
    if found.verdict != "better":
        raise typer.Exit(NOT_BETTER)


def _fit_probe(
    setup: o.Setup,
    criterion: Criterion,
    answers: list[LabelledAnswer],
    prompt_format: str,
    false_alarms: float | None,
    seed: int,
) -> Probe:
    """A probe of these answers and of the criterion's own examples; its figures are of these answers, held out."""
    from rain_decoding.self_evaluation.reading.learning import learn

    examples = [
        ReadingExample(each.messages, each.answer, each.label == "positive", f"yours {each.group}")
        for each in answers
        if each.label != "neutral"
    ]
    own, together = len(examples), [*examples, *examples_of(criterion)]
    with _progress("reading") as progress:
        bar = progress.add_task("reading", total=len(together))
        return learn(
            setup.backend,
            together,
            criterion.name,
            false_alarms=false_alarms,
            measured_on=range(own),
            prompt_format=prompt_format,  # type: ignore[arg-type]
            seed=seed,
            told=lambda: progress.advance(bar),
        )


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
    if not isinstance(evaluator, SelfEvaluator) or evaluator.criterion.placement not in PLACEMENTS:
        raise InputError(
            f"{evaluator.name} is no criterion that a model judges itself by",
            hint="calibrate one criterion at a time; combinations, classifiers and guard models have no question",
        )
    return evaluator.criterion


def _judge(
    setup: o.Setup, criterion: Criterion, answers: list[LabelledAnswer], prompt_format: str
) -> list[Judged]:
    """Judge the answers with a progress bar; after Ctrl-C, what there is."""
    judged: list[Judged] = []
    with _progress("judgements") as progress:
        bar = progress.add_task("judgements", total=len(answers) * len(PLACEMENTS))
        try:
            for one in judge_answers(
                setup.backend,
                criterion,
                answers,
                prompt_format=prompt_format,  # type: ignore[arg-type]
            ):
                judged.append(one)
                progress.advance(bar)
        except KeyboardInterrupt:
            pass
    return judged


def _publish(found: Calibration, *, plot: Path | None, save: Path | None, json: bool) -> None:
    """Print the report, write the files, and say loudly what is wrong."""
    if plot is not None:
        from rain_decoding.calibration.plot import plot as draw

        draw(found, plot)
    if save is not None:
        found.save(save)
    if json:
        print_json(found.as_dict())
    else:
        print_calibration(found)
    if save is not None:
        err.print(f"saved: --set calibration={save} uses it", markup=False)
    if found.verdict in WARNINGS:
        err.print(f"[bold red]warning:[/] {WARNINGS[found.verdict]} ({escape(found.reason)})")
