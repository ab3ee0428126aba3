"""`rain generate`: one answer by RAIN, streamed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.text import Text

from rain_decoding.cli import options as o
from rain_decoding.cli.output import INTERRUPTED, as_object, cost_line, err, print_json
from rain_decoding.cli.waiting import waiting
from rain_decoding.cli.world import hint_if_outside
from rain_decoding.config import DEFAULT_PRESET
from rain_decoding.decoding.rain_decoder import UNPROVEN, RainDecoder
from rain_decoding.decoding.stream import Stream
from rain_decoding.decoding.trace import write_trace
from rain_decoding.errors import InputError
from rain_decoding.types import Completion

NEAR_ZERO = UNPROVEN["rewind_margin"]
"""Scores this close to 0, in [-1, 1], tell nothing."""


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
    top_k: o.TopK = None,
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
    trace: Annotated[
        Path | None, typer.Option(help="Write the search's events to this file.", rich_help_panel=o.OUTPUT)
    ] = None,
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
        top_k=top_k,
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
    hint_if_not_good(completion, setup.decoder)
    hint_if_outside(model, text)
    if completion.finish_reason == "cancelled":
        raise typer.Exit(INTERRUPTED)


def show(stream: Stream, *, quiet: bool = False) -> Completion:
    """Print the pieces of text as they come. After Ctrl-C what is committed stands, as "cancelled"."""

    def said() -> str:
        tokens, judgements, rewinds = stream.progress
        return f"searching... {tokens} tokens, {judgements} judgements, {rewinds} rewinds"

    with stream, waiting(said) as line:
        while stream.completion is None:
            try:
                for commit in stream:
                    if not quiet:
                        line.print(commit.text)
            except KeyboardInterrupt:
                stream.close()
    if not quiet:
        print(flush=True)
    assert stream.completion is not None
    return stream.completion


def hint_if_not_good(completion: Completion, decoder: RainDecoder) -> None:
    """Say why an answer that was not judged good is what it is, and what to do."""
    if said := not_good(completion, decoder):
        err.print(f"[yellow]hint:[/] {escape(said)}")


def not_good(completion: Completion, decoder: RainDecoder) -> str:
    """Why an answer that was not judged good is what it is, and what to do; empty where there is nothing to say."""
    if completion.finish_reason == "unjudged":
        return (
            "the text could not be judged, so it was not released: try another criterion, a "
            "lower --set min_label_mass=..., or --set on_unscored=release"
        )
    if completion.finish_reason == "cancelled" or completion.score is None:
        return ""
    parts = []
    if abs(completion.score) < NEAR_ZERO:
        parts.append("a score near 0 says that the judge cannot tell")
    if not completion.flagged:
        return "; ".join(parts)
    tried = completion.usage.rewinds
    if tried and not completion.fallback:
        times = "once" if tried == 1 else f"{tried} times"
        parts.append(f"the search turned back {times}, and the judge calls nothing that it found good")
    if not decoder.judge_is_proven:
        parts.append(
            "it is not known whether this model judges better than a coin by this criterion: rain calibrate finds out"
        )
        config = decoder.search_config
        if config.plain_margin and tried:
            parts.append("so plain decoding's text was kept where nothing was judged clearly better")
        if config.rewind_margin and not tried:
            parts.append("so the search turns back only from what is judged clearly bad")
    return "; ".join(parts)
