"""Places in the KV buffer: which slots are free, and the slots along a branch of the trie."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np


class SlotPool:
    """Slots 0, 1, ... handed out lowest first. `depths[slot]` is the token's depth (1, 2, ...), 0 if free."""

    def __init__(self):
        self.live = 0
        self.span = 0
        """One more than the highest slot in use."""
        self.depths = np.zeros(64, dtype=np.int64)
        self._free: list[int] = []
        self._made = 0

    def allocate(self, depth: int) -> int:
        """The lowest free slot, for a token at `depth`."""
        if self._free:
            slot = heappop(self._free)
        else:
            slot = self._made
            self._made += 1
            if slot == len(self.depths):
                self.depths = np.concatenate([self.depths, np.zeros_like(self.depths)])
        self.depths[slot] = depth
        self.live += 1
        self.span = max(self.span, slot + 1)
        return slot

    def release(self, slot: int) -> None:
        """Free a slot."""
        heappush(self._free, slot)
        self.depths[slot] = 0
        self.live -= 1
        while self.span and not self.depths[self.span - 1]:
            self.span -= 1

    def compact(self) -> np.ndarray:
        """Renumber the used slots 0, 1, ... Returns their old numbers, ascending, int64 `[live]`."""
        old = np.flatnonzero(self.depths)
        self.depths[: len(old)] = self.depths[old]
        self.depths[len(old) :] = 0
        self._free.clear()
        self._made = self.span = self.live
        return old


class Branch:
    """The slots along one branch of the trie, shared by the nodes on it.

    A node's first child continues its branch in place; another child copies what it needs. So a sequence
    costs one array, not one per token, and the slots of a node's ancestors are a slice.
    """

    __slots__ = ("length", "slots")

    def __init__(self):
        self.slots = np.empty(8, dtype=np.int64)
        self.length = 0

    def extend(self, depth: int, slot: int) -> Branch:
        """The branch of a child stored in `slot` of the node at `depth` of this branch."""
        branch = self
        if self.length != depth:
            branch = Branch()
            branch.slots = np.empty(depth + 8, dtype=np.int64)
            branch.slots[:depth] = self.slots[:depth]
            branch.length = depth
        if branch.length == len(branch.slots):
            branch.slots = np.concatenate([branch.slots, np.empty_like(branch.slots)])
        branch.slots[depth] = slot
        branch.length = depth + 1
        return branch

    def retract(self, depth: int) -> None:
        """The node at `depth` is gone; if it was the last one, the next child may continue in place."""
        if self.length == depth:
            self.length = depth - 1
