"""`rain trace`: a recorded search as a tree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from rich.tree import Tree

from rain_decoding.cli.output import out
from rain_decoding.trace import TracedNode, read_trace, replay


def trace(
    file: Annotated[Path, typer.Argument(help="A file written by --trace.")],
    depth: Annotated[int | None, typer.Option(min=1, help="Show this many levels below the committed path.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show children that were never visited, too.")] = False,
) -> None:
    """Print a recorded search: Q, U, prior, visits and value of every node, and where it rewound and why."""
    print_tree(read_trace(file), max_depth=depth, everything=everything)


def print_tree(events: Sequence[dict[str, Any]], *, max_depth: int | None = None, everything: bool = False) -> None:
    """Print the tree the events built; committed nodes in green, rewinds in red."""
    start, end = events[0], events[-1]
    question = start["messages"][-1]["content"]
    tree = Tree(Text(f"{start['model']} · {start['criterion']} · seed {start['seed']}: {question}", style="bold"))
    _grow(tree, replay(events), start["config"]["exploration"], max_depth, everything)
    out.print(tree)
    out.print(Text(end["text"]))
    usage = end["usage"]
    out.print(
        f"{end['finish_reason']}, score {end['score']}: {usage['simulations']} simulations, "
        f"{usage['self_evaluations']} self-evaluations, {usage['rewinds']} rewinds",
        style="dim",
    )


def _grow(branch: Tree, node: TracedNode, exploration: float, depth: int | None, everything: bool) -> None:
    hidden = 0
    for child in node.children:
        if not (child.visits or child.score is not None or child.problem or everything):
            hidden += 1
            continue
        twig = branch.add(_describe(child, exploration))
        below = depth if child.committed or depth is None else depth - 1
        if below is None or below > 0:
            _grow(twig, child, exploration, below, everything)
    if hidden:
        branch.add(Text(f"{hidden} more, not visited", style="dim"))


def _describe(node: TracedNode, exploration: float) -> Text:
    """One node: its text, the terms of equation (1), and what its own judgement led to."""
    text = Text(repr(node.text), style="bold green" if node.committed else "")
    text.append(
        f"  Q {node.q:.2f}  U {node.u(exploration):.2f}  p {node.prior:.2f}  n {node.visits:.2f}  v {node.value:+.2f}",
        style="dim",
    )
    if node.widened:
        text.append("  added by widening", style="blue")
    if node.problem:
        text.append(f"  unscored: {node.problem}", style="yellow")
    if node.rewinds:
        continued = f" after it went on {node.rollout!r}" if node.rollout else ""
        times = f" {node.rewinds} times" if node.rewinds > 1 else ""
        text.append(f"  ↩ rewound{times}: judged {node.score:+.1f}{continued}", style="red")
    if node.committed:
        text.append("  ✓ committed", style="green")
    return text
