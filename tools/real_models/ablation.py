#!/usr/bin/env python3
"""What each part of the search is worth, and what bounds it: `python -m real_models.ablation --data DIR --out OUT ...`.

On the same requests: plain decoding, the preset, each kind of proposal alone, each part of the selection switched off,
and the ceiling: the evaluation's own judge, which is shown the bare goal, inside the search (a perfect judge), and the
best of many whole answers by it (what the model has to say at all). Where a perfect judge gains nothing, judging is not
the bound; where the best of many is bad, the model is.

The evaluation's judge is a probe on *another* model (`--reader`), fitted on the labelled answers of `--data` that are
not for figures (see `real_models.evidence`). Finished answers are kept in OUT, and the same command goes on.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rain_decoding import PlainDecoder, RainDecoder, SearchConfig, load_backend
from rain_decoding.backends.base import Backend
from rain_decoding.cli.progress import counting
from rain_decoding.config import PROPOSALS
from rain_decoding.decoding.baselines import BestOfDecoder
from rain_decoding.decoding.decoder import Decoder
from rain_decoding.decoding.trace import write_trace
from rain_decoding.evaluation.judges.reading import ReadingLabels
from rain_decoding.evaluation.report.formats import percent
from rain_decoding.evaluation.suites import Item
from rain_decoding.measurement.degeneration import degenerate
from rain_decoding.measurement.records import Record, RecordFile
from rain_decoding.measurement.statistics import rate
from rain_decoding.prompting import Prompt, build_prompt
from rain_decoding.self_evaluation.criterion import load_criterion
from rain_decoding.self_evaluation.elsewhere import ElsewhereEvaluator
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator
from rain_decoding.self_evaluation.reading.learning import learn
from rain_decoding.self_evaluation.reading.reader import Reader
from rain_decoding.types import Completion
from real_models.evidence.prompts import ATTACKS, FAMILIES, evidence_suite, labelled_examples
from real_models.evidence.run import CRITERION

KEYS = {"setting": str, "id": str, "answer": str}
KINDS = {f"{kind} alone": {"proposals": (kind,)} for kind in PROPOSALS}
PARTS: dict[str, dict[str, Any]] = {
    "no proposals": {"proposals": ()},
    "no last resort": {"proposals": ("guided:4", "openings", "sampled")},
    "no rising bar": {"rising_bar": False},
    "no look-ahead": {"undecided_margin": 0.0},
    "nothing held back": {"hold_tokens": 0},
    "all held back": {"hold_tokens": 10_000},
    "read every 32 tokens": {"read_every": 32},
    "stricter after a bad verdict": {"accept_after": 0.5},
}
"""What is changed of the preset."""


class GoalEvaluator:
    """Judges answers as answers to the bare goal, by a reader elsewhere: the evaluation's own judge in the search."""

    name = "the evaluation's judge"

    def __init__(self, reader: Reader, goals: Mapping[str, str]):
        self.reader, self.goals = reader, goals
        self.evaluator = ElsewhereEvaluator(reader.evaluator(load_criterion("harmlessness")))

    def conversation(self, prompt: Prompt) -> ConversationEvaluator:
        """A judge of answers to the goal that a prompt is about."""
        asked = prompt.messages[-1].content
        return self.evaluator.conversation(build_prompt(self.goals.get(asked, asked), self.reader.backend))


def main() -> None:
    options = _parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    probe = fitted_reader(options)
    items = chosen_items(options.data, options.families.split(","), options.limit)
    judge = ReadingLabels(f"read:{options.reader}#probe={probe}")
    reader = Reader(judge.backend, along=True, file=probe)
    goals = {item.prompt: goal_of(item) for item in items}
    backend = load_backend(options.model, prefix_cache_slots=0)  # no setting is to profit from another
    makers = settings(backend, options, GoalEvaluator(reader, goals))
    wanted = options.settings.split(",") if options.settings else list(makers)
    traces: Path = options.out / "traces"
    traces.mkdir(exist_ok=True)
    file = RecordFile(options.out / "ablation.jsonl", KEYS)
    records = file.read()
    done = {(record["setting"], record["id"]) for record in records}
    with counting("answers", len(wanted) * len(items), len(records)) as tick:
        for name in wanted:
            missing = [item for item in items if (name, item.id) not in done]
            decoder = makers[name]() if missing else None
            for item, completion in answers(decoder, missing, options) if decoder else ():
                if completion.trace:
                    write_trace(traces / f"{name.replace(' ', '-')}-{item.id}.jsonl", completion.trace)
                record = recorded(name, item, completion, judge)
                file.append(record)
                records.append(record)
                tick()
    lines = "\n".join(table(records, wanted))
    (options.out / "ablation.md").write_text(lines + "\n", encoding="utf-8")
    print(lines)


def fitted_reader(options: argparse.Namespace) -> Path:
    """The file of the evaluation's probe, fitted now if it is not there."""
    probe: Path = options.out / "reader.json"
    if not probe.exists():
        examples = labelled_examples(options.data, options.labels)
        with counting("the reader reads labelled answers", len(examples)) as tick:
            learn(load_backend(options.reader), examples, "harmlessness", told=tick).save(probe)
    return probe


def goal_of(item: Item) -> str:
    """What is asked for, without an attack's additions."""
    return str(item.facts.get("goal", item.prompt))


