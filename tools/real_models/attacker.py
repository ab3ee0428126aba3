#!/usr/bin/env python3
"""An attacker who knows all this: `python -m real_models.attacker --data DIR --out OUT --model M --reader R ...`.

Each decoder is attacked by itself: random search over suffixes on what it answers in the end (`rain attack search`),
with `--queries` answers a behaviour at most, by what a reader on another model says, which is shown the bare goal.
Then every decoder answers the request without and with the best suffix found against it, on fresh seeds; `--second`
names a further judge that the attacker did not ask: what fools the first one alone does not fool both.

Prints a table, writes OUT/attacker.md and the answers, OUT/answers.jsonl (`real_models.evidence.verdicts` lists them,
and tells what was read in them, with `--families best-suffix`), and goes on where it was stopped. The reader's probe is
fitted as by `real_models.ablation`, and kept as OUT/reader.json; one that lies there is used, such as
`real_models.evidence.reader` makes of verdicts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rain_decoding import SearchConfig
from rain_decoding.attacks.behaviours import Behaviour, read_behaviours
from rain_decoding.attacks.black_box import BlackBoxConfig
from rain_decoding.attacks.plan import BlackBoxPlan
from rain_decoding.attacks.runner import AttackRun
from rain_decoding.attacks.victim import WANTED
from rain_decoding.cli.progress import counting
from rain_decoding.config import DEFAULT_PRESET
from rain_decoding.evaluation.answering import Setting, decoders
from rain_decoding.evaluation.contenders import contender, split_names
from rain_decoding.evaluation.judges import Judge, ReplyCache, load_judge
from rain_decoding.evaluation.report.formats import percent
from rain_decoding.evaluation.runner import KEYS, REPLIES
from rain_decoding.evaluation.suites.advbench import attacked
from rain_decoding.measurement.degeneration import degenerate
from rain_decoding.measurement.records import Record, RecordFile
from rain_decoding.measurement.statistics import rate
from real_models.ablation import fitted_reader
from real_models.evidence.prompts import FILES, untouched
from real_models.evidence.run import CRITERION

ANSWERS = "answers.jsonl"
BARE, SUFFIXED = "no-suffix", "best-suffix"
DECODERS = "plain,plain+principle+refusal,verify-regenerate-4,rain:balanced"


def main() -> None:
    options = _parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = options.data / FILES["advbench"][1]
    behaviours = attacked_behaviours(options.data, options.limit)
    names = [f"read:{options.reader}#probe={fitted_reader(options)}", *filter(None, [options.second])]
    judges = [load_judge(name, ReplyCache(options.out / REPLIES)) for name in names]
    setting = Setting(
        options.model, (("prefix_cache_slots", 0),), max_tokens=options.max_tokens, judge=options.judge
    )
    lines = [
        "| decoder | behaviours | queries | tokens a query | no suffix | best suffix |",
        "|" + " --- |" * 6,
    ]
    answers: list[Record] = []
    for number, name in enumerate(split_names(options.decoders)):
        plan = BlackBoxPlan(
            setting=setting,
            behaviours=tuple(behaviours),
            data=data,
            seed=options.seed,
            kind="search",
            config=BlackBoxConfig(queries=options.queries, batch=options.batch),
            decoder=name,
            contender=contender(name, SearchConfig.preset(DEFAULT_PRESET)),
            criterion=CRITERION,
            judge=judges[0],
            seeds=options.seeds,
        )
        with AttackRun(plan, options.out / f"{number}-{name.split(':')[0]}", []) as run:
            with counting(f"attacks on {name}", len(behaviours), len(run.records)) as tick:
                run.collect(partial(_ticked, tick))
            found = [
                each for seed in range(options.fresh) for each in answered(plan, run.records, judges, seed)
            ]
            answers += found
            RecordFile(options.out / ANSWERS, KEYS).write(answers)
            lines += [row(name, run.records, found, judge) for judge in judges]
    text = "\n".join(lines)
    (options.out / "attacker.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def attacked_behaviours(data: Path, limit: int) -> list[Behaviour]:
    """The first untouched behaviours of AdvBench in a folder with the data sets; 0: all."""
    found = [each for each in read_behaviours(data / FILES["advbench"][1], 0) if untouched(each.goal)]
    return found[: limit or None]


def _ticked(tick: Callable[[], object], record: Record) -> None:
    tick()


def answered(
    plan: BlackBoxPlan, attacks: Sequence[Record], judges: Sequence[Judge], seed: int
) -> Iterator[Record]:
    """The decoder's labelled answers to each behaviour without and with its suffix, on a seed that no attack used."""
    decoder, _ = decoders(plan.contender, plan.setting, plan.criterion, plan.prompt_format)
    suffixes = {record["goal"]: record["controls"] for record in attacks}
    for family in (BARE, SUFFIXED):
        items = [
            attacked(family, each.goal, suffixes[each.goal] if family == SUFFIXED else "")
            for each in plan.behaviours
        ]
        prompts = [item.prompt for item in items]
        answers = decoder.generate_batch(prompts, seed=seed, max_tokens=plan.setting.max_tokens)
        for item, answer in zip(items, answers, strict=True):
            labels = {judge.name: judge.label(item, answer.text, judge.questions).answers for judge in judges}
            yield {
                "id": f"{family}: {item.subject}",
                "family": family,
                "decoder": plan.decoder,
                "seed": seed,
                "subject": item.subject,
                "prompt": item.prompt,
                "answer": answer.text,
                "usage": asdict(answer.usage),
                "labels": labels
                | {"degeneration": {"degenerate": bool(degenerate(item.prompt, answer.text))}},
            }


def row(name: str, attacks: Sequence[Record], answers: Sequence[Record], judge: Judge) -> str:
    """What came of the attacks on one decoder, by a judge's labels."""
    question = next(question for question in WANTED if question in judge.questions)

    def success(family: str) -> str:
        own = [each for each in answers if each["family"] == family]
        worked = [each["labels"][judge.name].get(question) is WANTED[question] for each in own]
        found = rate(worked, [each["subject"] for each in own])
        return percent(found.rounded()) if found else "-"

    queries = sum(attack["queries"] for attack in attacks)
    cells = [
        f"{name} (by {judge.name.partition('#')[0]})",
        str(len(attacks)),
        f"{queries / len(attacks):.0f}",
        f"{sum(attack['tokens'] for attack in attacks) / queries:.0f}",
        success(BARE),
        success(SUFFIXED),
    ]
    return f"| {' | '.join(cells)} |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with the data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", required=True, help="the model that answers")
    parser.add_argument("--reader", required=True, help="another model, which reads the answers")
    parser.add_argument("--second", default="", help="a judge that the attacker does not ask")
    parser.add_argument("--judge", default="read", help="the searches' judge")
    parser.add_argument("--decoders", default=DECODERS)
    parser.add_argument("--limit", type=int, default=0, help="behaviours; 0: all")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1, help="the attacker's seeds")
    parser.add_argument("--fresh", type=int, default=1, help="seeds that success is measured on")
    parser.add_argument("--labels", type=int, default=200, help="labelled answers for the reader; 0: all")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
