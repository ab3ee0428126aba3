"""Widening ("dynamic node addition"): one more child where all children are alike and all are bad."""

from __future__ import annotations

import numpy as np

from rain_decoding.programs import Program, ask
from rain_decoding.search.expansion import describe, propose
from rain_decoding.search.tree import Node, Tree
from rain_decoding.types import TokenSet, TopTokens

Newcomer = tuple[TokenSet, float]
"""A token set and its prior in (0, 1]."""


def wants_child(tree: Tree, node: Node) -> bool:
    """Whether every child was evaluated, is bad, and resembles its siblings."""
    config = tree.config
    judged = [child for child in node.children if child.evaluations]
    if any(not child.evaluations and not child.pruned for child in node.children):
        return False
    if len(judged) < 2 or len(node.children) >= config.max_children:
        return False
    if any(child.value >= config.widening_value for child in judged):
        return False
    embeddings = [child.embedding for child in judged if child.embedding is not None]
    variance = np.var(embeddings, axis=0, ddof=1)
    return bool(np.linalg.norm(variance) < config.widening_variance * config.token_set_length(node.depth))


def widen(tree: Tree, node: Node) -> Program[None]:
    """Add at most one child to a node that `wants_child`."""
    one_token = tree.config.token_set_length(node.depth) == 1
    newcomer = yield from (_next_token(tree, node) if one_token else _drawn_set(tree, node))
    if newcomer is None:
        return
    token_set, prior = newcomer
    if node is tree.root:
        share = tree.config.root_uniform_share
        prior = (1 - share) * prior + share / (len(node.children) + 1)
    child = tree.add_child(node, token_set, prior)
    tree.record("widen", node=node.id, child=describe(child))


def _next_token(tree: Tree, node: Node) -> Program[Newcomer | None]:
    """The next most probable token, its probability normalised over the k + 1 most probable ones."""
    count = len(node.children) + 1
    tokens = yield from ask(TopTokens(node.tokens, count, stop=tree.stop, logit_bias=tree.logit_bias))
    known = _children(node)
    total = sum(candidate.probability for candidate in tokens)
    return next(
        ((c.token_set, c.probability / total) for c in tokens if c.token_set not in known),
        None,
    )


def _drawn_set(tree: Tree, node: Node) -> Program[Newcomer | None]:
    """One drawn set, its probability normalised over the first k + 1 of all that was proposed here."""
    proposed = yield from propose(tree, node, 2)
    node.candidates = proposed + node.candidates
    known = _children(node)
    drawn = next((candidate for candidate in proposed[1:] if candidate.token_set not in known), None)
    if drawn is None:
        return None
    total = sum(candidate.probability for candidate in node.candidates[: len(node.children) + 1])
    return drawn.token_set, drawn.probability / total


def _children(node: Node) -> set[TokenSet]:
    return {child.token_set for child in node.children}
