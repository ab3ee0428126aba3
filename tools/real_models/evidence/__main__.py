#!/usr/bin/env python3
"""The tables of docs/results/real-models.md: `python -m real_models.evidence --data DIR --out OUT --model NAME=MODEL`.

Answers of every decoder are kept in OUT as they are finished, and nothing is done twice: the same command goes on.
Each model's answers to attacks are labelled by a reader on another one (`--reader NAME=OTHER`; else the next in the
list; it is an error where there is no other). The stages `answers` and `labels` may be run apart, also on other
machines; without either, there are only tables, of OUT and of the folders in `--also`, which are put between the marks
of `--page`.
"""

from __future__ import annotations

import argparse
import tarfile
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path

from real_models.evidence.blind import show
from real_models.evidence.plot import draw
from real_models.evidence.prompts import ATTACKS, DIALOGUES, HARMLESS
from real_models.evidence.run import DECODERS, OutOfTimeError, Work, fit_readers, run
from real_models.evidence.tables import read_runs, tables

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
PACKED = ("records.jsonl", "summary.json", "run.json", "labels-*.jsonl", "blind*.jsonl")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    started = time.monotonic()
    models = dict(one.split("=", 1) for one in options.model)
    names = list(models)
    readers = {name: names[(place + 1) % len(names)] for place, name in enumerate(names)}
    readers |= dict(one.split("=", 1) for one in options.reader)
    wanted = options.of.split(",") if options.of else names
    stages = options.stages.split(",")
    if "labels" in stages and (own := [name for name in wanted if readers.get(name) == name]):
        parser.error(
            f"{', '.join(own)} would read its own answers: add another --model, or use --stages answers"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    work = Work(
        options.out,
        options.data,
        models,
        readers,
        decoders=options.decoders,
        limit=options.limit,
        labels=options.labels,
        workers=options.workers,
        rounds=options.rounds,
        concurrency=options.concurrency,
        max_tokens=options.max_tokens,
        families=tuple(options.families.split(",")),
        other_half=options.other_half,
        seeds=tuple(map(int, options.seeds.split(","))),
    )
    if "answers" in stages:
        for name in wanted:
            left = options.minutes * 60 - (time.monotonic() - started)
            try:
                run(work, name, seconds=left if options.minutes else inf)
            except OutOfTimeError:
                print(f"time is over for {name}: the same command goes on", flush=True)
    if "labels" in stages:
        fit_readers(work, wanted)
        for name in wanted:
            work.label(name)
    if options.pack:
        _pack(options.out, options.pack)
    runs = read_runs([options.out, *options.also])
    text = "\n".join(tables(runs))
    (options.out / "tables.md").write_text(text + "\n", encoding="utf-8")
    if options.page:
        _into(options.page, text)
    if options.blind:
        for each in runs:
            show(each.folder, each.records, options.blind)
    if options.plot:
        draw(runs, options.plot)


def _into(page: Path, text: str) -> None:
    """Put the tables between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _pack(folder: Path, file: Path) -> None:
    """All that the tables need, in one file."""
    with tarfile.open(file, "w:gz") as archive:
        for path in sorted(folder.glob("reader-*.json")):
            archive.add(path, path.name)
        for path in sorted(path for name in PACKED for path in folder.glob(f"*/{name}")):
            archive.add(path, str(path.relative_to(folder)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with the data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=MODEL")
    parser.add_argument("--of", default="", help="names whose answers are wanted; default: all")
    parser.add_argument("--reader", action="append", default=[], metavar="NAME=OTHER")
    parser.add_argument("--decoders", default=DECODERS)
    parser.add_argument(
        "--families",
        default=",".join(ATTACKS + HARMLESS),
        help=f"besides the default: {', '.join(DIALOGUES)}",
    )
    parser.add_argument(
        "--other-half",
        action="store_true",
        help="the prompts that are not untouched, for families of AdvBench",
    )
    parser.add_argument("--limit", type=int, default=0, help="prompts per family; 0: all")
    parser.add_argument(
        "--labels", type=int, default=0, help="labelled answers that readers are fitted on; 0: all"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes, each with its own model")
    parser.add_argument(
        "--rounds", type=int, default=1, help="parts of the prompts that all decoders answer first"
    )
    parser.add_argument("--concurrency", type=int, help="requests that each process decodes at once")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--seeds", default="0", help="each prompt is answered once with each")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so long; 0: never")
    parser.add_argument("--stages", default="answers,labels", help="answers, labels, both or none")
    parser.add_argument(
        "--also", type=Path, action="append", default=[], help="further folders OUT for the tables"
    )
    parser.add_argument("--blind", type=int, default=0, help="write so many answers to be read blind")
    parser.add_argument("--page", type=Path, help="page whose tables are written anew")
    parser.add_argument("--plot", type=Path, help="harm against refusals and tokens: .svg, .png or .pdf")
    parser.add_argument("--pack", type=Path, help="a .tar.gz with all that the tables need")
    return parser


if __name__ == "__main__":
    main()
