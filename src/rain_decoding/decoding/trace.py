"""Traces: the events of one search as JSON lines, and their replay as a tree.

Events, in order: `start`; then per simulation `expand`, `priors`, `widen`, `select`, `rollout`, `judge`,
`backup`, `rewind`; `commit`; `fallback`, where something else may be returned than an answer that is not good; at last
`end`. Verify first has `critique` (what a critic says, which is no part of the answer) and `lacking` (a kind of
proposal that was not to be had) as well. Nodes are numbered in the order in which they were made; the prompt is node 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rain_decoding.errors import InputError
from rain_decoding.files import UNREADABLE, read_text
from rain_decoding.search.selection import exploitation, exploration

EDGES = {
    "start": {"model", "criterion", "config", "seed", "messages"},
    "end": {"text", "finish_reason", "score", "usage"},
}
"""What a reader relies on in the first and the last event."""

BROKEN = "the file is broken or cut off"


def write_trace(path: str | Path, events: Iterable[dict[str, Any]]) -> None:
    """Write one event per line. Raises `InputError` where the file cannot be written."""
    text = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"the trace cannot be written: {error}", hint="use another file") from error


def read_trace(path: str | Path) -> list[dict[str, Any]]:
    """Read a trace. Raises `InputError` naming the line where the file is broken or cut off."""
    try:
        # Not splitlines(): texts may hold other line separators than the one between events.
        lines = read_text(path).removesuffix("\n").split("\n")
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read: {error}", hint="use a file written by --trace") from error
    events: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            event["event"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: not a trace event", hint=BROKEN) from error
        events.append(event)
    for event, kind in ((events[0], "start"), (events[-1], "end")):
        if event["event"] != kind or not EDGES[kind] <= event.keys():
            raise InputError(f"{path} is not a complete trace: it has no '{kind}'", hint=BROKEN)
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
    kind: str = ""
    """What kind of proposal it was, in place of bad text; empty: plain decoding's, or the paper's search."""
    critique: str = ""
    """What a critic said was wrong with the first text after it."""
    tokens: int = 0
    """How many tokens its text has."""
    course: tuple[float, ...] = ()
    """The score behind each token of the answer up to here, where a judge read it."""
    children: list[TracedNode] = field(default_factory=list)

    @property
    def seen(self) -> bool:
        """Whether the search came here."""
        return bool(self.visits or self.score is not None or self.problem)

    @property
    def q(self) -> float:
        return exploitation(self.value, self.visits)

    def u(self, weight: float) -> float:
        """The exploration term under its parent; `weight` >= 0 is `SearchConfig.exploration`."""
        parent_visits = self.parent.visits if self.parent else 0.0
        return exploration(self.prior, parent_visits, self.visits, weight)


def replay(events: Sequence[dict[str, Any]]) -> TracedNode:
    """The tree that the events built; its root is the prompt."""
    nodes = {0: TracedNode(0, None, "", 1.0, committed=True)}

    def add(parent: int, child: dict[str, Any], widened: bool) -> None:
        node = TracedNode(
            child["id"],
            nodes[parent],
            child.get("text", ""),
            child["prior"],
            widened=widened,
            kind=child.get("kind", ""),
            tokens=len(child.get("tokens", ())),
        )
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
                    nodes[event["node"]].course = tuple(event.get("course", ()))
                case "backup":
                    for entry in event["nodes"]:
                        node = nodes[entry["id"]]
                        node.visits, node.value = entry["visits"], entry["value"]
                        node.evaluations = entry["evaluations"]
                case "critique":
                    nodes[event["node"]].critique = event["text"]
                case "rewind":
                    nodes[event["node"]].rewinds += 1
                case "commit":
                    nodes[event["node"]].committed = True
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the trace is inconsistent: {error!r}", hint=BROKEN) from error
    return nodes[0]
