"""`rain demo`: plain decoding beside RAIN on the demo model, its prompts, its evaluation, its files."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from rain_decoding.cli import options as o
from rain_decoding.cli.output import INTERRUPTED, err, out, print_json, status
from rain_decoding.cli.progress import counting
from rain_decoding.cli.summary import print_summary
from rain_decoding.config import DEFAULT_PRESET, search_config
from rain_decoding.decoding.plain_decoder import PlainDecoder
from rain_decoding.errors import InputError
from rain_decoding.types import Completion

if TYPE_CHECKING:
    from rain_decoding.benchmarks.demo_world import DemoPlan

Run = dict[str, Any]
"""The settings that all records of a file share."""

app = typer.Typer(help="The demo model: a table of plain decoding against RAIN, its prompts, its evaluation.")


@app.callback(invoke_without_command=True)
def demo(context: typer.Context, seed: o.Seed = 0) -> None:
    """Answer five prompts by plain decoding and by RAIN (without a subcommand)."""
    if context.invoked_subcommand is not None:
        return
    from rain_decoding.microworld import find_request, label

    setup = o.set_up("demo")
    decoders = {"greedy decoding": PlainDecoder(setup.backend), f"RAIN ({setup.preset})": setup.decoder}
    table = Table(title="The demo model answers", show_lines=True)
    table.add_column("request", ratio=2)
    for name in decoders:
        table.add_column(name, ratio=5)
    for prompt in showcase():
        request = find_request(prompt)
        assert request is not None
        cells = []
        for name, decoder in decoders.items():
            setup.backend.clear()
            with status(f"{name}: {prompt}"):
                completion = decoder.generate(prompt, seed=seed)
            score = setup.decoder.judge(prompt, completion.text).score
            cells.append(_cell(completion, label(request, completion.text).outcome, score))
        table.add_row(Text(f"{prompt}\n({request.family})"), *cells)
    out.print(table)
    out.print(
        "The labels come from the oracle, the scores in [-1, 1] from the model's own judgement. The prompts were "
        "chosen to show the effect; `rain demo evaluate` measures it."
    )


def showcase() -> list[str]:
    """Three sensitive and two benign prompts, held out from training."""
    from rain_decoding.demo import SHOWCASE

    return list(SHOWCASE)


def _cell(completion: Completion, outcome: str, score: float | None) -> Text:
    """An answer, the oracle's label, the model's own judgement, and the cost."""
    colour = {"harmful": "bold red", "malformed": "yellow", "failed": "yellow"}.get(outcome, "green")
    judged = "not judged" if score is None else f"score {score:+.1f}"
    usage = completion.usage
    return Text.assemble(
        f"{completion.text}\n",
        (outcome, colour),
        (f", {judged}, {usage.search_tokens} tokens forwarded, {usage.seconds:.1f} s", "dim"),
    )


@app.command("prompts")
def prompts(
    family: Annotated[
        str | None, typer.Option(help="sensitive, benign, look-alike, question or review.")
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="Number of prompts per family.")] = 5,
    json: o.Json = False,
) -> None:
    """List prompts of the demo model's world that were held out from its training."""
    from rain_decoding.microworld import FAMILIES, example_prompts

    if family is not None and family not in FAMILIES:
        raise InputError(f"unknown family {family!r}", hint=f"families: {', '.join(FAMILIES)}")
    chosen = [family] if family else list(FAMILIES)
    listed = {name: example_prompts(name, n) for name in chosen}
    if json:
        print_json(listed)
        return
    for name, examples in listed.items():
        out.print(f"[bold]{name}[/]")
        for example in examples:
            out.print(f"  {example}", markup=False)


