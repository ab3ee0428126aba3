"""Options that several commands share, and what they build."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from rain_decoding.backends import BACKENDS
from rain_decoding.backends.base import Backend
from rain_decoding.cli.output import err, status
from rain_decoding.config import DEFAULT_PRESET, PRESETS
from rain_decoding.decoding.loading import load_decoder
from rain_decoding.decoding.rain_decoder import RainDecoder
from rain_decoding.errors import InputError
from rain_decoding.evaluation.contenders import DECODERS, FORM_NOTE
from rain_decoding.self_evaluation.embedding import EMBEDDERS
from rain_decoding.self_evaluation.evaluator import Evaluator, description
from rain_decoding.self_evaluation.loading import JUDGE_FORMS

MODEL, JUDGE, SEARCH, OUTPUT = "Model", "Judge", "Search", "Output"
"""Groups of options in help texts."""

Prompt = Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help=f"The model: a file, folder, URL, alias, or {BACKENDS.own_forms}.",
        rich_help_panel=MODEL,
    ),
]
CriterionName = Annotated[
    str | None,
    typer.Option(
        "--criterion",
        "-c",
        help="A criterion's name or TOML file, or several: min(A, B), mean(A*2, B), A>0.5, B.",
        rich_help_panel=JUDGE,
    ),
]
Principle = Annotated[
    str | None,
    typer.Option(
        help='A criterion in one sentence, such as "The answer is polite."; models judge better by a file with four '
        "examples: rain criteria new.",
        rich_help_panel=JUDGE,
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        help=escape(
            f"Who judges: {JUDGE_FORMS}. Default: auto, which reads the model's hidden states where that surely beats "
            "a coin, and else asks; the paper's presets ask."
        ),
        rich_help_panel=JUDGE,
    ),
]
Fallback = Annotated[
    str | None,
    typer.Option(
        help="For answers that are not judged good: flag, alternative or refusal.", rich_help_panel=JUDGE
    ),
]
Refusal = Annotated[
    str | None, typer.Option(help="The text that --fallback refusal returns.", rich_help_panel=JUDGE)
]
Preset = Annotated[
    str, typer.Option("--preset", "-p", help=f"Search preset: {', '.join(PRESETS)}.", rich_help_panel=SEARCH)
]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change one option of the preset; may be repeated.",
        rich_help_panel=SEARCH,
    ),
]
MaxTokens = Annotated[
    int | None, typer.Option(help="Tokens to generate at most.", show_default="256", rich_help_panel=SEARCH)
]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.", rich_help_panel=SEARCH)]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="Temperature of plain decoding; 0 is greedy.", show_default="0", rich_help_panel=SEARCH
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        help="Plain decoding draws from so many of the most probable tokens.",
        show_default="all",
        rich_help_panel=SEARCH,
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        help="Plain decoding draws from the tokens that hold this much.",
        show_default="1",
        rich_help_panel=SEARCH,
    ),
]
DECODER_NAMES = escape(
    f"Comma-separated: {', '.join(kind.form for kind in DECODERS.own.values())}. {FORM_NOTE}."
)
StopStrings = Annotated[
    list[str] | None,
    typer.Option("--stop", help="A string that ends the answer; repeatable.", rich_help_panel=SEARCH),
]
System = Annotated[str | None, typer.Option(help="A system message.", rich_help_panel=MODEL)]
Format = Annotated[
    str, typer.Option("--format", help="Prompt format: auto, chat, dialogue or text.", rich_help_panel=MODEL)
]
EmbeddingName = Annotated[
    str, typer.Option("--embedding", help=f"{EMBEDDERS.own_forms}.", rich_help_panel=SEARCH)
]
Thinking = Annotated[
    bool, typer.Option("--thinking", help="Let a reasoning model reason first.", rich_help_panel=MODEL)
]
MaxSeconds = Annotated[
    float | None, typer.Option(help="Return the best so far after this many seconds.", rich_help_panel=SEARCH)
]
MaxSearchTokens = Annotated[
    int | None,
    typer.Option(help="Return the best so far after this many tokens forwarded.", rich_help_panel=SEARCH),
]
Device = Annotated[
    str | None, typer.Option(help="Device for hf: models, such as cpu or cuda:0.", rich_help_panel=MODEL)
]
Dtype = Annotated[
    str | None,
    typer.Option(help="Data type for hf: models, such as float32 or bfloat16.", rich_help_panel=MODEL),
]
TrustModelCriteria = Annotated[
    bool,
    typer.Option(
        "--trust-model-criteria",
        help="Let criteria in the model's folder replace built-in ones.",
        rich_help_panel=JUDGE,
    ),
]
EngineOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-option",
        metavar="NAME=VALUE",
        help="Change how the model is loaded or run, such as threads=4; `rain models` lists them. May be repeated.",
        rich_help_panel=MODEL,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="File of settings, default: RAIN_CONFIG, or rain.toml here; `rain config` shows what holds.",
        rich_help_panel=MODEL,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output.", rich_help_panel=OUTPUT)
]


def read_prompt(prompt: str) -> str:
    """The prompt, or standard input where it is `-`."""
    try:
        text = sys.stdin.read().removeprefix("\ufeff") if prompt == "-" else prompt
        text.encode()
    except UnicodeError as error:
        raise InputError(f"the prompt is no valid UTF-8: {error}") from error
    if not text.strip():
        raise InputError("the prompt is empty", hint="give a question, or - and text on standard input")
    return text


def messages(prompt: str, system: str | None) -> str | list[dict[str, str]]:
    """The prompt alone, or as messages behind a system message."""
    if system is None:
        return prompt
    return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]


@dataclass(frozen=True)
class Setup:
    """What a command works with. `criterion` names what judges."""

    backend: Backend
    decoder: RainDecoder
    criterion: Evaluator
    preset: str
    model: str


def set_up(model: str, *, preset: str = DEFAULT_PRESET, **options: Any) -> Setup:
    """Load what a command works with; `options` are those of `load_decoder`."""
    with status(f"loading {model}") as say:

        def told(done: int, of: int) -> None:
            say(f"fitting a probe: {done} of {of} examples read")
            if done == 1:
                err.print(f"fitting a probe of {model} on {of} examples; it is kept for the next time")

        decoder = load_decoder(model, preset=preset, told=told, **options)
    err.print(f"judge: {description(decoder.evaluator)}", markup=False, style="dim")
    return Setup(decoder.backend, decoder, decoder.evaluator, preset, model)
