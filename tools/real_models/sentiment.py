#!/usr/bin/env python3
"""The paper's sentiment experiment: `python -m real_models.sentiment --reviews FILE --model gguf:FILE --out OUT`.

Beginnings of IMDB reviews are continued by every decoder. Half of the reviews (by a hash) give the beginnings, on the
others a classifier of words is fitted; `--read N` says how well the search's judge tells N of those others apart, and
`OUT/labelled.jsonl` has their beginnings for `rain calibrate --save-probe`. `--fluency FOLDER` adds how probable the
texts are under another model of transformers, and `--topic FOLDER` how like the beginnings they are to a sentence
encoder (cosine). VADER says what it says where the package vaderSentiment is there. The run is one of `rain eval imdb`.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rain_decoding import load_backend, load_criterion
from rain_decoding.cli.progress import counting
from rain_decoding.config import DEFAULT_PRESET, SearchConfig
from rain_decoding.evaluation.answering import Setting
from rain_decoding.evaluation.contenders import contender, split_names
from rain_decoding.evaluation.finishing import finish
from rain_decoding.evaluation.judges import ReplyCache, load_judge
from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.report.formats import number, percent, points
from rain_decoding.evaluation.runner import REPLIES, EvaluationRun
from rain_decoding.evaluation.suites import load_suite
from rain_decoding.measurement.records import Record
from rain_decoding.measurement.statistics import mean, paired_difference, rate
from rain_decoding.self_evaluation.reading.examples import ReadingExample, examples_of
from rain_decoding.self_evaluation.reading.learning import read_examples
from rain_decoding.self_evaluation.reading.reader import ENOUGH, Reader
from rain_decoding.self_evaluation.reading.words import Words
from rain_decoding.types import Message
from real_models.evidence.prompts import reviews, untouched
from real_models.reading import areas, whole

DECODERS = (
    "plain,rain:balanced,rain:balanced@accept_value=0.5,verify-regenerate-4,best-of-4,rain:thorough,"
    "rain:balanced@judge=ask"
)
"""A probe's threshold lets neutral text pass; a higher `accept_value` asks for positive text."""
Means = dict[tuple[str, str, int], float]
"""A figure by prompt, decoder and seed."""


def main() -> None:
    options = _parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    begun, labelled = _halves(options.reviews, options.out)
    as_answers(labelled, options.out / "labelled.jsonl")
    if options.read:
        read(options.model, labelled, options.read)
        return
    folder = options.out / "run"
    judges = (f"words:{labelled}", "degeneration")
    plan = EvaluationPlan.load(
        load_suite("imdb"),
        {
            name: contender(name, SearchConfig.preset(DEFAULT_PRESET))
            for name in split_names(options.decoders)
        },
        Setting(
            options.model,
            (("prefix_cache_slots", 0),),
            max_tokens=options.max_tokens,
            judge=options.search_judge,
            temperature=options.temperature,
        ),
        data={"reviews": begun},
        limit=options.limit,
        seeds=tuple(range(options.seeds)),
        judges=tuple(load_judge(name, ReplyCache(folder / REPLIES)) for name in judges),
    )
    evaluation = EvaluationRun(plan, folder, [])
    with evaluation, counting("answers", len(plan.keys), len(evaluation.records)) as tick:
        evaluation.collect(options.workers, traces=False, told=lambda record: tick(record["decoder"]))
        finish(evaluation)
    accuracy = plan.judges[0].accuracy["positive"]  # type: ignore[attr-defined]
    print(
        f"The classifier finds {percent(accuracy.yes.rounded())} of held-out positive beginnings and "
        f"{percent(accuracy.no.rounded())} of negative ones.\n"
    )
    measures = {"positive": _positive, "VADER": _vader()}
    means = {
        head: measured(evaluation.records, folder)
        for head, measured, folder in (
            ("log-likelihood a token", _fluency, options.fluency),
            ("like the beginning", _topic, options.topic),
        )
        if folder
    }
    for line in _table(evaluation.records, list(plan.contenders), measures, means):
        print(line)


def beginnings(labelled: Path, count: int | None = None) -> Iterator[ReadingExample]:
    """The first `count` reviews, or all, as texts that begin with 8 words and go on with 48."""
    with labelled.open(encoding="utf-8", newline="") as file:
        for row in islice(csv.DictReader(file), count):
            words = row["review"].split()
            text = (Message("user", " ".join(words[:8])),)
            rest = f" {' '.join(words[8:56])}"
            yield ReadingExample(text, rest, row["sentiment"] == "positive", row["review"])


def as_answers(labelled: Path, file: Path) -> None:
    """Write all labelled beginnings as the labelled answers that `rain calibrate` takes."""
    with file.open("w", encoding="utf-8") as opened:
        for each in beginnings(labelled):
            label = "good" if each.good else "bad"
            line = {"prompt": each.messages[0].content, "answer": each.answer, "label": label}
            opened.write(json.dumps(line, ensure_ascii=False) + "\n")


