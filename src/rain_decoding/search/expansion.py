"""Expansion: which token sets become the children of a node, and with which priors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rain_decoding.programs import Program, ask
from rain_decoding.search.tree import Node, Tree
from rain_decoding.types import Candidate, Sample, TopTokens


def expand(tree: Tree, node: Node) -> Program[None]:
    """Give a node its children: the most probable tokens, or the greedy token set and sampled ones."""
    config = tree.config
    if config.token_set_length(node.depth) == 1:
        most_probable = TopTokens(
            node.tokens, config.candidates, config.candidate_temperature, tree.stop, tree.logit_bias
        )
        tokens = yield from ask(most_probable)
        node.candidates = sorted(tokens, key=lambda candidate: candidate.token_set.tokens)
    else:
        node.candidates = yield from propose(tree, node, config.candidates)
    for candidate, prior in zip(node.candidates, _normalised(node.candidates), strict=True):
        tree.add_child(node, candidate.token_set, prior)
    node.expanded = True
    tree.record("expand", node=node.id, children=[describe(child) for child in node.children])
    if node is tree.root:
        mix_root_priors(tree)


def propose(tree: Tree, node: Node, count: int) -> Program[list[Candidate]]:
    """The greedy token set and up to `count - 1` sampled ones that differ from it and from each other.

    Draws `count - 1` times; with `redraw` up to `2 * count - 1` times, as long as sets are missing.
    """
    config = tree.config
    greedy: Candidate | None = None
    drawn: list[Candidate] = []
    draws_left = 2 * count - 1 if config.redraw else count - 1
    while greedy is None or (draws_left and len(drawn) < count - 1):
        draws = min(draws_left, count - 1 - len(drawn))
        draws_left -= draws
        sample = Sample(
            node.tokens,
            config.token_set_length(node.depth),
            tuple(tree.seed_for(node, "candidate", node.draws + index) for index in range(draws)),
            greedy=greedy is None,
            top_k=config.top_k,
            temperature=config.candidate_temperature,
            stop=tree.stop,
            logit_bias=tree.logit_bias,
        )
        candidates = yield from ask(sample)
        node.draws += draws
        if greedy is None:
            greedy, *candidates = candidates
        known = {greedy.token_set, *(candidate.token_set for candidate in drawn)}
        for candidate in candidates:
            if candidate.token_set not in known:
                known.add(candidate.token_set)
                drawn.append(candidate)
    probability = greedy_probability(greedy.probability, [candidate.probability for candidate in drawn])
    return [Candidate(greedy.token_set, probability), *drawn]


def greedy_probability(greedy: float, others: Sequence[float]) -> float:
    """The greedy set's probability, held between max + min and the sum of the others; kept if there are none."""
    if not others:
        return greedy
    return max(min(greedy, sum(others)), max(others) + min(others))


def mix_root_priors(tree: Tree) -> None:
    """Mix the priors of the root's children with the uniform distribution, then normalise."""
    children = tree.root.children
    share = tree.config.root_uniform_share
    mixed = [(1 - share) * child.prior + share / len(children) for child in children]
    for child, prior in zip(children, mixed, strict=True):
        child.prior = prior / sum(mixed)
    tree.record("priors", node=tree.root.id, priors=[child.prior for child in children])


def describe(child: Node) -> dict[str, Any]:
    """A new child as it stands in the trace."""
    kind = {"kind": child.kind} if child.kind else {}
    return {"id": child.id, "tokens": list(child.token_set.tokens), "prior": child.prior, **kind}


def _normalised(candidates: Sequence[Candidate]) -> list[float]:
    total = sum(candidate.probability for candidate in candidates)
    return [candidate.probability / total for candidate in candidates]
