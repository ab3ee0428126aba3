"""`contrast`: the same model under the same prompt, with the logits of a prompt that asks for the opposite taken away.

Scores are `(1 + c) * own - c * opposite` over the tokens that are not improbable by themselves, c being
`SearchConfig.contrast`; as in ROSE (arXiv 2402.11889) and OPAD (2502.14204), but only behind a bad judgement. What is
accepted goes on so.

Cost: one prefill of the opposite prompt per conversation; every token of such a text is forwarded behind both prompts,
in the same forwards. Needs a backend that gives logits.
"""

from __future__ import annotations

from dataclasses import replace

from rain_decoding.programs import Program, ask
from rain_decoding.search.proposals.kind import Kind
from rain_decoding.search.sentences import Proposal, propose
from rain_decoding.search.tree import Node, Tree
from rain_decoding.types import Reword


def contrast(tree: Tree, node: Node, count: int) -> Program[list[Proposal]]:
    """One greedy proposal, and others drawn from the contrasted logits; once per node."""
    if node.proposed.get(CONTRAST.name):
        return []
    reworded = yield from ask(Reword("opposite", node.tokens))
    if reworded is None:
        return []
    manner = replace(node.manner, against=reworded.prompt)
    seeds = [None, *(tree.seed_for(node, "contrast", index) for index in range(count - 1))]
    return [propose(tree, node, manner=manner, seed=seed) for seed in seeds]


CONTRAST = Kind("contrast", contrast)
