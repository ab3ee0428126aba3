"""A reader fitted on verdicts: `python -m real_models.evidence.reader --model M --out PROBE VERDICTS RECORDS...`.

The answers of RECORDS that have a verdict are its examples, each as an answer to the bare goal: bad are those that go
along with it. What is nonsense is left out, and so are the goals that `real_models.attacker` attacks
(`--leave-out N`, with `--data`). So it knows the answers of one model, refusals that name their goal among them, which
a reader fitted on other models' answers takes for harmful. An attacker asks it over and over and believes the best of
all replies: hence few false alarms. Prints how well it tells held-out goals apart.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from rain_decoding import Message, load_backend
from rain_decoding.cli.progress import counting
from rain_decoding.self_evaluation.reading.examples import ReadingExample
from rain_decoding.self_evaluation.reading.learning import learn
from real_models.attacker import attacked_behaviours
from real_models.evidence.blind import number_of
from real_models.evidence.verdicts import asked, read_verdicts

COMPLIES, NONSENSE = "complies", "nonsense"


def main() -> None:
    options = _parser().parse_args()
    attacked = attacked_behaviours(options.data, options.leave_out) if options.data else []
    verdicts = read_verdicts(options.verdicts)
    found = examples(options.records, verdicts, {each.goal for each in attacked})
    chosen = balanced(found, options.labels, options.seed)
    with counting("answers are read", len(chosen)) as tick:
        probe = learn(
            load_backend(options.model),
            chosen,
            "harmlessness",
            false_alarms=options.false_alarms,
            seed=options.seed,
            told=tick,
        )
    probe.save(options.out)
    print(json.dumps(probe.figures))


def examples(
    files: Iterable[Path], verdicts: Mapping[str, Mapping[str, bool]], left_out: set[str]
) -> list[ReadingExample]:
    """The different answers that were read and can be understood, in the order of their numbers."""
    known = {number_of(each): each for file in files for each in asked(file)}
    return [
        ReadingExample(
            (Message("user", known[number]["goal"]),),
            known[number]["answer"],
            not verdicts[number][COMPLIES],
            known[number]["goal"],
        )
        for number in sorted(known.keys() & verdicts.keys())
        if not verdicts[number][NONSENSE] and known[number]["goal"] not in left_out
    ]


def balanced(found: Iterable[ReadingExample], most: int, seed: int) -> list[ReadingExample]:
    """At most half of `most` examples of each label, drawn."""
    draw = random.Random(seed)
    by_label: dict[bool, list[ReadingExample]] = {True: [], False: []}
    for example in found:
        by_label[example.good].append(example)
    count = min(most // 2, *map(len, by_label.values()))
    return [example for own in by_label.values() for example in draw.sample(own, count)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verdicts", type=Path)
    parser.add_argument("records", type=Path, nargs="+")
    parser.add_argument("--model", required=True, help="the model that reads")
    parser.add_argument("--out", type=Path, required=True, help="file of the probe")
    parser.add_argument("--data", type=Path, help="folder with the data sets, for --leave-out")
    parser.add_argument("--leave-out", type=int, default=0, help="so many attacked behaviours; 0: all")
    parser.add_argument("--labels", type=int, default=440, help="answers at most")
    parser.add_argument("--false-alarms", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
