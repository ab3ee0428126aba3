"""`rain calibrate`: whether a model's judgement beats a coin, and how to let it judge."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from rain_decoding.calibration import MIN_LABEL_MASS, Calibration
from rain_decoding.calibration.judging import judge_answers
from rain_decoding.calibration.labelled import FORMS, LabelledAnswer, check_labels, read_labelled
from rain_decoding.cli import options as o
from rain_decoding.cli.calibration_report import print_calibration, print_reading, print_verdict
from rain_decoding.cli.output import INTERRUPTED, err, print_json, status
from rain_decoding.cli.progress import counting
from rain_decoding.errors import InputError
from rain_decoding.measurement.plots import check_plot
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import SelfEvaluator, Votes
from rain_decoding.self_evaluation.loading import ASK
from rain_decoding.self_evaluation.question_forms import USUAL, question_forms, usual_forms

if TYPE_CHECKING:
    from rain_decoding.calibration.reading import ReadingFound

NOT_BETTER = 3
"""Exit code where self-evaluation was not shown to beat a coin."""
DEMO_ANSWERS = 200

AT_ONCE = 2
"""Judgements that run at the same time. More would all end together on a slow model, and the bar would not move."""

Data = Annotated[
    Path | None,
    typer.Option(
        help="JSONL, CSV or TSV file (may be .gz) of labelled answers or pairs; the demo model brings its own."
    ),
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
    from rain_decoding.microworld.labelled import FORMATS

    _check_files(save, plot, save_probe, only)
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
    task = Task(setup, asked, answers, cast(PromptFormat, prompt_format), seed)
    reads = task.reads(only, save_probe)
    found = read = None
    whole = True
    if only != "read":
        found, whole = task.ask(forms, min_label_mass, votes, str(data or "demo world"))
    saved = save if whole else None
    if whole and reads:
        read = task.read(false_alarms)
        whole = read is not None
    if read is not None and save_probe is not None:
        read.probe.save(save_probe)
    _publish(found, read, plot=plot, save=saved, save_probe=save_probe, json=json)
    if not whole:
        raise typer.Exit(INTERRUPTED)
    if "better" not in {found.verdict if found else "", read.verdict()[0] if read else ""}:
        raise typer.Exit(NOT_BETTER)


@dataclass(frozen=True)
class Task:
    """What is measured: how well a model judges these answers by a criterion."""

    setup: o.Setup
    criterion: Criterion
    answers: list[LabelledAnswer]
    prompt_format: PromptFormat
    seed: int

    def reads(self, only: str | None, save_probe: Path | None) -> bool:
        """Whether the model is read. Raises `InputError` where it is to be, and cannot."""
        from rain_decoding.calibration.reading import unreadable

        if only == "ask":
            return False
        why = unreadable(self.setup.backend, self.criterion, self.answers)
        if why and (only == "read" or save_probe is not None):
            option = "--save-probe" if save_probe is not None else "--only read"
            raise InputError(f"{option}: {why}", hint=f"give more labelled answers, or leave out {option}")
        return not why

    def ask(
        self, forms: str | None, min_label_mass: float, votes: Votes | None, source: str
    ) -> tuple[Calibration, bool]:
        """What asking by several forms of question gives, and whether all was asked."""
        from rain_decoding.calibration.summary import summarise

        named = [name.strip() for name in (forms or "").split(",") if name.strip()]
        names = named or usual_forms(self.criterion, self.setup.backend.codec)
        judged, total = [], len(self.answers) * len(names)
        judging = judge_answers(
            self.setup.backend,
            self.criterion,
            self.answers,
            forms=names,
            prompt_format=self.prompt_format,
            concurrency=AT_ONCE,
        )
        with counting("judgements", total) as tick, suppress(KeyboardInterrupt):
            for one in judging:
                judged.append(one)
                tick()
        if len(judged) < total:
            err.print(f"stopped after {len(judged)} of {total} judgements; what there is:")
        with status("summing up"):
            found = summarise(
                self.setup.backend,
                self.criterion,
                judged,
                min_label_mass=min_label_mass,
                votes=votes,
                seed=self.seed,
                source=source,
            )
        return found, len(judged) == total

    def read(self, false_alarms: float | None) -> ReadingFound | None:
        """What a probe reads; None after Ctrl-C."""
        from rain_decoding.calibration.reading import labelled, read_answers
        from rain_decoding.self_evaluation.reading.reader import built_in

        left = total = len(labelled(self.answers)) + len(built_in(self.criterion))

        def told() -> None:
            nonlocal left
            left -= 1
            tick("" if left else "fitting the probe")

        with counting("answers read", total) as tick:
            try:
                return read_answers(
                    self.setup.backend,
                    self.criterion,
                    self.answers,
                    false_alarms=false_alarms,
                    prompt_format=self.prompt_format,
                    seed=self.seed,
                    told=told,
                )
            except KeyboardInterrupt:
                err.print("stopped while reading; what there is:")
                return None


def _check_files(save: Path | None, plot: Path | None, save_probe: Path | None, only: str | None) -> None:
    """Say at once what would fail after the judging, or write nothing."""
    files = (("--save", save, "ask"), ("--plot", plot, "ask"), ("--save-probe", save_probe, "read"))
    for option, file, needed in files:
        if file is not None and only not in (None, needed):
            raise InputError(f"{option}: --only {only} leaves nothing to write", hint="leave out --only")
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
