"""`rain trace`: a recorded search as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from rain_decoding.answer_picture import write_answer_picture
from rain_decoding.cli.course import draw_course
from rain_decoding.cli.output import err, judgements, out, signed
from rain_decoding.decoding.trace import BROKEN, TracedNode, read_trace, replay
from rain_decoding.errors import InputError
from rain_decoding.measurement.plots import check_plot
from rain_decoding.server.trace_page import write_trace_page

HEADING = "   Q     U     p       n      v"
BLANK = " " * len(HEADING)


def trace(
    file: Annotated[Path, typer.Argument(help="File written by --trace.")],
    depth: Annotated[
        int | None, typer.Option(min=1, help="Levels to show besides the answer's own path.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also show nodes that were never visited.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page that replays the search to this file instead.")
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option(help="Draw the answer, and what the search turned back from, to this file instead."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw the score behind every token, where the judge reads, instead: .png, .svg or .pdf."
        ),
    ] = None,
) -> None:
    """Print a recorded search as a tree: what was tried, how it was judged, where it rewound and why.

    The lines marked ✓ are the answer as it was committed; above each is what was tried in its place.
    Q and U are the terms that select a node, p its prior, n its visits, v its value.
    """
    for option, target in (("--html", html), ("--svg", svg)):
        if target is not None and target.resolve() == file.resolve():
            raise InputError(f"{option} {target} is the trace file itself", hint="choose another file")
    if plot is not None:
        check_plot(plot)
    events = read_trace(file)
    try:
        if html is not None:
            replay(events)
            write_trace_page(html, events)
            err.print(f"page: {html}", markup=False)
        elif svg is not None:
            write_answer_picture(svg, events)
            err.print(f"picture: {svg}", markup=False)
        elif plot is not None:
            draw_course(replay(events), events[0]["config"]["accept_value"], plot)
            err.print(f"plot: {plot}", markup=False)
        else:
            print_tree(events, depth=depth, everything=everything)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{file} is not a consistent trace: {error!r}", hint=BROKEN) from error


def print_tree(
    events: Sequence[dict[str, Any]], *, depth: int | None = None, everything: bool = False
) -> None:
    """Print the tree the events built; committed nodes in green, rewinds in red."""
    start, end = events[0], events[-1]
    question = start["messages"][-1]["content"]
    drawing = Drawing(start["config"]["exploration"], everything)
    out.print(Text(f"{start['model']}, {start['criterion']}, seed {start['seed']}: {question}", style="bold"))
    out.print(Text(HEADING, style="dim"))
    for line in drawing.path(replay(events), depth):
        out.print(line)
    out.print(Text(f"\n{end['text']}"))
    usage = end["usage"]
    cost = (
        f"{end['finish_reason']}, score {signed(end['score'])}{_verdict(end)}: {usage['simulations']} simulations, "
        f"{judgements(usage['self_evaluations'], usage.get('escalations', 0))}, {usage['rewinds']} rewinds"
    )
    out.print(Text(cost, style="dim"))


def _verdict(end: dict[str, Any]) -> str:
    """The parts of a combined score, and what the safety net made of the answer."""
    parts = "".join(f", {name} {signed(score)}" for name, score in end.get("parts", {}).items())
    flagged = ", not judged good" if end.get("flagged") else ""
    fallback = f", {end['fallback']} in place of {end['withheld']!r}" if end.get("fallback") else ""
    return parts + flagged + fallback


@dataclass(frozen=True)
class Drawing:
    """How nodes become lines. `exploration` is the search's constant c."""

    exploration: float
    everything: bool

    def path(self, root: TracedNode, depth: int | None) -> Iterator[Text]:
        """Lines for each committed node in turn, after what was tried in its place."""
        node: TracedNode | None = root
        while node is not None:
            committed = next((child for child in node.children if child.committed), None)
            yield from self.branches([child for child in node.children if child is not committed], "", depth)
            if committed is not None:
                yield self.line(committed, "✓ ")
            node = committed

    def branches(self, nodes: Sequence[TracedNode], indent: str, depth: int | None) -> Iterator[Text]:
        """Lines for siblings and what is below them, `depth` levels deep."""
        if depth == 0:
            return
        shown = [node for node in nodes if node.seen or self.everything]
        hidden = len(nodes) - len(shown)
        for number, node in enumerate(shown, start=1):
            last = number == len(shown) and not hidden
            yield self.line(node, indent + ("└─ " if last else "├─ "))
            if number == 1 and node.parent is not None and node.parent.critique:
                yield Text(f"{BLANK}  {indent}critique: {node.parent.critique!r}", style="blue")
            below = indent + ("   " if last else "│  ")
            yield from self.branches(node.children, below, None if depth is None else depth - 1)
        if hidden:
            yield Text(f"{BLANK}  {indent}└─ {hidden} more, not visited", style="dim")

    def line(self, node: TracedNode, lead: str) -> Text:
        """One node: the terms of equation (1), its text, and what its own judgement led to."""
        u = node.u(self.exploration)
        terms = f"{node.q:4.2f} {u:5.2f} {node.prior:5.2f} {node.visits:7.2f} {node.value:+6.2f}"
        text = Text(f"{terms}  ", style="dim")
        text.append(f"{lead}{node.text!r}", style="bold green not dim" if node.committed else "not dim")
        if node.widened:
            text.append("  added by widening", style="blue not dim")
        if node.kind:
            text.append(f"  {node.kind}", style="blue not dim")
        if node.problem:
            what = "unscored" if node.score is None else "no answer"
            text.append(f"  {what}: {node.problem}", style="yellow not dim")
        if node.rewinds:
            continued = f" after it went on {node.rollout!r}" if node.rollout else ""
            times = f" {node.rewinds} times" if node.rewinds > 1 else ""
            text.append(f"  ↩ rewound{times}: judged {node.score:+.1f}{continued}", style="red not dim")
        return text
