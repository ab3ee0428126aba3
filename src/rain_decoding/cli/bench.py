"""`rain bench`: what RAIN costs beside plain decoding, measured side by side in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from rain_decoding.backends import load_backend, read_options
from rain_decoding.backends.local import LocalBackend
from rain_decoding.cli import options as o
from rain_decoding.cli.output import err, status
from rain_decoding.cli.speed_report import Report, publish
from rain_decoding.errors import InputError, MissingDependencyError, UnsupportedError
from rain_decoding.extras import install
from rain_decoding.measurement.plots import check_plot

if TYPE_CHECKING:
    from rain_decoding.benchmarks.speed.judge import JudgeOptions
    from rain_decoding.benchmarks.speed.measuring import SpeedPlan
    from rain_decoding.benchmarks.speed.prompts import Families
    from rain_decoding.benchmarks.speed.sweep import Sweep

Item = TypeVar("Item")
Number = TypeVar("Number", int, float)

SMALL = ("demo", "random")
"""Models of the demo's shape: they are asked the demo's requests, and are fast enough for everything."""

ContenderNames = Annotated[
    str | None,
    typer.Option(
        help="Comma-separated: plain, generate, naive, naive-batched, care, or presets, which ask; PRESET:read reads.",
        show_default="plain, generate and presets, as suit the model",
    ),
]
FamilyNames = Annotated[str, typer.Option(help="Comma-separated families of the demo's requests.")]
PromptFile = Annotated[Path | None, typer.Option(help="File of prompts, one per line, for other models.")]
N = Annotated[
    int | None,
    typer.Option(
        min=1, help="Prompts per family; at least the concurrency.", show_default="4; with --shape: 1"
    ),
]
Repeats = Annotated[int, typer.Option(min=1, help="Measurements per prompt and contender.")]
Concurrency = Annotated[
    str, typer.Option(help="Comma-separated: numbers of prompts answered at the same time.")
]
Lengths = Annotated[
    str | None,
    typer.Option(
        help="Comma-separated: maximum tokens per answer.", show_default="160; 48 for a model of your own"
    ),
]
PromptLengths = Annotated[
    str, typer.Option(help="Comma-separated: minimum prompt lengths in tokens, reached by earlier turns.")
]
FewShot = Annotated[
    bool, typer.Option("--few-shot", help="Judge by the built-in criterion with its few-shot examples.")
]
Form = Annotated[
    str | None,
    typer.Option(
        help="Form of the question of judges that ask, such as prefix, suffix or yes-no-suffix.",
        show_default="the criterion's own",
    ),
]
BadRates = Annotated[
    str | None,
    typer.Option(
        help="Draw judgements at random: the share of texts judged bad, 0 to 1; with --shape comma-separated."
    ),
]
Turns = Annotated[
    int | None, typer.Option(min=1, help="Measure one conversation of this many turns instead.")
]
Shape = Annotated[
    str | None,
    typer.Option(
        help="Replay recorded searches on random weights of this shape instead: tiny, llama-1b, llama-7b or llama-13b."
    ),
]
Distinct = Annotated[str, typer.Option(help="With --shape: how many of 10 candidates are distinct.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads for the model; default: torch's choice.")]
Workers = Annotated[
    int,
    typer.Option(min=1, help="Processes that share the prompts where several are answered at the same time."),
]
Plot = Annotated[
    Path | None, typer.Option(help="File for a plot of overhead and tokens: .png, .svg or .pdf.")
]


def bench(
    model: Annotated[str, typer.Option("--model", "-m", help="As for rain generate, or random.")] = "demo",
    contenders: ContenderNames = None,
    families: FamilyNames = "sensitive,benign",
    prompts: PromptFile = None,
    n: N = None,
    repeats: Repeats = 3,
    concurrency: Concurrency = "1",
    max_tokens: Lengths = None,
    prompt_tokens: PromptLengths = "0",
    few_shot: FewShot = False,
    form: Form = None,
    bad_rate: BadRates = None,
    turns: Turns = None,
    shape: Shape = None,
    distinct: Distinct = "2,5,10",
    device: o.Device = None,
    dtype: o.Dtype = None,
    engine_options: o.EngineOptions = None,
    threads: Threads = None,
    workers: Workers = 1,
    seed: o.Seed = 0,
    plot: Plot = None,
    json: o.Json = False,
) -> None:
    """Measure time, forwards and memory of RAIN beside plain decoding. `random` is a random model that never stops."""
    _prepare(model, threads, plot, turns)
    from rain_decoding.benchmarks.speed.judge import JudgeOptions
    from rain_decoding.benchmarks.speed.measuring import SpeedPlan

    names = tuple(contenders.split(",")) if contenders else _contenders(model, shape)
    own = shape is None and model not in SMALL
    lengths = _numbers("--max-tokens", max_tokens or ("48" if own else "160"), int)
    rates = _numbers("--bad-rate", bad_rate, float) if bad_rate else ()
    if shape is not None or turns is not None:
        _single("--max-tokens", lengths)
    if shape is not None:
        from rain_decoding.benchmarks.speed.sweep import Sweep

        judge = JudgeOptions(few_shot=few_shot, form=form, seed=seed)
        sweep = Sweep(
            contenders=names,
            distinct=_numbers("--distinct", distinct, int),
            bad_rates=rates or (0.0, 0.2, 0.5),
            n=n or 1,
            max_tokens=lengths[0],
            repeats=repeats,
            judge=judge,
        )
        report = _replay(sweep, shape, device, dtype)
    else:
        # The random model cannot judge.
        rate = _single("--bad-rate", rates) if rates else 0.0 if model == "random" else None
        judge = JudgeOptions(few_shot=few_shot, form=form, bad_rate=rate, seed=seed)
        at_once = _numbers("--concurrency", concurrency, int)
        plan = SpeedPlan(
            families=_prompts(model, families, prompts, turns or max(n or 4, *at_once)),
            max_tokens=lengths,
            prompt_tokens=_numbers("--prompt-tokens", prompt_tokens, int),
            concurrency=at_once,
            repeats=repeats,
            seed=seed,
        )
        load = partial(_load, model, device, dtype, tuple(engine_options or ()), threads)
        report = _run(plan, names, judge, load, workers=workers, turns=turns is not None)
    asked = {
        "model": shape or model,
        "engine_options": engine_options or [],
        "judge": asdict(judge),
        "max_tokens": lengths,
        "repeats": repeats,
        "workers": workers,
    }
    publish({**asked, **report}, plot=plot, json=json)


def _contenders(model: str, shape: str | None) -> tuple[str, ...]:
    from rain_decoding.benchmarks.speed.contenders import EVERYWHERE

    if shape is not None or model in SMALL:
        return ("plain", "generate", "fast", "balanced", "thorough", "paper-hh")
    return EVERYWHERE


def _prepare(model: str, threads: int | None, plot: Path | None, turns: int | None) -> None:
    """Set the threads, and say at once what would fail after the measurement."""
    if not model.startswith("gguf:"):
        try:
            import torch
            import transformers  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(f"rain bench needs {error.name}", hint=install("hf")) from error
        if threads is not None:
            torch.set_num_threads(threads)
    if plot is not None:
        if turns is not None:
            raise InputError("--plot cannot draw --turns", hint="omit --plot or --turns")
        check_plot(plot)


def _numbers(option: str, text: str, kind: type[Number]) -> tuple[Number, ...]:
    """The numbers of a comma-separated list."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} {text!r}", hint="use comma-separated numbers, such as 1,4") from error


