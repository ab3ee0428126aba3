"""Selection: the PUCT rule (paper, equation 1)."""

from __future__ import annotations

from math import sqrt

from rain_decoding.search.tree import Node


def exploitation(value: float, visits: float) -> float:
    """Q in [0, 1) of a child: its value mapped from [-1, 1], 0 without visits.

    The paper writes the value itself; the released code normalises it by running extremes that start at -1 and
    +1 and never move, with 1e-5 in the denominator.
    """
    return (value + 1) / 2.00001 if visits else 0.0


def exploration(prior: float, parent_visits: float, visits: float, weight: float) -> float:
    """U >= 0 of a child: c * prior * sqrt(parent visits) / (1 + visits), c being `weight` >= 0 and `prior` in [0, 1].

    The parent's visits are its own, as in the code, not the sum of its children's.
    """
    return weight * prior * sqrt(parent_visits) / (1 + visits)


def terms(parent: Node, child: Node, weight: float) -> tuple[float, float]:
    """Q and U of a child."""
    u = exploration(child.prior, parent.visits, child.visits, weight)
    return exploitation(child.value, child.visits), u


def select_child(parent: Node, weight: float) -> Node | None:
    """The open child with the largest Q + U, the earliest among equals; None if every child is closed."""
    return max(
        (child for child in parent.children if not child.pruned),
        key=lambda child: sum(terms(parent, child, weight)),
        default=None,
    )
