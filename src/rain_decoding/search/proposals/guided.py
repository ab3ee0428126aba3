"""`guided`: the same answer goes on under another prompt, which asks for what the criterion asks for.

The criterion's guidance is the system message, and the user's request stands there quoted, as somebody's words rather
than as an order. One proposal is greedy; the others begin with the next most probable words there. What is accepted
goes on under that prompt.

Cost: one prefill of the second prompt per conversation, which all proposals share. Every token is decoded behind it,
and forwarded behind the conversation's own prompt where the judge is to see it there.
"""

from __future__ import annotations

from rain_decoding.programs import Program, ask
from rain_decoding.search.proposals.kind import Kind
from rain_decoding.search.proposals.openings import next_tokens, opened
from rain_decoding.search.sentences import Proposal
from rain_decoding.search.tree import Manner, Node, Tree
from rain_decoding.types import Reword


def guided(tree: Tree, node: Node, count: int) -> Program[list[Proposal]]:
    """Up to `count` proposals under guidance; once per node."""
    if node.proposed.get(GUIDED.name):
        return []
    reworded = yield from ask(Reword("guided", node.tokens))
    if reworded is None:
        return []
    return (yield from under(tree, node, count, Manner(reworded.prompt)))


def under(tree: Tree, node: Node, count: int, manner: Manner) -> Program[list[Proposal]]:
    """Proposals in a manner: one greedy, the others begun with the next most probable tokens."""
    ranked = yield from next_tokens(tree, node, count, manner)
    return opened(tree, node, ranked, count, manner=manner)


GUIDED = Kind("guided", guided)