@app.command("evaluate")
def evaluate(
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="The demo model: demo, or a backend that serves its exported file."
        ),
    ] = "demo",
    preset: o.Preset = DEFAULT_PRESET,
    n: Annotated[
        int, typer.Option(help="Number of held-out requests: sensitive, benign and look-alikes.")
    ] = 200,
    seeds: Annotated[int, typer.Option(min=1, help="Number of decoding seeds: 0, 1, ...")] = 1,
    decoders: Annotated[
        str,
        typer.Option(help=f"{o.DECODER_NAMES} greedy means plain, sampled means plain-sampled."),
    ] = "greedy,sampled,rain,rain-oracle",
    settings: o.Setting = None,
    embedding: o.EmbeddingName = "hashing",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes; default: one per core.")
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(help="JSONL file of the answers; repeating the command resumes a stopped run from it."),
    ] = None,
    json: o.Json = False,
) -> None:
    """Measure harmlessness, helpfulness and cost on held-out requests, labelled by the oracle."""
    from rain_decoding.benchmarks import demo_world
    from rain_decoding.benchmarks.summary import summarise
    from rain_decoding.evaluation.contenders import split_names

    plan = demo_world.DemoPlan.draw(
        n,
        search_config(preset, settings),
        split_names(decoders),
        seeds=tuple(range(seeds)),
        embedding=embedding,
        workers=workers or os.cpu_count() or 1,
        model=model,
    )
    if records is not None and not records.parent.is_dir():
        raise InputError(f"--records {records}: there is no folder {records.parent}")
    run: Run = {"preset": preset, "settings": list(settings or []), "embedding": embedding}
    if model != "demo":
        run["model"] = model
    started = time.perf_counter()
    collected = _collect(plan, records, run)
    if len(collected) < plan.answers:
        kept = (
            f"kept in {records}; repeat the command to resume"
            if records
            else "not saved; use --records FILE to save them"
        )
        err.print(f"stopped after {len(collected)} of {plan.answers} answers: {kept}", markup=False)
        raise typer.Exit(INTERRUPTED)
    seconds = round(time.perf_counter() - started, 1)
    summary = {**run, **summarise(collected, plan), "seconds": seconds}
    if json:
        print_json(summary)
    else:
        print_summary(summary)


@app.command("export")
def export(
    gguf: Annotated[Path | None, typer.Option(help="GGUF file to write, for llama.cpp.")] = None,
    hf: Annotated[Path | None, typer.Option(help="Folder to write, for transformers.")] = None,
    dtype: Annotated[
        Literal["f32", "f16"],
        typer.Option(
            help="Number format of the GGUF file; f16 is half as large, and its logits differ by 0.01."
        ),
    ] = "f32",
) -> None:
    """Write the demo model as files that other programs read."""
    from rain_decoding.microworld.export import write_gguf, write_hf

    if gguf is None and hf is None:
        raise InputError("nothing to export", hint="use --gguf FILE, --hf FOLDER, or both")
    try:
        if gguf is not None:
            write_gguf(gguf, dtype)
        if hf is not None:
            write_hf(hf)
    except OSError as error:
        written = error.filename or gguf or hf
        raise InputError(
            f"cannot write {written}: {error.strerror or error}", hint="make room, or choose another place"
        ) from error
    for path in (gguf, hf):
        if path is not None:
            err.print(f"wrote {path}", markup=False)


def _collect(plan: DemoPlan, path: Path | None, run: Run) -> list[dict[str, Any]]:
    """Run what the file does not hold yet, with a progress bar; after Ctrl-C, what there is."""
    from rain_decoding.benchmarks import demo_world
    from rain_decoding.measurement.records import RecordFile

    file = RecordFile(path, {"decoder": str, "seed": int, "prompt": str, "run": dict})
    collected = list({_key(record): record for record in file.read()}.values())
    for record in collected:
        if record["run"] != run:
            raise InputError(
                f"{path} was made with {record['run']}, not {run}",
                hint="choose a new file, or rerun with the original options",
            )
    wanted = {
        (name, seed, r.prompt) for name in plan.contenders for seed in plan.seeds for r in plan.requests
    }
    collected = [record for record in collected if _key(record) in wanted]
    with counting("answers", plan.answers, len(collected)) as tick:
        try:
            for record in demo_world.run(plan, {_key(r) for r in collected}):
                file.append({**record, "run": run})
                collected.append(record)
                tick()
        except KeyboardInterrupt:
            pass
    return collected


def _key(record: dict[str, Any]) -> tuple[str, int, str]:
    """What a record answers."""
    return record["decoder"], record["seed"], record["prompt"]
