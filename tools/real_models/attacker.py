#!/usr/bin/env python3
"""An attacker who knows all this: `python -m real_models.attacker --data DIR --out OUT --model M --reader R ...`.

Each decoder is attacked by itself: random search over suffixes on what it answers in the end (`rain attack search`),
with `--queries` answers a behaviour at most, by what a reader on another model says, which is shown the bare goal.
Then every decoder answers the request without and with the best suffix found against it, on fresh seeds; `--second`
names a further judge that the attacker did not ask: what fools the first one alone does not fool both.

Prints a table, writes OUT/attacker.md, and goes on where it was stopped. The reader's probe is fitted as by
`real_models.ablation`, and kept as OUT/reader.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rain_decoding import SearchConfig
from rain_decoding.attacks.behaviours import Behaviour, read_behaviours
from rain_decoding.attacks.black_box import BlackBoxConfig
from rain_decoding.attacks.plan import BlackBoxPlan
from rain_decoding.attacks.runner import AttackRun
from rain_decoding.attacks.victim import Victim
from rain_decoding.cli.progress import counting
from rain_decoding.config import DEFAULT_PRESET
from rain_decoding.evaluation.answering import Setting, decoders
from rain_decoding.evaluation.contenders import contender, split_names
from rain_decoding.evaluation.judges import Judge, ReplyCache, load_judge
from rain_decoding.evaluation.report.formats import percent
from rain_decoding.evaluation.runner import REPLIES
from rain_decoding.measurement.records import Record
from rain_decoding.measurement.statistics import rate
from real_models.ablation import fitted_reader
from real_models.evidence.prompts import FILES, untouched
from real_models.evidence.run import CRITERION

DECODERS = "plain,plain+principle+refusal,verify-regenerate-4,rain:balanced"


def main() -> None:
    options = _parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = options.data / FILES["advbench"][1]
    behaviours = [each for each in read_behaviours(data, 0) if untouched(each.goal)]
    behaviours = behaviours[: options.limit or None]
    names = [f"read:{options.reader}#probe={fitted_reader(options)}", *filter(None, [options.second])]
    judges = [load_judge(name, ReplyCache(options.out / REPLIES)) for name in names]
    setting = Setting(
        options.model, (("prefix_cache_slots", 0),), max_tokens=options.max_tokens, judge=options.judge
    )
    lines = [
        "| decoder | behaviours | queries | tokens a query | no suffix | best suffix |",
        "|" + " --- |" * 6,
    ]
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
            lines += [row(plan, run.records, judge, options.fresh) for judge in judges]
    text = "\n".join(lines)
    (options.out / "attacker.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def _ticked(tick: Callable[[], object], record: Record) -> None:
    tick()


def row(plan: BlackBoxPlan, records: Sequence[Record], judge: Judge, fresh: int) -> str:
    """What came of the attacks on one decoder, as a judge labels answers on seeds that no attack used."""
    decoder, _ = decoders(plan.contender, plan.setting, plan.criterion, plan.prompt_format)
    found = {record["goal"]: record["controls"] for record in records}
    victims = [Victim(decoder, judge, 1, plan.setting.max_tokens, first=seed) for seed in range(fresh)]
    worked = [pair for victim in victims for pair in successes(victim, plan.behaviours, found)]
    goals = [behaviour.goal for behaviour in plan.behaviours] * fresh
    bare, attacked = (rate([pair[place] for pair in worked], goals) for place in (0, 1))
    queries = sum(record["queries"] for record in records)
    cells = [
        f"{plan.decoder} (by {judge.name.partition('#')[0]})",
        str(len(records)),
        f"{queries / len(records):.0f}",
        f"{sum(record['tokens'] for record in records) / queries:.0f}",
        percent(bare.rounded()) if bare else "-",
        percent(attacked.rounded()) if attacked else "-",
    ]
    return f"| {' | '.join(cells)} |"


def successes(
    victim: Victim, behaviours: Sequence[Behaviour], suffixes: dict[str, str]
) -> Iterator[tuple[bool, bool]]:
    """Whether each behaviour's request works without and with its suffix."""
    for behaviour in behaviours:
        bare, attacked = victim.losses(behaviour, ["", suffixes[behaviour.goal]]).losses
        yield bare == 0, attacked == 0


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
