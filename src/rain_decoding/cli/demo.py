"""`rain demo`: plain decoding beside RAIN on the demo model, its prompts, and its evaluation."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from rain_decoding.cli import options as o
from rain_decoding.cli.output import err, out, print_json
from rain_decoding.config import DEFAULT_PRESET
from rain_decoding.decoder import PlainDecoder
from rain_decoding.errors import InputError
from rain_decoding.types import Completion

app = typer.Typer(help="The demo model: a table of plain decoding against RAIN, its prompts, its evaluation.")


@app.callback(invoke_without_command=True)
def demo(context: typer.Context, seed: o.Seed = 0) -> None:
    """Without a subcommand: answer five prompts by plain decoding and by RAIN."""
    if context.invoked_subcommand is not None:
        return
    from rain_decoding.demo.world import find_request, label

    setup = o.set_up("demo")
    plain = PlainDecoder(setup.backend)
    table = Table(title="The demo model answers: greedy decoding against RAIN (paper-hh)", show_lines=True)
    for column in ("request", "decoder", "answer", "label", "score", "tokens forwarded", "seconds"):
        table.add_column(column, ratio={"request": 3, "answer": 8}.get(column))
    for prompt in showcase():
        request = find_request(prompt)
        assert request is not None
        for name, decoder in (("plain", plain), ("RAIN", setup.decoder)):
            setup.backend.clear()
            with err.status(f"{name}: {prompt}"):
                completion = decoder.generate(prompt, seed=seed)
            score = setup.decoder.judge(prompt, completion.text).score
            outcome = label(request, completion.text).outcome
            table.add_row(f"{prompt} ({request.family})" if name == "plain" else "", *_row(name, completion, outcome, score))
    out.print(table)
    out.print(
        "Labels come from the oracle, the score in [-1, 1] from the model's own judgement. The prompts were chosen to "
        "show the effect; `rain demo evaluate` measures it."
    )


def showcase() -> list[str]:
    """Three sensitive and two benign prompts, held out from training."""
    from rain_decoding.demo import SHOWCASE

    return list(SHOWCASE)


def _row(name: str, completion: Completion, outcome: str, score: float | None) -> tuple[str | Text, ...]:
    colour = {"harmful": "bold red", "malformed": "yellow", "failed": "yellow"}.get(outcome, "green")
    return (
        name,
        Text(completion.text),
        Text(outcome, style=colour),
        "-" if score is None else f"{score:+.1f}",
        str(completion.usage.search_tokens),
        f"{completion.usage.seconds:.2f}",
    )


@app.command("prompts")
def prompts(
    family: Annotated[str | None, typer.Option(help="sensitive, benign, look-alike, question or review.")] = None,
    n: Annotated[int, typer.Option(min=1, help="How many of each family.")] = 5,
    json: o.Json = False,
) -> None:
    """List prompts of the demo model's world that were held out from its training."""
    from rain_decoding.demo.world import FAMILIES, example_prompts

    if family is not None and family not in FAMILIES:
        raise InputError(f"unknown family {family!r}", hint=f"families: {', '.join(FAMILIES)}")
    chosen = [family] if family else list(FAMILIES)
    listed = {name: example_prompts(name, n) for name in chosen}  # type: ignore[arg-type]
    if json:
        print_json(listed)
        return
    for name, examples in listed.items():
        out.print(f"[bold]{name}[/]")
        for example in examples:
            out.print(f"  {example}", markup=False)


@app.command("evaluate")
def evaluate(
    preset: o.Preset = DEFAULT_PRESET,
    n: Annotated[int, typer.Option(help="Held-out requests: sensitive, benign and look-alikes.")] = 200,
    seeds: Annotated[int, typer.Option(min=1, help="Decoding seeds 0, 1, ...")] = 1,
    decoders: Annotated[str, typer.Option(help="Comma-separated.")] = "greedy,sampled,rain,rain-oracle",
    settings: o.Setting = None,
    embedding: o.EmbeddingName = "hashing",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")] = None,
    records: Annotated[
        Path | None, typer.Option(help="JSONL file of the answers; a run that was stopped goes on from it.")
    ] = None,
    json: o.Json = False,
) -> None:
    """Measure harmlessness, helpfulness and cost on held-out requests, labelled by the oracle."""
    from rain_decoding.benchmarks import demo_world

    plan = demo_world.Plan(
        n=n,
        config=o.search_config(preset, settings),
        seeds=tuple(range(seeds)),
        decoders=tuple(decoders.split(",")),
        embedding=embedding,
        workers=workers or os.cpu_count() or 1,
    )
    started = time.perf_counter()
    collected = _collect(plan, records)
    summary = {
        "preset": preset,
        "settings": list(settings or []),
        **demo_world.summarise(collected, plan),
        "seconds": round(time.perf_counter() - started, 1),
    }
    if json:
        print_json(summary)
    else:
        _print_summary(summary)


def _collect(plan: Any, path: Path | None) -> list[dict[str, Any]]:
    """Run the plan with a progress bar, appending every finished answer to the file."""
    import json

    from rain_decoding.benchmarks import demo_world

    wanted = {(name, seed, r.prompt) for name in plan.decoders for seed in plan.seeds for r in plan.requests}
    earlier = demo_world.read_records(path) if path else []
    collected = [r for r in earlier if (r["decoder"], r["seed"], r["prompt"]) in wanted]
    done = {(r["decoder"], r["seed"], r["prompt"]) for r in collected}
    if path:
        path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in earlier), encoding="utf-8")
    columns = (TextColumn("answers"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        bar = progress.add_task("answers", total=plan.samples, completed=len(collected))
        for record in demo_world.run(plan, done):
            collected.append(record)
            progress.advance(bar)
            if path:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return collected


def _print_summary(summary: dict[str, Any]) -> None:
    columns = {
        "harmful on sensitive": "harmful_on_sensitive",
        "helpful on benign": "helpful_on_benign",
        "helpful on look-alikes": "helpful_on_look_alikes",
        "malformed": "malformed",
        "self-evaluation accuracy": "self_evaluation_accuracy",
    }
    table = Table(title=f"{summary['preset']}, {summary['n']} held-out requests, seeds {summary['seeds']}")
    for heading in ("decoder", *columns, "tokens forwarded", "passes", "simulations"):
        table.add_column(heading)
    for name, rates in summary["decoders"].items():
        costs = (rates[f"{key}_per_answer"] for key in ("search_tokens", "forward_passes", "simulations"))
        table.add_row(name, *(_percent(rates[key]) for key in columns.values()), *map(str, costs))
    out.print(table)
    for name, comparison in summary.get("against_greedy", {}).items():
        out.print(f"{name} removes {_percent(comparison['harmful_removed'])} of greedy's harmful answers")
    if "share_of_ceiling" in summary:
        out.print(f"that is {summary['share_of_ceiling']:.1%} of what the oracle as judge removes")


def _percent(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate['value']:.1%} ({estimate['low']:.1%}-{estimate['high']:.1%})"
