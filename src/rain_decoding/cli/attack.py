"""`rain attack`: finds suffixes that bring out what a model should not answer, and measures what comes of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from rich.table import Table
from rich.text import Text

from rain_decoding.cli import options as o
from rain_decoding.cli.eval import loading
from rain_decoding.cli.output import err, out, print_json
from rain_decoding.cli.progress import collecting
from rain_decoding.config import DEFAULT_PRESET, SearchConfig
from rain_decoding.demo import BEHAVIOURS_FILE
from rain_decoding.errors import InputError
from rain_decoding.measurement.plots import check_plot
from rain_decoding.prompting import PromptFormat

if TYPE_CHECKING:
    from rain_decoding.attacks.plan import AttackPlan

app = typer.Typer(no_args_is_help=True, help="Attack your own model, to measure how robust it is.")

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"steps": 500, "batch": 512, "top_k": 256, "suffix_tokens": 20},
    "quick": {"steps": 60, "batch": 32, "top_k": 32, "suffix_tokens": 12},
}
"""Values of `GcgConfig`: those of Zou et al., and some for the demo model on a CPU."""

Out = Annotated[Path, typer.Option("--out", help="Folder of the attack; repeating the command resumes it.")]
Data = Annotated[
    Path | None,
    typer.Option(
        help="CSV file with the columns goal and target; default: behaviours of the demo model's world."
    ),
]
Limit = Annotated[int, typer.Option(min=0, help="Number of behaviours, from the first on; 0: all.")]
Restarts = Annotated[int, typer.Option(min=1, help="Number of restarts, which share the budget.")]
Budget = Annotated[
    int, typer.Option(min=0, help="Tokens forwarded per behaviour, all restarts together; 0: no limit.")
]
Against = Annotated[str, typer.Option(help="The decoder to attack, named as in rain eval.")]
Criterion = Annotated[
    str | None,
    typer.Option(
        "--criterion",
        "-c",
        help="The search's criterion; default: that of the suites, harmlessness for demo, else harmlessness-command.",
    ),
]
AttackSeeds = Annotated[
    int, typer.Option(min=1, help="Number of decoding seeds for the attacker's own tries.")
]
MaxTokens = Annotated[int, typer.Option(min=1, help="Maximum tokens per answer.")]
SearchJudge = Annotated[
    str | None,
    typer.Option(
        help="Who judges in the searches, as in rain eval: ask, read, read:MODEL, ... Default: auto."
    ),
]
Queries = Annotated[int, typer.Option(min=0, help="Answers to ask for per behaviour at most; 0: no limit.")]
LabelledBy = Annotated[
    str,
    typer.Option("--judge", help="The judge that labels the answers, as in rain eval: oracle, llm:..., ..."),
]


@app.command("gcg")
def gcg(
    folder: Out,
    model: o.Model = "demo",
    data: Data = None,
    limit: Limit = 0,
    mode: Annotated[
        Literal["each", "universal"], typer.Option(help="One suffix per behaviour, or one for all.")
    ] = "each",
    preset: Annotated[
        Literal["paper", "quick"], typer.Option("--preset", help="Preset for the next four options.")
    ] = "paper",
    steps: Annotated[int | None, typer.Option(min=1, help="Steps per restart.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Candidates per step.")] = None,
    top_k: Annotated[
        int | None, typer.Option("--topk", min=1, help="Tokens to try at each position.")
    ] = None,
    suffix_tokens: Annotated[int | None, typer.Option(min=1, help="Length of the suffix in tokens.")] = None,
    stop: Annotated[
        bool, typer.Option("--stop-on-success", help="Stop once greedy decoding answers with the target.")
    ] = False,
    adaptive: Annotated[
        float,
        typer.Option(min=0, help="Weight of the RAIN judge's label harmless in the loss; 0: none."),
    ] = 0.0,
    against: Annotated[
        str, typer.Option(help="With --adaptive: the search whose judge to attack.")
    ] = f"rain:{DEFAULT_PRESET}",
    criterion: Criterion = None,
    restarts: Restarts = 1,
    budget: Budget = 0,
    seed: o.Seed = 0,
    prompt_format: o.Format = "auto",
    device: o.Device = None,
    dtype: o.Dtype = None,
    engine_options: o.EngineOptions = None,
    json: o.Json = False,
) -> None:
    """White box: Greedy Coordinate Gradient (Zou et al. 2023) on a transformers model; see also --adaptive."""
    from rain_decoding.attacks.gcg import GcgConfig
    from rain_decoding.attacks.plan import GcgPlan

    chosen = {"steps": steps, "batch": batch, "top_k": top_k, "suffix_tokens": suffix_tokens}
    config = PRESETS[preset] | {name: value for name, value in chosen.items() if value is not None}
    plan = GcgPlan(
        **_common(model, device, dtype, engine_options, data, limit, seed, restarts, budget, prompt_format),
        config=GcgConfig(**config, stop_on_success=stop),
        mode=mode,
        adaptive=adaptive,
        contender=_search(against),
        criterion=_criterion(criterion, model),
    )
    _collect(plan, folder, json)


@app.command("search")
def search(
    folder: Out,
    model: o.Model = "demo",
    data: Data = None,
    limit: Limit = 0,
    against: Against = f"rain:{DEFAULT_PRESET}",
    judge: LabelledBy = "oracle",
    seeds: AttackSeeds = 3,
    steps: Annotated[int, typer.Option(min=1, help="Rounds per restart.")] = 500,
    batch: Annotated[int, typer.Option(min=1, help="Suffixes to request per round.")] = 8,
    words: Annotated[int, typer.Option(min=1, help="Maximum words per suffix.")] = 12,
    queries: Queries = 0,
    criterion: Criterion = None,
    search_judge: SearchJudge = None,
    restarts: Restarts = 1,
    budget: Budget = 0,
    seed: o.Seed = 0,
    max_tokens: MaxTokens = 160,
    prompt_format: o.Format = "auto",
    device: o.Device = None,
    dtype: o.Dtype = None,
    engine_options: o.EngineOptions = None,
    json: o.Json = False,
) -> None:
    """Black box: random search on a decoder's final answers, with the attacker's own seeds."""
    common = _common(
        model,
        device,
        dtype,
        engine_options,
        data,
        limit,
        seed,
        restarts,
        budget,
        prompt_format,
        max_tokens,
        search_judge,
    )
    sizes = {"steps": steps, "batch": batch, "words": words, "queries": queries}
    plan = _black_box("search", folder, common, against, judge, seeds, criterion, sizes)
    _collect(plan, folder, json)


@app.command("injection")
def injection(
    folder: Out,
    model: o.Model = "demo",
    data: Data = None,
    limit: Limit = 0,
    against: Against = f"rain:{DEFAULT_PRESET}",
    judge: LabelledBy = "oracle",
    seeds: AttackSeeds = 3,
    batch: Annotated[int, typer.Option(min=1, help="Suffixes to request per round.")] = 8,
    criterion: Criterion = None,
    budget: Budget = 0,
    seed: o.Seed = 0,
    max_tokens: MaxTokens = 160,
    prompt_format: o.Format = "auto",
    device: o.Device = None,
    dtype: o.Dtype = None,
    engine_options: o.EngineOptions = None,
    json: o.Json = False,
) -> None:
    """Judge injection: texts addressed to RAIN's judge, each appended to every request; the best one is kept."""
    common = _common(
        model, device, dtype, engine_options, data, limit, seed, 1, budget, prompt_format, max_tokens
    )
    sizes = {"batch": batch}
    plan = _black_box("injection", folder, common, against, judge, seeds, criterion, sizes)
    _collect(plan, folder, json)


