"""`sampled`: the same model under the same prompt, drawn.

Cost: each proposal decodes its sentence, and has it judged.
"""

from __future__ import annotations

from rain_decoding.programs import Program
from rain_decoding.search.proposals.kind import Kind
from rain_decoding.search.sentences import Proposal, propose
from rain_decoding.search.tree import Node, Tree


def sampled(tree: Tree, node: Node, count: int) -> Program[list[Proposal]]:
    """`count` proposals drawn from the model."""
    yield from ()
    draws = range(node.draws, node.draws + count)
    node.draws += count
    return [propose(tree, node, seed=tree.seed_for(node, "candidate", index)) for index in draws]


SAMPLED = Kind("sampled", sampled)
