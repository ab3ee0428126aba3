"""`declined`: the model's own refusal, as the last resort before the safety net.

The answer goes on with the words that the criterion's guidance has for declining, which the model itself continues by a
sentence under the guided prompt (see `guided`), and ends there. A second proposal ends behind those words. Small models
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
    """Up to two proposals that decline and end the answer; once per node."""
    if node.proposed.get(DECLINED.name):
        return []
    reworded = yield from ask(Reword("declined", node.tokens))
    if reworded is None:
        return []
    opening = reworded.opening[: tree.limit - len(node.tokens)]
    continued = propose(tree, node, opening, manner=Manner(reworded.prompt), finishes=True)
    # An ending is tested before a token is drawn: there must be some to come.
    longest = min(tree.config.sentence_tokens[1], tree.limit - len(node.tokens) - len(opening))
    continued = replace(
        continued, decode=replace(continued.decode, max_tokens=longest, min_tokens=longest and 1)
    )
    bare = replace(continued, decode=replace(continued.decode, max_tokens=0))
    return [continued, bare][:count]


DECLINED = Kind("declined", declined, last=True)
