"""The outer loop (Algorithm 1): simulate until stop, commit the best child, go on from there."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, TypeVar

from rain_decoding.programs import Program, Request
from rain_decoding.search.expansion import mix_root_priors
from rain_decoding.search.simulation import simulate
from rain_decoding.search.stopping import best_child, settled, simulation_allowance
from rain_decoding.search.tree import Node, Tree

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Committed:
    """A node became the new root. The search yields it and expects no reply."""

    node: Node


@dataclass(frozen=True, slots=True)
class Rewound:
    """The search goes on from a node; what lies beside its path is not needed any more. It expects no reply."""

    node: Node


Searching = Generator[Request[object] | Committed | Rewound, object, T]
"""A part of a search, which returns a `T`."""

Search = Searching[Literal["stop", "length", "unjudged"]]
"""A search in progress; it returns why it ended."""


def search(tree: Tree) -> Search:
    """Search until the text is finished, yielding requests and commits."""
    while not tree.finished(tree.root):
        yield from _simulate_until_settled(tree)
        best = best_child(tree.root) or _unjudged_child(tree)
        if best is None:
            return "unjudged"
        yield commit(tree, best)
    return "stop" if tree.root.token_set.finished else "length"


def commit(tree: Tree, child: Node) -> Committed:
    """Make `child` the root and mix its children's priors as a root's are."""
    tree.record(
        "commit",
        node=child.id,
        tokens=list(child.token_set.tokens),
        visits=child.visits,
        value=child.value,
        simulations=tree.simulations,
    )
    tree.commit(child)
    if child.expanded:
        mix_root_priors(tree)
    return Committed(child)


def _simulate_until_settled(tree: Tree) -> Program[None]:
    for _ in range(simulation_allowance(tree.root, tree.config)):
        found_leaf = yield from simulate(tree)
        if not found_leaf or settled(tree.root, tree.config):
            return


def _unjudged_child(tree: Tree) -> Node | None:
    """The most probable child, where the configuration releases text that could not be judged."""
    if tree.config.on_unscored == "stop":
        return None
    child = max(tree.root.children, key=lambda node: node.prior, default=None)
    if child is not None:
        child.expandable = True
    return child