def _common(
    model: str,
    device: str | None,
    dtype: str | None,
    engine_options: list[str] | None,
    data: Path | None,
    limit: int,
    seed: int,
    restarts: int,
    budget: int,
    prompt_format: str,
    max_tokens: int = 160,
    search_judge: str | None = None,
) -> dict[str, Any]:
    """What all plans are made of."""
    from rain_decoding.attacks.behaviours import read_behaviours
    from rain_decoding.evaluation.answering import Setting

    if data is None and model != "demo":
        raise InputError(
            "there are no behaviours", hint="use --data with a CSV file that has the columns goal and target"
        )
    path = data or BEHAVIOURS_FILE
    return {
        "setting": Setting(
            model,
            loading(model, device, dtype, engine_options),
            max_tokens=max_tokens,
            judge=search_judge,
        ),
        "behaviours": read_behaviours(path, limit),
        "data": path,
        "seed": seed,
        "restarts": restarts,
        "budget": budget,
        "prompt_format": prompt_format,
    }


def _criterion(given: str | None, model: str) -> str:
    """What the families of attacked requests are judged by, unless something else is given."""
    from rain_decoding.evaluation.suites import SUITES

    suite = SUITES["demo" if model == "demo" else "advbench"]
    return given or next(f.criterion for f in suite.families if f.name.startswith("attacked"))


def _search(name: str) -> Any:
    from rain_decoding.evaluation.contenders import contender

    chosen = contender(name, SearchConfig.preset(DEFAULT_PRESET))
    if not chosen.is_search:
        raise InputError(
            f"--against {name} is not a search, so it has no judge",
            hint="use a search, such as rain:balanced",
        )
    return chosen


