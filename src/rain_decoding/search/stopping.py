"""When simulations under a root stop, and which child is committed then (Algorithm 1)."""

from __future__ import annotations

from rain_decoding.config import SearchConfig
from rain_decoding.search.tree import Node


def best_child(node: Node) -> Node | None:
    """The evaluated child with the most visits (then the larger value, then the earlier); None if there is none."""
    return max(
        (child for child in node.children if child.evaluations),
        key=lambda child: (child.visits, child.value),
        default=None,
    )


def settled(root: Node, config: SearchConfig) -> bool:
    """Whether the best child was evaluated often enough and is good enough."""
    best = best_child(root)
    return (
        best is not None and best.evaluations > config.min_evaluations and best.value > config.value_threshold
    )


def simulation_allowance(root: Node, config: SearchConfig) -> int:
    """Simulations allowed under a new root: up to T counted from those it carries, but some in any case."""
    carried = root.evaluations
    return max(config.max_simulations - carried, config.extra_simulations)
