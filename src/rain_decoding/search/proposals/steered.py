"""`steered`: the same model under the same prompt, with its hidden states shifted towards what the judge reads as good.

Activation steering (ActAdd, arXiv 2308.10248; added behind the prompt as in 2312.06681): the direction of the judge's
probe, for a request as harmful as the judge has read it, is added in the probe's layers from the prompt's last token
on, and moves a share `SearchConfig.steering` of the next token's probability (`self_evaluation.reading.strength`). One
proposal is greedy; the others begin with the next most probable words there. What is accepted goes on so. The judge
reads the text as if the model had said it by itself: it is forwarded again without any shift.

Cost: no further prompt. The answer's tokens are forwarded once shifted and, for the judge, once more as they are. How
strong the shift has to be is found once for a loaded model.
Needs a judge that reads the model's own hidden states by a probe, and a backend that can shift them.
"""

from __future__ import annotations

from dataclasses import replace

from rain_decoding.programs import Program, ask
from rain_decoding.search.proposals.guided import under
from rain_decoding.search.proposals.kind import Kind
from rain_decoding.search.sentences import Proposal
from rain_decoding.search.tree import Node, Tree
from rain_decoding.types import Reword


def steered(tree: Tree, node: Node, count: int) -> Program[list[Proposal]]:
    """Up to `count` proposals with shifted states; once per node."""
    if node.proposed.get(STEERED.name):
        return []
    reworded = yield from ask(Reword("steered", node.tokens, harmful=tree.harmful))
    if reworded is None:
        return []
    return (yield from under(tree, node, count, replace(node.manner, shift=reworded.shift)))


STEERED = Kind("steered", steered)