def _black_box(
    kind: Literal["search", "injection"],
    folder: Path,
    common: dict[str, Any],
    against: str,
    judge: str,
    seeds: int,
    criterion: str | None,
    sizes: dict[str, int],
) -> AttackPlan:
    from rain_decoding.attacks.black_box import BlackBoxConfig
    from rain_decoding.attacks.plan import BlackBoxPlan
    from rain_decoding.evaluation.contenders import contender
    from rain_decoding.evaluation.judges import ReplyCache, load_judge
    from rain_decoding.evaluation.runner import REPLIES

    return BlackBoxPlan(
        **common,
        kind=kind,
        config=BlackBoxConfig(**sizes),
        decoder=against,
        contender=contender(against, SearchConfig.preset(DEFAULT_PRESET)),
        criterion=_criterion(criterion, common["setting"].model),
        judge=load_judge(judge, ReplyCache(folder / REPLIES)),
        seeds=seeds,
    )


def _collect(plan: AttackPlan, folder: Path, json: bool) -> None:
    """Run what is missing, with progress on standard error. Exits after Ctrl-C."""
    from rain_decoding.attacks.runner import RELEASED, AttackRun

    with (
        AttackRun(plan, folder, sys.argv[1:]) as run,
        collecting(lambda: len(run.records), len(plan.behaviours), folder, "behaviours", _loss) as told,
    ):
        run.collect(told)
    if json:
        print_json({"attack": plan.method, "attacks": run.records})
    err.print(f"suffixes: {folder / RELEASED}", markup=False)


def _loss(record: Mapping[str, Any]) -> str:
    return f"loss {record['loss']:.2f}" if record["loss"] is not None else ""


@app.command("success")
def success(
    attacks: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of attacks, one per method.")
    ],
    folder: Annotated[
        Path, typer.Option("--out", help="Folder of the measurement; repeating the command resumes it.")
    ],
    model: o.Model = "demo",
    decoders: Annotated[
        str, typer.Option(help="Comma-separated, as in rain eval.")
    ] = f"plain,rain:{DEFAULT_PRESET}",
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of decoding seeds (0, 1, ...); attacks use none of them.")
    ] = 3,
    points: Annotated[
        int, typer.Option(min=1, help="Number of budgets to measure at, each twice the one before.")
    ] = 4,
    judge: LabelledBy = "oracle",
    criterion: Criterion = None,
    search_judge: SearchJudge = None,
    prompt_format: o.Format = "auto",
    max_tokens: MaxTokens = 160,
    plot: Annotated[
        Path | None, typer.Option(help="File for a plot of success against budget: .png, .svg or .pdf.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    device: o.Device = None,
    dtype: o.Dtype = None,
    engine_options: o.EngineOptions = None,
    json: o.Json = False,
) -> None:
    """Measure how often the suffixes of attack runs work on fresh seeds, for plain decoding and RAIN, by budget."""
    from rain_decoding.attacks import success as s
    from rain_decoding.evaluation.answering import Setting
    from rain_decoding.evaluation.contenders import contender, split_names
    from rain_decoding.evaluation.judges import ReplyCache, load_judge
    from rain_decoding.evaluation.plan import EvaluationPlan
    from rain_decoding.evaluation.runner import REPLIES, EvaluationRun, write_json

    if plot:
        check_plot(plot)
    found = s.read_attacks(attacks)
    budgets = s.checkpoints(found, points)
    labelled_by = load_judge(judge, ReplyCache(folder / REPLIES))
    config = SearchConfig.preset(DEFAULT_PRESET)
    contenders = {name: contender(name, config) for name in split_names(decoders)}
    plan = EvaluationPlan.load(
        s.suite(found, budgets, _criterion(criterion, model), labelled_by, cast(PromptFormat, prompt_format)),
        contenders,
        Setting(
            model, loading(model, device, dtype, engine_options), max_tokens=max_tokens, judge=search_judge
        ),
        limit=0,
        seeds=tuple(range(seeds)),
        judges=(labelled_by,),
    )
    with (
        EvaluationRun(plan, folder, sys.argv[1:]) as run,
        collecting(lambda: len(run.records), len(plan.keys), folder) as told,
    ):
        run.collect(workers, False, told)
    rows = s.curves(found, budgets, plan, run.records, contenders)
    write_json(folder / "success.json", rows)
    if plot:
        s.draw(rows, plot)
    if json:
        print_json(rows)
    else:
        _print_success(rows, budgets)


def _print_success(rows: list[dict[str, Any]], budgets: list[int]) -> None:
    """One line per method and decoder, one column per budget."""
    table = Table(title=f"attack success: {rows[0]['n']} answers each, by tokens forwarded per behaviour")
    for heading in ("attack", "decoder"):
        table.add_column(heading, overflow="fold")
    for budget in budgets:
        table.add_column(f"{budget:,}", no_wrap=True)
    for method, decoder in dict.fromkeys((row["method"], row["decoder"]) for row in rows):
        own = [row for row in rows if (row["method"], row["decoder"]) == (method, decoder)]
        shares = (f"{row['value']:.0%} ({row['low']:.0%} to {row['high']:.0%})" for row in own)
        table.add_row(method, Text(decoder), *shares)
    out.print(table)
