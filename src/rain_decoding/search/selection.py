"""Selection: the PUCT rule (paper, equation 1)."""

from __future__ import annotations

from math import sqrt

from rain_decoding.search.tree import Node


def exploitation(child: Node) -> float:
    """Q in [0, 1): the value mapped from [-1, 1], 0 for an unvisited child.

    The paper writes the value itself; the released code normalises it by running extremes that start at -1 and
    +1 and never move, with 1e-5 in the denominator.
    """
    return (child.value + 1) / 2.00001 if child.visits else 0.0


def exploration(parent: Node, child: Node, weight: float) -> float:
    """U = c * prior * sqrt(parent visits) / (1 + child visits), with the parent's own visits as in the code."""
    return weight * child.prior * sqrt(parent.visits) / (1 + child.visits)


def select_child(parent: Node, weight: float) -> Node | None:
    """The open child with the largest Q + U, the earliest among equals; None if every child is closed."""
    return max(
        (child for child in parent.children if not child.closed),
        key=lambda child: exploitation(child) + exploration(parent, child, weight),
        default=None,
    )
