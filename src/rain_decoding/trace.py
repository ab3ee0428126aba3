"""Traces: the events of one search as JSON lines, and their replay as a tree.

Events, in order: `start`; then per simulation `expand`, `priors`, `widen`, `select`, `rollout`, `judge`, `backup`,
`rewind`; `commit`; at last `end`. Nodes are numbered in the order in which they were made; the prompt is node 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

from rain_decoding.errors import InputError


def write_trace(path: str | Path, events: Iterable[dict[str, Any]]) -> None:
    """Write one event per line."""
    lines = (json.dumps(event, ensure_ascii=False) for event in events)
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_trace(path: str | Path) -> list[dict[str, Any]]:
    """Read a trace. Raises `InputError` naming the line where the file is broken or cut off."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint="give a file written by --trace") from error
    events: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            event["event"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: no trace event", hint="the file is broken or cut off") from error
        events.append(event)
    if not events or events[0]["event"] != "start" or events[-1]["event"] != "end":
        raise InputError(
            f"{path} is no complete trace: {len(events)} events, "
            f"{'without an end' if events and events[0]['event'] == 'start' else 'without a start'}",
            hint="the file is broken or cut off",
        )
    return events


@dataclass(slots=True)
class TracedNode:
    """A node as the search left it, with the judgements of texts that ended at it.

    `value` in [-1, 1]; `q` and `u` are the terms of equation (1) with the final statistics; `rewinds` are the
    judgements that made the search turn back from it.
    """

    id: int
    parent: TracedNode | None
    text: str
    prior: float
    visits: float = 0.0
    evaluations: int = 0
    value: float = 0.0
    rollout: str = ""
    score: float | None = None
    problem: str = ""
    rewinds: int = 0
    committed: bool = False
    widened: bool = False
    children: list[TracedNode] = field(default_factory=list)

    @property
    def q(self) -> float:
        return (self.value + 1) / 2.00001 if self.visits else 0.0

    def u(self, exploration: float) -> float:
        """The exploration term under this parent."""
        parent_visits = self.parent.visits if self.parent else 0.0
        return exploration * self.prior * sqrt(parent_visits) / (1 + self.visits)


def replay(events: Sequence[dict[str, Any]]) -> TracedNode:
    """The tree that the events built; its root is the prompt."""
    nodes = {0: TracedNode(0, None, "", 1.0, committed=True)}

    def add(parent: int, child: dict[str, Any], widened: bool) -> None:
        node = TracedNode(child["id"], nodes[parent], child.get("text", ""), child["prior"], widened=widened)
        nodes[parent].children.append(node)
        nodes[node.id] = node

    try:
        for event in events:
            match event["event"]:
                case "expand":
                    for child in event["children"]:
                        add(event["node"], child, widened=False)
                case "widen":
                    add(event["node"], event["child"], widened=True)
                case "priors":
                    for child, prior in zip(nodes[event["node"]].children, event["priors"], strict=True):
                        child.prior = prior
                case "rollout":
                    nodes[event["node"]].rollout = event["text"]
                case "judge":
                    nodes[event["node"]].score = event["score"]
                    nodes[event["node"]].problem = event["problem"]
                case "backup":
                    for entry in event["nodes"]:
                        node = nodes[entry["id"]]
                        node.visits, node.value = entry["visits"], entry["value"]
                        node.evaluations = entry["evaluations"]
                case "rewind":
                    nodes[event["node"]].rewinds += 1
                case "commit":
                    nodes[event["node"]].committed = True
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the trace does not fit together: {error!r}", hint="the file is broken") from error
    return nodes[0]
