"""`rain export`: a run of `rain eval` as preference data for training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from rain_decoding.cli.output import err
from rain_decoding.errors import InputError


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a `rain eval`.")],
    file: Annotated[Path, typer.Option("--out", help="JSONL file to write.")],
    form: Annotated[
        Literal["dpo", "sft", "kto", "stepwise"],
        typer.Option(
            "--format", help="The training method to write for; stepwise needs a run with --traces."
        ),
    ] = "dpo",
    chosen: Annotated[
        str | None, typer.Option(help="Decoder of the chosen answers; default: the first search.")
    ] = None,
    rejected: Annotated[
        str | None, typer.Option(help="Decoder of the rejected answers; default: plain.")
    ] = None,
) -> None:
    """Write a run as training data for TRL's trainers: what the search found, beside plain decoding.

    The search's own judge decides what is good, not the judges of the evaluation.
    """
    from rain_decoding.evaluation.export import examples, open_run
    from rain_decoding.evaluation.finishing import REPORT, SUMMARY
    from rain_decoding.evaluation.rating.store import RATINGS
    from rain_decoding.evaluation.runner import COMPARISONS, RECORDS, RUN

    source = open_run(folder, chosen, rejected)
    own = (RUN, RECORDS, COMPARISONS, RATINGS, SUMMARY, REPORT)
    if file.name in own and file.resolve().parent == folder.resolve():
        raise InputError(f"--out {file} is a file of the run itself", hint="choose another file")
    count = 0
    try:
        with file.open("w", encoding="utf-8") as lines:
            for example in examples(source, form):
                lines.write(json.dumps(example, ensure_ascii=False) + "\n")
                count += 1
    except OSError as error:
        raise InputError(f"--out {file}: {error.strerror}", hint="choose another file") from error
    left_out = "".join(f", {number} {why}" for why, number in sorted(source.dropped.items()))
    err.print(f"wrote {count} examples to {file}; left out: {left_out[2:] or 'none'}", markup=False)
