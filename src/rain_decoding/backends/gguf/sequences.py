"""llama.cpp's sequence ids over the token trie: every leaf has one, under which its whole path is stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rain_decoding.backends.trie import Node, descendants


class Sequences:
    """A pool of ids. Ids whose leaves share a prefix share the prefix's KV cells.

    What leaves the trie is noted at once and taken out of the cells at the next `flush`, once per id, since
    llama.cpp looks through all cells for it.
    """

    def __init__(self, context: Any, *, twins: bool = False):
        """`context` is a `LlamaContext` with a unified KV cache, nothing stored in it yet. One of its ids is kept free.

        With `twins` each branch is stored under two ids, as models with a sliding window need it: there llama.cpp
        takes cells that have left the window of their only sequence for free, and a rewind would miss them.
        """
        self.context = context
        self.copies = 2 if twins else 1
        self.free: list[int] = list(range(0, context.n_seq_max - self.copies, self.copies))
        self._spare = context.n_seq_max - 1
        self._ids: dict[Node, int] = {}
        self._kept: dict[int, int] = {}
        """How many first tokens to leave under the ids whose ends were removed."""

    def missing(self, new: Sequence[Node], borrowed: int) -> int:
        """How many ids more than are free it takes to add these nodes and to borrow so many."""
        leaves = sum(not node.children for node in new)
        grown = {node.parent for node in new} & self._ids.keys()
        return leaves - len(grown) + borrowed - len(self.free)

    def add(self, new: Sequence[Node]) -> dict[Node, list[int]]:
        """The ids of the leaves below each of the new nodes. A leaf that grows hands on its id; others fork."""
        ids: dict[Node, list[int]] = defaultdict(list)
        unknown = set(new)
        for leaf in [node for node in new if not node.children]:
            path, node = [], leaf
            while node in unknown:
                path.append(node)
                assert node.parent is not None
                node = node.parent
            number = self._ids.pop(node, None)
            self._ids[leaf] = number = self._fork(node, node.depth) if number is None else number
            for each in path:
                ids[each] += self.all_of(number)
        return ids

    def all_of(self, number: int) -> range:
        """The id and its twin."""
        return range(number, number + self.copies)

    def remove(self, node: Node) -> None:
        """A leaf is gone: its id goes to its parent where that is a leaf now, else back to the pool."""
        parent = node.parent
        number = self._ids.pop(node, None)
        if number is None or parent is None:  # was never added
            return
        stored = any(child.slot >= 0 for child in parent.children.values())  # others are about to be added
        kept = 0 if stored else parent.depth
        if kept:
            self._ids[parent] = number
        else:
            self.free.append(number)
        self._kept[number] = min(kept, self._kept.get(number, kept))

    def flush(self) -> None:
        """Take out of the cells what was removed."""
        for number, kept in self._kept.items():
            self._cut(number, kept)
        self._kept.clear()

    def borrow(self, node: Node) -> int:
        """An id that holds the node's ancestors, to forward the node itself once more."""
        return self._fork(node, node.depth - 1)

    def give_back(self, number: int) -> None:
        """Empty a borrowed id."""
        self._cut(number, 0)
        self.free.append(number)

    def state(self, node: Node, start: int) -> bytes:
        """What llama.cpp has stored of the node's path from its token `start` on."""
        self.flush()
        self.context.memory_seq_cp(self._holding(node), self._spare, start, node.depth)
        try:
            state: bytes = self.context.get_state_seq_data(self._spare)
        finally:
            self.context.memory_seq_rm(self._spare, -1, -1)
        return state

    def _cut(self, number: int, kept: int) -> None:
        for each in self.all_of(number):
            self.context.memory_seq_rm(each, kept, -1)

    def _fork(self, node: Node, length: int) -> int:
        """A free id for the first `length` tokens of the node's path."""
        number = self.free.pop()
        if length:
            source = self._holding(node)
            for target in self.all_of(number):
                self.context.memory_seq_cp(source, target, 0, length)
        return number

    def _holding(self, node: Node) -> int:
        """An id under which the node is stored."""
        return next(self._ids[each] for each in descendants(node) if each in self._ids)
