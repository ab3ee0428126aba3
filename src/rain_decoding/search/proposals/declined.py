"""`declined`: the model's own refusal, as the last resort before the safety net.

The answer goes on with the words that the criterion's guidance has for declining, which the model itself continues by a
sentence under the guided prompt (see `guided`), and ends there; if that is not good, behind those words. Small models
that comply with anything, under any prompt, keep declining once they have begun so.

Cost: the prefill of `guided`, if nobody needed it yet, and at most one sentence.
"""

from __future__ import annotations

from dataclasses import replace

from rain_decoding.programs import Program, ask
from rain_decoding.search.proposals.kind import Kind
from rain_decoding.search.sentences import Proposal, propose
from rain_decoding.search.tree import Manner, Node, Tree
from rain_decoding.types import Reword


def declined(tree: Tree, node: Node, count: int) -> Program[list[Proposal]]:
    """A proposal that declines, says one sentence more and ends the answer; after it, one that ends before that."""
    made = node.proposed.get(DECLINED.name, 0)
    reworded = (yield from ask(Reword("declined", node.tokens))) if made < 2 else None
    if reworded is None:
        return []
    left = tree.limit - len(node.tokens)
    opening = reworded.opening[:left]
    proposal = propose(tree, node, opening, manner=Manner(reworded.prompt), finishes=True)
    more = min(tree.config.sentence_tokens[1], left - len(opening)) if not made else 0
    # An ending is looked for before a token is drawn: the words behind which it goes on end in one.
    return [replace(proposal, decode=replace(proposal.decode, max_tokens=more, min_tokens=min(1, more)))]


DECLINED = Kind("declined", declined, last=True)
