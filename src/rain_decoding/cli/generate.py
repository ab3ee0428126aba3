"""`rain generate`: one answer by RAIN, streamed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from rain_decoding.cli import options as o
from rain_decoding.cli.output import INTERRUPTED, as_object, cost_line, err, print_json, status, visible
from rain_decoding.cli.world import hint_if_outside
from rain_decoding.config import DEFAULT_PRESET
from rain_decoding.decoding.decoder import Stream
from rain_decoding.decoding.trace import write_trace
from rain_decoding.errors import InputError
from rain_decoding.types import Completion


def generate(
    prompt: o.Prompt,
    model: o.Model = "demo",
    criterion: o.CriterionName = None,
    principle: o.Principle = None,
    judge: o.Judge = None,
    preset: o.Preset = DEFAULT_PRESET,
    settings: o.Setting = None,
    fallback: o.Fallback = None,
    refusal: o.Refusal = None,
    max_tokens: o.MaxTokens = None,
    seed: o.Seed = 0,
    temperature: o.Temperature = None,
    top_p: o.TopP = None,
    stop: o.StopStrings = None,
    system: o.System = None,
    prompt_format: o.Format = "auto",
    embedding: o.EmbeddingName = "hashing",
    thinking: o.Thinking = False,
    max_seconds: o.MaxSeconds = None,
    max_search_tokens: o.MaxSearchTokens = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    trust_model_criteria: o.TrustModelCriteria = False,
    engine_options: o.EngineOptions = None,
    config: o.ConfigFile = None,
    json: o.Json = False,
    trace: Annotated[Path | None, typer.Option(help="Write the search's events to this file.")] = None,
) -> None:
    """Answer a prompt with RAIN; the text is printed as it is committed, the cost on standard error."""
    text = o.read_prompt(prompt)
    if trace is not None and not trace.parent.is_dir():
        raise InputError(f"--trace {trace}: there is no folder {trace.parent}")
    setup = o.set_up(
        model,
        criterion=criterion,
        principle=principle,
        judge=judge,
        preset=preset,
        settings=settings,
        fallback=fallback,
        refusal=refusal,
        embedding=embedding,
        prompt_format=prompt_format,
        thinking=thinking,
        device=device,
        dtype=dtype,
        trust_model_criteria=trust_model_criteria,
        engine_options=engine_options or (),
    )
    stream = setup.decoder.stream(
        o.messages(text, system),
        max_tokens=max_tokens,
        seed=seed,
        temperature=temperature,
        top_p=top_p,
        stop=stop,
        max_seconds=max_seconds,
        max_search_tokens=max_search_tokens,
        trace=trace is not None,
    )
    completion = show(stream, quiet=json)
    if trace is not None:
        write_trace(trace, completion.trace)
    if json:
        print_json(
            as_object(
                completion,
                model=model,
                criterion=setup.criterion.name,
                preset=preset,
                engine_options=setup.backend.engine_options,
                calibration=setup.decoder.calibration,
            )
        )
    else:
        if completion.reasoning:
            err.print(Text(f"reasoning: {completion.reasoning}", style="dim"))
        err.print(f"[dim]{cost_line(completion)}[/]")
    hint_if_unjudged(completion)
    hint_if_outside(model, text)
    if completion.finish_reason == "cancelled":
        raise typer.Exit(INTERRUPTED)


def show(stream: Stream, *, quiet: bool = False) -> Completion:
    """Print the pieces of text as they come. After Ctrl-C what is committed stands, as "cancelled"."""
    tokens, piped = 0, not sys.stdout.isatty()
    with stream, status("searching", streams=not quiet) as say:
        while stream.completion is None:
            try:
                for commit in stream:
                    tokens += len(commit.tokens)
                    searched = "" if commit.simulations is None else f", {commit.simulations} simulations"
                    say(f"{tokens} tokens{searched}")
                    if not quiet:
                        print(commit.text if piped else visible(commit.text), end="", flush=True)
            except KeyboardInterrupt:
                stream.close()
    if not quiet:
        print(flush=True)
    assert stream.completion is not None
    return stream.completion


def hint_if_unjudged(completion: Completion) -> None:
    """Say what to do where a text could not be judged and was held back."""
    if completion.finish_reason == "unjudged":
        err.print(
            "[yellow]hint:[/] the text could not be judged, so it was not released: try another criterion, a "
            "lower --set min_label_mass=..., or --set on_unscored=release"
        )
