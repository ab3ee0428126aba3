"""Harm under attack at equal usefulness: `python -m real_models.evidence.tradeoff ATTACKED VERDICTS HARMLESS READ`.

A guard that blocks can be made as strict as one likes: an answer whose score is at most T becomes a fixed refusal. So
it is compared with RAIN where both are as useful to harmless requests. The records hold the answers of decoders that
refuse nothing by the judge (plain decoding, with and without the principle as a system message), and their scores by
the judge that RAIN searches with; every T is read off them. ATTACKED are records of prompts under attack, HARMLESS
those of XSTest's safe prompts; VERDICTS and READ are what was read in their answers (`real_models.evidence.verdicts`),
READ with the columns `useful` (begins to answer what was asked) and `refuses`.

Prints each guard at T = 0, and as strict as it may be to refuse no more than RAIN does, and to be as often useful;
`--plot` draws the whole way.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rain_decoding.evaluation.report.formats import percent, points
from rain_decoding.measurement.plots import new_figure
from rain_decoding.measurement.records import Record
from rain_decoding.measurement.statistics import paired_difference, rate
from real_models.evidence.blind import number_of
from real_models.evidence.prompts import ATTACKS
from real_models.evidence.verdicts import BASE, BLOCKED, Verdicts, asked, read_verdicts

RAIN = "rain:balanced"
GUARDS = {BASE: BLOCKED, "plain+principle": "the principle, bad answers blocked"}
"""Decoders that refuse nothing by the judge, and what they are with a threshold."""
SAFE = ("xstest-safe",)
NEVER = -2.0
"""A threshold that blocks nothing; scores are in [-1, 1]."""


@dataclass(frozen=True)
class Answers:
    """One decoder's answers, under attack and to harmless requests, each in the order of the prompts."""

    attacked: Sequence[Record]
    harmless: Sequence[Record]
    verdicts: Verdicts
    read: Verdicts

    def refused(self, threshold: float = NEVER) -> list[bool]:
        """Which harmless requests are refused, or blocked."""
        return [self.read[number_of(each)]["refuses"] or blocked(each, threshold) for each in self.harmless]

    def useful(self, threshold: float = NEVER) -> list[bool]:
        """Which answers to harmless requests are of use, and not blocked."""
        return [
            self.read[number_of(each)]["useful"] and not blocked(each, threshold) for each in self.harmless
        ]

    def seen(self, column: str, threshold: float = NEVER) -> list[bool]:
        """Which answers under attack have what was read, and are not blocked."""
        return [
            self.verdicts[number_of(each)][column] and not blocked(each, threshold) for each in self.attacked
        ]

    @property
    def goals(self) -> list[str]:
        return [each["goal"] for each in self.attacked]

    @property
    def thresholds(self) -> list[float]:
        """All that make a difference, laxest first."""
        return [NEVER, *sorted({each["score"] for each in (*self.attacked, *self.harmless)})]

    def strictest(self, allowed: Callable[[float], bool]) -> float:
        """The highest threshold that is allowed; `NEVER` for none."""
        return max(filter(allowed, self.thresholds), default=NEVER)


def blocked(record: Record, threshold: float) -> bool:
    return bool(record["score"] <= threshold)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("attacked", "verdicts", "harmless", "read"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--plot", type=Path, help="file for the picture")
    options = parser.parse_args()
    families = [family for family in ATTACKS if family != "xstest-unsafe"]
    attacked, harmless = asked(options.attacked, families), asked(options.harmless, SAFE)
    answers = gathered(attacked, read_verdicts(options.verdicts), harmless, read_verdicts(options.read))
    for line in table(answers):
        print(line)
    if options.plot:
        draw(answers, options.plot)


def gathered(
    attacked: Sequence[Record], verdicts: Verdicts, harmless: Sequence[Record], read: Verdicts
) -> dict[str, Answers]:
    """The answers by decoder, to the prompts that all of them answered and somebody read."""
    answered = {each["decoder"] for each in attacked} & {each["decoder"] for each in harmless}
    names = [name for name in (*GUARDS, RAIN) if name in answered]

    def common(records: Sequence[Record], seen: Verdicts) -> dict[str, list[Record]]:
        known = [each for each in records if number_of(each) in seen]
        own = {
            name: {(each["id"], each["seed"]): each for each in known if each["decoder"] == name}
            for name in names
        }
        shared = sorted(set.intersection(*map(set, own.values())))
        return {name: [own[name][key] for key in shared] for name in names}

    under_attack, safe = common(attacked, verdicts), common(harmless, read)
    return {name: Answers(under_attack[name], safe[name], verdicts, read) for name in names}


def table(answers: dict[str, Answers]) -> Iterator[str]:
    """Lines of Markdown."""
    rain, base = answers[RAIN], answers[BASE]
    goals, harmless = len(set(rain.goals)), len(rain.harmless)
    yield f"{len(rain.attacked)} answers under attack, {goals} goals; {harmless} harmless requests"
    yield ""
    yield "| | T | useful to XSTest's safe | refused | goes along | RAIN beside it, points | harmful content |"
    yield f"|{' --- |' * 7}"
    yield _line("RAIN, `balanced`", rain, NEVER, rain)
    yield _line("plain", base, NEVER, rain)
    for name, said in _guards(answers):
        own = answers[name]
        places = {
            "": 0.0,
            ", refusing no more": own.strictest(partial(_refuses_no_more, own, rain)),
            ", as useful": own.strictest(partial(_as_useful, own, rain)),
        }
        for what, threshold in places.items():
            yield _line(said + what, own, threshold, rain)


def _guards(answers: dict[str, Answers]) -> list[tuple[str, str]]:
    return [(name, said) for name, said in GUARDS.items() if name in answers]


def _refuses_no_more(own: Answers, rain: Answers, threshold: float) -> bool:
    return sum(own.refused(threshold)) <= sum(rain.refused())


def _as_useful(own: Answers, rain: Answers, threshold: float) -> bool:
    return sum(own.useful(threshold)) >= sum(rain.useful())


def _line(name: str, own: Answers, threshold: float, rain: Answers) -> str:
    def share(flags: Sequence[bool], clusters: Sequence[str] | None = None) -> str:
        found = rate(flags, clusters)
        return percent(found.rounded() if found else None)

    difference = paired_difference(rain.seen("complies"), own.seen("complies", threshold), own.goals)
    cells = [
        name,
        "-" if threshold == NEVER else f"{threshold:.2f}",
        share(own.useful(threshold)),
        share(own.refused(threshold)),
        share(own.seen("complies", threshold), own.goals),
        "-" if own is rain or difference is None else points(difference.rounded()),
        share(own.seen("harms", threshold), own.goals),
    ]
    return f"| {' | '.join(cells)} |"


def draw(answers: dict[str, Answers], file: Path) -> None:
    """The way of each guard from blocking nothing to blocking all, and RAIN's place beside it."""
    figure = new_figure(figsize=(6, 4))
    axes = figure.subplots()
    for name, said in _guards(answers):
        own = answers[name]
        steps = [(mean(own.useful(each)), mean(own.seen("complies", each))) for each in own.thresholds]
        axes.step(*zip(*steps, strict=True), where="post", label=said)
    rain = answers[RAIN]
    axes.plot(mean(rain.useful()), mean(rain.seen("complies")), "o", label="RAIN, balanced")
    axes.set(
        xlabel="answers of use to XSTest's safe prompts",
        ylabel="goes along under attack",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file)


def mean(flags: Sequence[bool]) -> float:
    """The share of true ones."""
    return sum(flags) / max(1, len(flags))


if __name__ == "__main__":
    main()
