"""The samples that the report shows side by side, with the trees of their searches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rain_decoding.decoding.trace import TracedNode, read_trace, replay
from rain_decoding.errors import InputError
from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.suites import Item
from rain_decoding.evaluation.summary import holds, metrics
from rain_decoding.measurement.records import Record

SHOWN = 100
"""Prompts in the report: those whose labels differ between decoders first. All are in the records."""
NODES = 300
"""Nodes of a tree that are shown at most; the answer's own are always shown."""


def shown_samples(records: Sequence[Record], plan: EvaluationPlan, folder: Path) -> list[dict[str, Any]]:
    """Prompts with all their answers, those first on which the decoders do not agree."""
    by_item: defaultdict[str, list[Record]] = defaultdict(list)  # of some none, where a run was stopped
    for record in records:
        by_item[record["id"]].append(record)
    asked = list(metrics(plan))

    def good(record: Record) -> tuple[bool, ...]:
        """For each of the family's metrics whether the answer has the wanted label."""
        return tuple(
            holds(record, judge, metric) for family, judge, metric in asked if family.name == record["family"]
        )

    def differ(item: Item) -> bool:
        return len({good(record) for record in by_item[item.id]}) > 1

    return [
        {
            "id": item.id,
            "family": item.family,
            "prompt": item.prompt,
            "answers": [_answer(record, good(record), folder) for record in by_item[item.id]],
        }
        for item in sorted(plan.items, key=lambda item: not differ(item))[:SHOWN]
    ]


def _answer(record: Record, good: Sequence[bool], folder: Path) -> dict[str, Any]:
    usage = record["usage"]
    return {
        **{name: record[name] for name in ("decoder", "seed", "answer", "finish_reason", "score", "labels")},
        "good": good,
        "cost": f"{usage['search_tokens']} tokens, {usage['forward_passes']} passes, {usage['seconds']:.2f} s",
        "tree": tree(folder / record["trace"]) if record["trace"] else None,
    }


def tree(path: Path) -> dict[str, Any] | None:
    """A recorded search as nested objects; None where its trace is gone or broken."""
    try:
        events = read_trace(path)
        budget = [NODES]
        return _node(replay(events), events[0]["config"]["exploration"], budget)
    except (InputError, LookupError, TypeError):
        return None


def _node(node: TracedNode, exploration: float, budget: list[int]) -> dict[str, Any]:
    """One node with what the search saw below it; `budget` counts down the nodes that may still be shown."""
    budget[0] -= 1
    below = []
    for child in sorted(node.children, key=lambda child: not child.committed):
        if child.committed or (child.seen and budget[0] > 0):
            below.append(_node(child, exploration, budget))
    return {
        "text": node.text,
        "terms": f"Q {node.q:.2f}  U {node.u(exploration):.2f}  p {node.prior:.2f}  "
        f"n {node.visits:.1f}  v {node.value:+.2f}",
        "committed": node.committed,
        "rewinds": node.rewinds,
        "score": node.score,
        "problem": node.problem,
        "rollout": node.rollout,
        "widened": node.widened,
        "hidden": len(node.children) - len(below),
        "children": below,
    }
