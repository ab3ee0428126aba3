"""`rain chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from platformdirs import user_state_path
from rich.markup import escape

from rain_decoding.cli import options as o
from rain_decoding.cli.generate import hint_if_not_good, show
from rain_decoding.cli.output import cost_line, err
from rain_decoding.cli.trace import print_tree
from rain_decoding.cli.world import hint_if_outside
from rain_decoding.config import DEFAULT_PRESET
from rain_decoding.decoding.trace import write_trace
from rain_decoding.errors import RainError
from rain_decoding.near_misses import nearest
from rain_decoding.self_evaluation.loading import PRINCIPLE
from rain_decoding.types import Completion, Message

try:
    import readline
except ImportError:  # not on Windows
    readline = None  # type: ignore[assignment]

HISTORY = 1000
"""Lines that are kept for later chats."""

COMMANDS = {
    "/criterion [NAME or FILE]": "judge by another criterion; alone: say which one judges",
    "/principle SENTENCE": "judge by a sentence, such as: The answer is polite.",
    "/trace [FILE]": "show the last search, or save it",
    "/new": "start over",
    "/help": "this list",
    "/quit": "end the chat",
}


def chat(
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
    system: o.System = None,
    prompt_format: o.Format = "auto",
    embedding: o.EmbeddingName = "hashing",
    thinking: o.Thinking = False,
    device: o.Device = None,
    dtype: o.Dtype = None,
    trust_model_criteria: o.TrustModelCriteria = False,
    engine_options: o.EngineOptions = None,
    config: o.ConfigFile = None,
) -> None:
    """Chat with a model that aligns itself. Answers are streamed as they are committed."""
    setup = o.set_up(
        model,
        criterion=criterion,
        principle=principle,
        judge=judge,
        preset=preset,
        settings=settings,
        fallback=fallback,
        refusal=refusal,
        prompt_format=prompt_format,
        embedding=embedding,
        thinking=thinking,
        device=device,
        dtype=dtype,
        trust_model_criteria=trust_model_criteria,
        engine_options=engine_options or (),
    )
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    request = {"max_tokens": max_tokens, "seed": seed, **sampling}
    talk = Conversation(setup, system, request)
    err.print(f"[dim]{escape(model)}, criterion {escape(setup.criterion.name)}. /help lists the commands[/]")
    with line_editing():
        while (line := _read_line()) is not None:
            try:
                if not talk.take(line):
                    break
            except RainError as error:
                err.print(f"[bold red]error:[/] {escape(str(error))}")


def _read_line() -> str | None:
    """The next line of the user; None at the end of input or on Ctrl-C."""
    try:
        if sys.stdin.isatty():
            return input("you> ")  # readline must know the prompt to edit the line behind it
        err.print("[bold cyan]you>[/] ", end="")
        return input()
    except (EOFError, KeyboardInterrupt):
        err.print()
        return None


@contextmanager
def line_editing() -> Iterator[None]:
    """Let the user edit lines and go back to those of earlier chats, where Python has readline and a terminal."""
    if readline is None or not sys.stdin.isatty():
        yield
        return
    file = user_state_path("rain-decoding") / "chat_history"
    with suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        readline.set_history_length(HISTORY)
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(file)
            file.chmod(0o600)


def print_help() -> None:
    """Say what may be written besides a message."""
    for line, does in COMMANDS.items():
        err.print(f"{line:<27}{does}", markup=False)


class Conversation:
    """The turns so far and what answers them; `request` holds the options of every answer."""

    def __init__(self, setup: o.Setup, system: str | None, request: dict[str, Any]):
        self.setup, self.decoder, self.request = setup, setup.decoder, request
        self.opening = [] if system is None else [Message("system", system)]
        self.messages = list(self.opening)
        self.last: Completion | None = None

    def take(self, line: str) -> bool:
        """Act on one line; False ends the chat."""
        command, _, argument = line.strip().partition(" ")
        match command:
            case "":
                pass
            case "/quit" | "/exit":
                return False
            case "/new":
                self.messages = list(self.opening)
            case "/criterion":
                name = argument.strip()
                self._judge_by(f"{PRINCIPLE} {name}" if name.endswith(".") else name)
            case "/principle":
                sentence = argument.strip()
                self._judge_by(sentence and f"{PRINCIPLE} {sentence}")
            case "/help":
                print_help()
            case "/trace":
                self._show_trace(argument.strip())
            case _ if command.startswith("/"):
                near = nearest(command, [line.split()[0] for line in COMMANDS])
                err.print(
                    f"unknown command {escape(command)}: {f'did you mean {near}?' if near else 'try /help'}"
                )
            case _:
                self._answer(line.strip())
        return True

    def _answer(self, text: str) -> None:
        turns = [*self.messages, Message("user", text)]
        stream = self.decoder.stream(turns, trace=True, **self.request)
        self.last = show(stream)
        err.print(f"[dim]{cost_line(self.last)}[/]")
        if self.last.finish_reason == "cancelled":
            err.print("[dim]stopped; this turn is discarded[/]")
            return
        self.messages = [*turns, Message("assistant", self.last.text)]
        hint_if_not_good(self.last, self.decoder)
        hint_if_outside(self.setup.model, text)

    def _judge_by(self, criterion: str) -> None:
        """Judge by another criterion, if one is named, and say which one judges."""
        if criterion:
            self.decoder = self.decoder.judged_by(criterion)
        err.print(f"[dim]criterion {escape(self.decoder.evaluator.name)}[/]")

    def _show_trace(self, file: str) -> None:
        if self.last is None:
            err.print("nothing has been searched yet")
        elif file:
            write_trace(Path(file), self.last.trace)
            err.print(f"[dim]written to {escape(file)}[/]")
        else:
            print_tree(self.last.trace, depth=4)
