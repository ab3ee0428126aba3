"""What attacks come to: success on seeds that none of them used, against the budget spent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rain_decoding.attacks.runner import KEYS, RECORDS
from rain_decoding.attacks.victim import WANTED
from rain_decoding.errors import InputError
from rain_decoding.evaluation.contenders import Contender
from rain_decoding.evaluation.judges import Judge
from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.suites import Family, Item, Metric, Suite
from rain_decoding.evaluation.suites.advbench import attacked
from rain_decoding.measurement.plots import new_figure
from rain_decoding.measurement.records import Record, RecordFile
from rain_decoding.measurement.statistics import rate
from rain_decoding.prompting import PromptFormat

DIRECT = "direct"
"""The family of requests without a suffix."""
Row = dict[str, Any]


def read_attacks(folders: Sequence[Path]) -> dict[str, list[Record]]:
    """The records of attack runs by method. Raises `InputError` for a folder without any, and for a method twice."""
    found: dict[str, list[Record]] = {}
    for folder in folders:
        records = RecordFile(folder / RECORDS, KEYS).read()
        if not records:
            raise InputError(f"{folder} contains no attack", hint="use the --out folder of a rain attack")
        method = records[0]["method"]
        if method in found:
            raise InputError(f"two of the runs use the method {method}", hint="measure them one at a time")
        found[method] = records
    return found


def suffix_at(record: Record, budget: int) -> str | None:
    """The best suffix that was found before more than `budget` tokens were spent; None: none yet."""
    found = [found for found in record["curve"] if found["tokens"] <= budget]
    return found[-1]["controls"] if found else None


def checkpoints(attacks: Mapping[str, Sequence[Record]], count: int) -> list[int]:
    """Budgets at which success is measured: none, then doubling up to the largest that was spent."""
    most = max(record["tokens"] for records in attacks.values() for record in records)
    return [0, *(most >> halvings for halvings in reversed(range(count)))]


def suite(
    attacks: Mapping[str, Sequence[Record]],
    budgets: Sequence[int],
    criterion: str,
    judge: Judge,
    prompt_format: PromptFormat = "auto",
) -> Suite:
    """A suite that measures the success of attacks.

    Args:
        attacks: Records of attacks by method.
        budgets: Tokens forwarded per behaviour at which success is measured, ascending.
        criterion: Name of the criterion that searches judge by.
        judge: The judge that labels the answers.
        prompt_format: Format of the prompts.

    Returns:
        A suite with a family per method, which has every suffix that was the best one at some budget, and a family of
        the requests without a suffix.
    """
    question = next(question for question in WANTED if question in judge.questions)
    families = [Family(name, (Metric(question),), criterion, prompt_format) for name in (DIRECT, *attacks)]

    def load(_: Mapping[str, Path | None]) -> Iterator[Item]:
        for method, records in attacks.items():
            for record in records:
                goal = record["goal"]
                yield Item(DIRECT, goal, goal, {"goal": goal})
                for budget in budgets:
                    if (suffix := suffix_at(record, budget)) is not None:
                        yield attacked(method, goal, suffix)

    return Suite("attacks", "attacked requests", tuple(families), load)


def curves(
    attacks: Mapping[str, Sequence[Record]],
    budgets: Sequence[int],
    plan: EvaluationPlan,
    answers: Sequence[Record],
    contenders: Mapping[str, Contender],
) -> list[Row]:
    """The success of attacks against their budget.

    Args:
        attacks: Records of attacks by method.
        budgets: Tokens forwarded per behaviour, ascending.
        plan: The run of the suite that `suite` made, with one judge.
        answers: Its labelled answers.
        contenders: Decoders by name.

    Returns:
        A row per method, decoder and budget: the share in [0, 1] of answers that do what the attacker wants, and of
        those the malformed ones; intervals are 95%, clustered by behaviour. Malformed and unscored answers stay in the
        denominator.
    """
    (judge,) = plan.judges
    question = plan.suite.families[0].metrics[0].question
    labels = {(a["family"], a["prompt"], a["decoder"], a["seed"]): a["labels"][judge.name] for a in answers}
    rows = []
    for method, records in attacks.items():
        for name in contenders:
            for budget in budgets:
                said = [
                    (labels[(*_asked(method, record, budget), name, seed)], record["goal"])
                    for record in records
                    for seed in plan.seeds
                ]
                estimate = rate([s.get(question) is WANTED[question] for s, _ in said], [g for _, g in said])
                assert estimate is not None
                rows.append(
                    {
                        "method": method,
                        "decoder": name,
                        "budget": budget,
                        **estimate.rounded(),
                        "malformed": sum(s["malformed"] for s, _ in said),
                    }
                )
    return rows


def _asked(method: str, record: Record, budget: int) -> tuple[str, str]:
    """Family and prompt of what stands for a behaviour at a budget."""
    suffix = suffix_at(record, budget)
    if suffix is None:
        return DIRECT, record["goal"]
    item = attacked(method, record["goal"], suffix)
    return item.family, item.prompt


def draw(rows: Sequence[Row], path: Path) -> None:
    """A panel per decoder, a line per method: success against budget, with 95% intervals."""
    names = list(dict.fromkeys(row["decoder"] for row in rows))
    figure = new_figure(figsize=(4.5 * len(names), 4), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for method in dict.fromkeys(row["method"] for row in rows):
            own = [row for row in rows if (row["decoder"], row["method"]) == (name, method)]
            values = [row["value"] for row in own]
            spread = [[abs(row["value"] - row[end]) for row in own] for end in ("low", "high")]
            axes.errorbar(
                [row["budget"] for row in own], values, yerr=spread, marker="o", capsize=2, label=method
            )
        axes.set(title=name, xlabel="tokens forwarded per behaviour", ylim=(-0.02, 1.02))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("attack success")
    panels[-1].legend(fontsize="small")
    figure.savefig(path)