def _single(option: str, numbers: tuple[Number, ...]) -> Number:
    if len(numbers) > 1:
        raise InputError(
            f"{option} has {len(numbers)} numbers", hint="use a single number for this measurement"
        )
    return numbers[0]


def _prompts(model: str, families: str, file: Path | None, n: int) -> Families:
    from rain_decoding.benchmarks.speed.prompts import demo_prompts, everyday_prompts, read_prompts

    if file is not None:
        return read_prompts(file, n)
    return demo_prompts(families.split(","), n) if model in SMALL else everyday_prompts(n)


def _replay(sweep: Sweep, shape: str, device: str | None, dtype: str | None) -> Report:
    from rain_decoding.benchmarks.speed import modes
    from rain_decoding.benchmarks.speed.shapes import random_model

    with status(f"making {shape}"):
        model = random_model(shape, device=device, dtype=dtype)
    return modes.replay(sweep, model, _tracked)


def _run(
    plan: SpeedPlan,
    names: tuple[str, ...],
    judge: JudgeOptions,
    load: Callable[[], LocalBackend],
    *,
    workers: int,
    turns: bool,
) -> Report:
    from rain_decoding.benchmarks.speed import modes
    from rain_decoding.benchmarks.speed.contenders import check_names, make_contenders
    from rain_decoding.benchmarks.speed.machine import describe, resident_bytes
    from rain_decoding.benchmarks.speed.shards import Shards

    check_names(names)
    with status("loading the model"):
        backend = load()
        resident = resident_bytes()
        contenders = make_contenders(names, backend, judge)
    if turns:
        return modes.turns(plan, contenders, backend, _tracked)
    if workers == 1:
        return modes.compare(plan, contenders, backend, _tracked) | {"resident_bytes": resident}
    with Shards(workers, load, names, judge, describe(backend)["threads"]) as shards:
        report = modes.compare(plan, contenders, backend, _tracked, shards)
    return report | {"resident_bytes": resident}


def _load(
    model: str,
    device: str | None,
    dtype: str | None,
    engine_options: tuple[str, ...],
    threads: int | None,
) -> LocalBackend:
    if model == "random":
        from rain_decoding.benchmarks.speed.random_model import random_backend

        return random_backend()
    given = {"device": device, "dtype": dtype, "threads": threads if model.startswith("gguf:") else None}
    options = {key: value for key, value in given.items() if value is not None}
    backend = load_backend(model, **options, **read_options(model, engine_options))
    if not isinstance(backend, LocalBackend):
        raise UnsupportedError(
            f"{model} does not run in this process", hint="use demo, random, hf:NAME or gguf:FILE"
        )
    return backend


def _tracked(items: Iterable[Item], total: int) -> Iterable[Item]:
    """Pass items on, with a bar on standard error."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress("measured", *columns, console=err, disable=not err.is_terminal) as progress:
        yield from progress.track(items, total=total)
