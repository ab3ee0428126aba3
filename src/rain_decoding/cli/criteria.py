"""`rain criteria`: list the criteria there are, show one, write a new one."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from rain_decoding import near_misses
from rain_decoding.backends import load_backend, read_options
from rain_decoding.cli import options as o
from rain_decoding.cli.output import err, out, print_json
from rain_decoding.errors import CriterionError, InputError
from rain_decoding.files import read_text
from rain_decoding.self_evaluation.criterion import known_criteria, read_criterion

app = typer.Typer(help="List the criteria there are, and with --model also those the model brings.")

PAIRS = 2
"""Examples of each verdict that are asked for."""
HEAD = """name = {name}
summary = {summary}

[judge]
placement = "prefix"
instruction = "Below are conversations between a person and an assistant. Decide which of two statements describes the \
assistant's last answer better."
question = \"\"\"Options:
(A) {{option_1}}
(B) {{option_2}}\"\"\"
lead = "The more fitting option is: ("
close = ")"

[options]
labels = ["A", "B"]
positive = {positive}
negative = {negative}
both_orders = true

[guidance]                    # what is proposed in place of bad text, see docs/repair.md
principle = {positive}
decline = "I'm sorry, but I have no good answer to that."
"""
EXAMPLE = """
[[examples]]
turns = [{request}, {answer}]
verdict = "{verdict}"
first = "{first}"
"""


@app.callback(invoke_without_command=True)
def criteria(
    context: typer.Context,
    model: o.Model = "",
    engine_options: o.EngineOptions = None,
    json: o.Json = False,
) -> None:
    """List the criteria there are, and with --model also those the model brings."""
    if context.invoked_subcommand is not None:
        return
    files = known_criteria(brought_folders(model, engine_options or []))
    rows = {name: read_criterion(path) for name, path in files.items()}
    if json:
        print_json({name: {"summary": row.summary, "file": str(files[name])} for name, row in rows.items()})
        return
    table = Table("criterion", "question", "examples", "placement")
    for name, row in rows.items():
        placement = f"{row.placement}, suffix as good" if row.suffix_as_good else row.placement
        table.add_row(name, row.summary, str(len(row.examples)), placement)
    out.print(table)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A criterion's name.")],
    model: o.Model = "",
    engine_options: o.EngineOptions = None,
) -> None:
    """Print a criterion's file, to read, or to begin one of your own with."""
    files = known_criteria(brought_folders(model, engine_options or []))
    if name not in files:
        raise CriterionError(f"unknown criterion {name!r}", hint=near_misses.hint(name, files, "criteria"))
    err.print(f"{files[name]}", markup=False, style="dim")
    out.print(read_text(files[name]), markup=False, end="")


@app.command("new")
def new(
    file: Annotated[Path, typer.Argument(help="The TOML file to write, such as polite.toml.")],
) -> None:
    """Ask for a sentence and four examples, and write a criterion that judges by them.

    Models of every size judge better by a sentence with examples than by the sentence alone.
    """
    if file.exists():
        raise InputError(f"{file} is there already", hint="name another file")
    if not file.parent.is_dir():
        raise InputError(f"there is no folder {file.parent}", hint="make it first")
    sentence = typer.prompt("What must be true of a good answer? (such as: The answer is polite.)", err=True)
    negative = typer.prompt(
        "And what is true of a bad one?", default=f"This is not the case: {sentence}", err=True
    )
    parts = [
        HEAD.format(
            name=quoted(file.stem),
            summary=quoted(sentence),
            positive=quoted(sentence),
            negative=quoted(negative),
        )
    ]
    for number in range(PAIRS):
        for verdict, called in (("positive", "good"), ("negative", "bad")):
            request = typer.prompt(
                f"A request, example {number + 1} of {PAIRS} of a {called} answer", err=True
            )
            answer = typer.prompt(f"A {called} answer to it", err=True)
            first = "positive" if (number + (verdict == "positive")) % 2 else "negative"
            parts.append(
                EXAMPLE.format(request=quoted(request), answer=quoted(answer), verdict=verdict, first=first)
            )
    file.write_text("".join(parts), encoding="utf-8")
    read_criterion(file)
    err.print(
        f"written to {file}. Use it: rain generate PROMPT --criterion {file}; "
        f"whether your model judges well by it: rain calibrate --criterion {file} --data FILE",
        markup=False,
    )


def quoted(text: str) -> str:
    """A text as a string of TOML, which escapes what JSON does."""
    return json_format.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def brought_folders(model: str, engine_options: list[str]) -> tuple[Path, ...]:
    """Folders of criteria that a model brings; none where none is named."""
    return load_backend(model, **read_options(model, engine_options)).criteria_dirs if model else ()
