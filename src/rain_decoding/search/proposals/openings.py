"""`openings`: the same model under the same prompt, beginning with other words.

Cost: the next token's distribution is there already; each proposal decodes its sentence, and has it judged.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from math import log

from rain_decoding.programs import Program, ask
from rain_decoding.search.proposals.kind import Kind
from rain_decoding.search.sentences import Proposal, propose, text_before
from rain_decoding.search.tree import Manner, Node, Tree
from rain_decoding.types import Candidate, TopTokens


def openings(tree: Tree, node: Node, count: int) -> Program[list[Proposal]]:
    """Up to `count` proposals that begin with other tokens than the children, continued greedily; once per node."""
    if node.candidates:
        return []
    taken = {child.token_set.tokens[0] for child in node.children}
    node.candidates = yield from next_tokens(tree, node, count + len(taken), node.manner)
    return opened(tree, node, node.candidates, count, taken=taken)


def opened(
    tree: Tree,
    node: Node,
    ranked: list[Candidate],
    count: int,
    *,
    taken: Collection[int] = (),
    manner: Manner | None = None,
) -> list[Proposal]:
    """Proposals that begin with the first `count` of the ranked tokens that are not `taken`, nor too improbable."""
    least = tree.config.opening_share * ranked[0].probability
    others = [one for one in ranked if one.token_set.tokens[0] not in taken and one.probability >= least]
    return [
        propose(tree, node, one.token_set.tokens, log(one.probability), manner=manner)
        for one in others[:count]
    ]


def next_tokens(tree: Tree, node: Node, count: int, manner: Manner) -> Program[list[Candidate]]:
    """The most probable tokens after a node."""
    before, stop, shift = text_before(tree, node, replace(manner, against=()))
    return (yield from ask(TopTokens(before, count, stop=stop, logit_bias=tree.logit_bias, shift=shift)))


OPENINGS = Kind("openings", openings)
