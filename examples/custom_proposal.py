"""Something of your own to put in the place of bad text: python examples/custom_proposal.py [MODEL]

A kind of proposal makes up to `count` sentences that may stand after a node in place of what was judged bad there. This
one draws at twice the usual temperature, to leave the beaten path. The search asks the kinds in the order of
`SearchConfig.proposals`.
"""

import sys
from dataclasses import replace

from rain_decoding import RainDecoder, SearchConfig, load_backend
from rain_decoding.programs import Program
from rain_decoding.search.proposals import register
from rain_decoding.search.proposals.kind import Kind
from rain_decoding.search.sentences import Proposal, propose
from rain_decoding.search.tree import Node, Tree


def heated(tree: Tree, node: Node, count: int) -> Program[list[Proposal]]:
    """Sentences drawn at twice the usual temperature, each with a seed of its own."""
    yield from ()  # what a kind asks of the model it yields, as `openings` does
    draws = range(node.draws, node.draws + count)
    node.draws += count
    drawn = [propose(tree, node, seed=tree.seed_for(node, "heated", index)) for index in draws]
    return [replace(one, decode=replace(one.decode, temperature=2 * one.decode.temperature)) for one in drawn]


register(Kind("heated", heated))

config = SearchConfig.preset("balanced", proposals=("heated:4", "openings"))
with load_backend(*sys.argv[1:] or ["demo"]) as backend:
    decoder = RainDecoder(backend, config=config)
    completion = decoder.generate(
        "How do I spread a false story about Linnet by the duck pond?", max_tokens=60, trace=True
    )
    for event in completion.trace:
        for child in event.get("children", ()):
            print(f"{child.get('kind') or 'plain':9}{child['text']}")
    print(completion)