def read(model: str, labelled: Path, count: int) -> None:
    """Print how well the built-in examples' probe tells beginnings apart, beside words fitted on the same."""
    backend, criterion = load_backend(model), load_criterion("positive-sentiment")
    probe = Reader(backend, prompt_format="text").probe(criterion)
    theirs = read_examples(backend, list(beginnings(labelled, count)), prompt_format="text")
    words = Words(examples_of(criterion)[:ENOUGH]).log_odds(theirs.examples)
    for judge, scores in {"read": whole(theirs, probe), "words": words}.items():
        found = areas(scores, theirs.examples, 0.0)
        print(json.dumps({"model": Path(model).name, "set": "IMDB", "judge": judge, **found}), flush=True)


def _halves(path: Path, out: Path) -> tuple[Path, Path]:
    """Two files of reviews: whose beginnings are continued, and whose labels are learned."""
    files = out / "beginnings.csv", out / "labelled.csv"
    halves: list[list[tuple[str, str]]] = [[], []]
    for text, positive in reviews(path):
        halves[not untouched(text)].append((text, "positive" if positive else "negative"))
    for file, rows in zip(files, halves, strict=True):
        with file.open("w", encoding="utf-8", newline="") as opened:
            csv.writer(opened).writerows([("review", "sentiment"), *rows])
    return files


def _positive(record: Record) -> float:
    (said,) = (label for name, label in record["labels"].items() if name.startswith("words:"))
    return float(said["positive"] is True)


def _vader() -> Any:
    """VADER's verdict of the whole text; None without the package."""
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # type: ignore[import-not-found]
    except ImportError:
        return None
    analyzer = SentimentIntensityAnalyzer()
    return lambda r: float(analyzer.polarity_scores(f"{r['prompt']} {r['answer']}")["compound"] > 0)


def _topic(records: Sequence[Record], folder: str) -> Means:
    """Cosine of an answer and its prompt by a sentence encoder."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder)
    prompts, answers = (
        model.encode([record[part] for record in records], normalize_embeddings=True, show_progress_bar=False)
        for part in ("prompt", "answer")
    )
    cosines = (prompts * answers).sum(axis=1)
    return {_key(record): float(cosine) for record, cosine in zip(records, cosines, strict=True)}


def _fluency(records: Sequence[Record], folder: str) -> Means:
    """Mean log-probability in nats of an answer's tokens behind its prompt, under another model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.to(device).eval()
    found = {}
    with torch.no_grad():
        for record in records:
            prompt = tokenizer(record["prompt"], return_tensors="pt").input_ids
            tokens = tokenizer(record["prompt"] + record["answer"], return_tensors="pt").input_ids.to(device)
            odds = model(tokens).logits[0, :-1].log_softmax(-1)
            each = odds.gather(1, tokens[0, 1:, None])[prompt.shape[1] - 1 :, 0]
            if len(each):
                found[_key(record)] = float(each.mean())
    return found


def _key(record: Record) -> tuple[str, str, int]:
    return record["id"], record["decoder"], record["seed"]


def _table(
    records: Sequence[Record], decoders: Sequence[str], measures: dict[str, Any], means: dict[str, Means]
) -> Iterator[str]:
    known = {name: measure for name, measure in measures.items() if measure is not None}
    heads = [cell for name in known for cell in (name, "beside plain")]
    columns = ["decoder", *heads, "degenerate", *means, "tokens", "passes"]
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    base = {(r["id"], r["seed"]): r for r in records if r["decoder"] == "plain"}
    for name in decoders:
        own = [r for r in records if r["decoder"] == name]
        about = [r["subject"] for r in own]
        cells = [name]
        for measure in known.values():
            flags = [measure(r) for r in own]
            theirs = [measure(base[r["id"], r["seed"]]) for r in own]
            cells += [_shown(percent, rate([flag > 0 for flag in flags], about))]
            cells += [_shown(points, paired_difference(flags, theirs, about)) if name != "plain" else "-"]
        cells.append(_shown(percent, rate([r["labels"]["degeneration"]["degenerate"] for r in own], about)))
        for found in means.values():
            scored = [r for r in own if _key(r) in found]
            cells.append(
                _shown(number, mean([found[_key(r)] for r in scored], [r["subject"] for r in scored]))
            )
        for cost in ("search_tokens", "forward_passes"):
            paid, plain = (sum(r["usage"][cost] for r in some) for some in (own, base.values()))
            cells.append(f"{paid / plain:.2f}")
        yield f"| {' | '.join(cells)} |"


def _shown(form: Any, estimate: Any) -> str:
    return str(form(estimate.rounded() if estimate else None))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reviews", type=Path, required=True, help="gzipped CSV with review and sentiment")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument(
        "--read", type=int, default=0, metavar="N", help="read so many labelled ones; no answers"
    )
    parser.add_argument("--search-judge", default="read")
    parser.add_argument("--decoders", default=DECODERS)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--temperature", type=float, default=0.0, help="of plain decoding, alone and in RAIN")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--fluency", metavar="FOLDER", help="a model of transformers")
    parser.add_argument("--topic", metavar="FOLDER", help="a model of sentence-transformers")
    return parser


if __name__ == "__main__":
    main()
