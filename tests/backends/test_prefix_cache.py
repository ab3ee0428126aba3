"""The prefix cache of the trie against a plain list of prefixes: what it keeps, and what goes first."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rain_decoding.backends.trie import Trie
from rain_decoding.types import Tokens

LIMIT = 12

sequence = st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple)
operation = st.one_of(
    st.tuples(st.just("finish"), sequence),
    st.tuples(st.just("finish"), sequence),
    st.tuples(st.just("prune"), sequence),
    st.just(("compact", ())),
)


class Prefixes:
    """When each cached prefix was last used; dropped one by one, the oldest of those that no other extends."""

    def __init__(self) -> None:
        self.used: dict[Tokens, int] = {}

    def finish(self, tokens: Tokens, now: int) -> None:
        prefixes = [tokens[:length] for length in range(1, len(tokens) + 1)]
        known = [prefix for prefix in prefixes if prefix in self.used]
        self.used |= dict.fromkeys([*(p for p in prefixes if p not in self.used), *known[-1:], tokens], now)
        while len(self.used) > LIMIT:
            leaves = [p for p in self.used if not any(o[:-1] == p for o in self.used)]
            oldest = min(leaves, key=self.used.__getitem__)
            used, parent = self.used.pop(oldest), oldest[:-1]
            if parent:
                self.used[parent] = max(self.used[parent], used)

    def prune(self, tokens: Tokens) -> None:
        self.used = {p: used for p, used in self.used.items() if p[: len(tokens)] != tokens}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(operation, min_size=8, max_size=60))
def test_the_least_recently_used_leaves_go_first(operations: list[tuple[str, Tokens]]) -> None:
    trie, expected = Trie(), Prefixes()
    for owner, (name, tokens) in enumerate(operations):
        trie.now += 1
        if name == "finish":
            node = trie.find(tokens)
            node.used = trie.now
            for new in trie.insert(node, tokens):
                trie.allocate(new)
                node = new
            trie.hold(node, owner)
            trie.finish(owner, [tokens], LIMIT)
            expected.finish(tokens, trie.now)
        elif name == "prune" and trie.find(tokens).depth == len(tokens):
            trie.prune(trie.find(tokens))
            expected.prune(tokens)
        elif name == "compact":
            trie.compact()
        assert {node.tokens for node in trie.nodes if node} == set(expected.used)
    assert len(trie._leaves) <= 2 * (LIMIT + 6), "nothing piles up"
