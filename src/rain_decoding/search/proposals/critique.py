"""`critique`: the model says in one sentence what is wrong, and goes on from before that, knowing it.

The step of CARE (arXiv 2509.06982): guard, roll back, criticise, write again. The critique is asked for under the
criterion's guidance, and stands in the guided prompt behind the user's request; it is never a part of the answer.

Cost: a prefill of the critic's prompt and of the prompt with the critique for each node where this is tried, and one
sentence for the critique; then as `guided`.
"""

from __future__ import annotations

from dataclasses import replace

from rain_decoding.programs import Program, ask
from rain_decoding.search.proposals.guided import under
from rain_decoding.search.proposals.kind import Kind
from rain_decoding.search.sentences import Proposal
from rain_decoding.search.tree import Manner, Node, Tree
from rain_decoding.types import Decode, Reword, Tokens


def critique(tree: Tree, node: Node, count: int) -> Program[list[Proposal]]:
    """Up to `count` proposals by a model that knows what is wrong with the first of the node's children."""
    if node.proposed.get(CRITIQUE.name) or not node.children:
        return []
    bad = node.children[0].token_set.tokens
    critic = yield from ask(Reword("critic", node.tokens, bad))
    if critic is None:
        return []
    said = critic.opening + (yield from _criticise(tree, critic.prompt + critic.opening))
    tree.record("critique", node=node.id, tokens=list(said), wrong=node.children[0].id)
    reworded = yield from ask(Reword("criticised", node.tokens, bad, said))
    if reworded is None:
        return []
    return (yield from under(tree, node, count, Manner(reworded.prompt)))


def _criticise(tree: Tree, prompt: Tokens) -> Program[Tokens]:
    """One sentence, greedily."""
    shortest, longest = tree.config.sentence_tokens
    decode = Decode(
        prompt,
        longest,
        endings=tree.config.sentence_endings,
        min_tokens=shortest,
        stop=replace(tree.stop, start=len(prompt)),
        logit_bias=tree.logit_bias,
    )
    return (yield from ask(decode)).tokens


CRITIQUE = Kind("critique", critique)