def chosen_items(data: Path, families: Sequence[str], limit: int) -> list[Item]:
    """The first `limit` untouched prompts of each family; 0: all."""
    found: dict[str, list[Item]] = {name: [] for name in families}
    for item in evidence_suite(data).load({}):
        own = found.get(item.family)
        if own is not None and (not limit or len(own) < limit):
            own.append(item)
    return [item for own in found.values() for item in own]


def settings(
    backend: Backend, options: argparse.Namespace, perfect: GoalEvaluator
) -> dict[str, Callable[[], Decoder]]:
    """By name, what makes the decoder."""
    base = SearchConfig.preset(options.preset)

    def search(**changes: Any) -> Decoder:
        return RainDecoder(backend, CRITERION, base.with_changes(**changes), judge=options.judge)

    everything = tuple(
        kind for kind in PROPOSALS if kind != "steered"
    )  # the perfect judge does not read this model
    return {
        "plain": partial(PlainDecoder, backend),
        options.preset: search,
        **{name: partial(search, **changes) for name, changes in (KINDS | PARTS).items()},
        "perfect judge": partial(RainDecoder, backend, perfect, base),
        "perfect judge, all kinds": partial(
            RainDecoder, backend, perfect, base.with_changes(proposals=everything)
        ),
        f"best of {options.best_of}": partial(BestOfDecoder, backend, perfect, options.best_of),
    }


def answers(
    decoder: Decoder, items: Sequence[Item], options: argparse.Namespace
) -> Iterable[tuple[Item, Completion]]:
    """What a decoder says to each."""
    found = decoder.iterate_batch(
        [item.prompt for item in items],
        seed=options.seed,
        max_tokens=options.max_tokens,
        concurrency=options.concurrency,
        trace=isinstance(decoder, RainDecoder),
    )
    for index, completion in found:
        yield items[index], completion


def recorded(setting: str, item: Item, completion: Completion, judge: ReadingLabels) -> Record:
    """One answer with its labels, and which kinds of proposals were tried and taken."""
    said = judge.label(item, completion.text, judge.questions).answers[judge.questions[0]]
    kinds = {
        child["id"]: child.get("kind", "")
        for event in completion.trace
        if event["event"] == "expand"
        for child in event["children"]
    }
    taken = [kinds.get(event["node"], "") for event in completion.trace if event["event"] == "commit"]
    usage = completion.usage
    return {
        "setting": setting,
        "id": item.id,
        "family": item.family,
        "goal": goal_of(item),
        "answer": completion.text,
        "harmful": None if said is None else not said,
        "degenerate": bool(degenerate(item.prompt, completion.text)),
        "tokens": usage.search_tokens,
        "passes": usage.forward_passes,
        "rewinds": usage.rewinds,
        "proposed": dict(Counter(kind for kind in kinds.values() if kind)),
        "taken": sorted({kind for kind in taken if kind}),
    }


def table(records: Sequence[Record], names: Sequence[str]) -> Iterable[str]:
    """Lines of Markdown: attacks first, then what is harmless."""
    plain = {record["id"]: record for record in records if record["setting"] == "plain"}
    yield "| setting | attacks | harmful, as read | degenerate | tokens | passes | rewinds | taken |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name in names:
        own = [each for each in records if each["setting"] == name and each["family"] in ATTACKS]
        if not own:
            continue
        goals = [each["goal"] for each in own]
        harmful = rate([each["harmful"] is True for each in own], goals)
        broken = rate([each["degenerate"] for each in own], goals)
        taken = Counter(kind for each in own for kind in each["taken"])
        cells = [
            name,
            str(len(own)),
            percent(harmful.rounded()) if harmful else "-",
            percent(broken.rounded()) if broken else "-",
            _beside(own, plain, "tokens"),
            _beside(own, plain, "passes"),
            f"{sum(each['rewinds'] for each in own) / len(own):.1f}",
            ", ".join(f"{kind} {count}" for kind, count in taken.most_common()) or "-",
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "| setting | harmless requests | text as plain decoding's | tokens | passes |"
    yield "| --- | --- | --- | --- | --- |"
    for name in names:
        own = [each for each in records if each["setting"] == name and each["family"] not in ATTACKS]
        both = [each for each in own if each["id"] in plain]
        if not both:
            continue
        same = rate(
            [each["answer"] == plain[each["id"]]["answer"] for each in both], [each["id"] for each in both]
        )
        cells = [name, str(len(both)), percent(same.rounded()) if same else "-"]
        yield f"| {' | '.join([*cells, _beside(own, plain, 'tokens'), _beside(own, plain, 'passes')])} |"


def _beside(own: Sequence[Record], plain: Mapping[str, Record], what: str) -> str:
    """A cost as a multiple of plain decoding's on the same requests."""
    both = [each for each in own if each["id"] in plain]
    spent, usual = (sum(each[what] for each in some) for some in (both, [plain[each["id"]] for each in both]))
    return f"{spent / usual:.2f}" if usual else "-"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with the data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", required=True, help="the model that answers")
    parser.add_argument("--reader", required=True, help="another model, which reads the answers")
    parser.add_argument("--judge", default="read", help="the search's judge")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--settings", default="", help="names, separated by commas; default: all")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--limit", type=int, default=0, help="prompts per family; 0: all")
    parser.add_argument("--labels", type=int, default=200, help="labelled answers for the reader; 0: all")
    parser.add_argument("--best-of", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
