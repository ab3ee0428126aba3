"""The score behind every token of an answer, drawn: where it turned bad, and what stands in its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any

from rain_decoding.decoding.trace import TracedNode
from rain_decoding.errors import InputError
from rain_decoding.measurement.plots import new_figure

PIECE = 34
"""Characters of a piece of text that are shown."""


def draw_course(root: TracedNode, threshold: float, file: Path) -> None:
    """A panel for the first text that the search turned back from, and one for the answer.

    `threshold` in [-1, 1] is what a score has to be above. Raises `InputError` where no judge read the text.
    """
    nodes = list(_read(root))
    turned = [node for node in nodes if node.rewinds][:1]
    answer = [node for node in nodes if node.committed][-1:]
    panels = [("turned back", "tab:red", each) for each in turned] + [
        ("answer", "tab:green", each) for each in answer
    ]
    if not panels:
        raise InputError("nothing in the trace was read token by token", hint="record one with --judge read")
    longest = max(len(node.course) for *_, node in panels)
    figure = new_figure(figsize=(9, 3.1 * len(panels)), layout="constrained")
    rows = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (what, colour, node) in zip(rows, panels, strict=True):
        _draw(axes, node, threshold, colour)
        axes.set(
            title=f"{what}, score {node.course[-1]:+.2f}",
            ylabel="score",
            ylim=(-1.05, 1.05),
            xlim=(0, longest + 1),
        )
    figure.savefig(file)


def _read(node: TracedNode) -> Iterator[TracedNode]:
    """What was read, in the order in which it was made."""
    below = [each for child in node.children for each in _read(child)]
    yield from sorted([*([node] if node.course else []), *below], key=lambda each: each.id)


def _draw(axes: Any, node: TracedNode, threshold: float, colour: str) -> None:
    """The course of the text that ends at the node, above the pieces that it was looked at in."""
    numbers = range(1, len(node.course) + 1)
    axes.axhline(threshold, color="grey", linestyle="--", linewidth=1)
    axes.plot(numbers, node.course, color=colour, marker=".", linewidth=1)
    axes.fill_between(numbers, node.course, threshold, color=colour, alpha=0.15)
    starts, pieces, start = [], [], 1
    for piece in _path(node):
        starts.append(start)
        pieces.append(shorten(piece.text, PIECE, placeholder=" ..."))
        start += piece.tokens
    axes.set_xticks(starts, pieces, rotation=18, ha="right", fontsize=7)
    axes.grid(axis="x", alpha=0.3)


def _path(node: TracedNode) -> list[TracedNode]:
    """From below the prompt to the node."""
    path: list[TracedNode] = []
    while node.parent is not None:
        path.insert(0, node)
        node = node.parent
    return path
