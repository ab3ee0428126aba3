"""A trie of token sequences whose nodes are the tokens with KV: who holds which, and where each is stored.

A node is held by owners, by the prefix cache (`CACHE`) and by pins (`PIN`). Whoever holds a node holds its
ancestors too. A node that nobody holds any more is removed and its slot freed at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush

import numpy as np

from rain_decoding.backends.slots import Branch, SlotPool
from rain_decoding.types import Tokens

CACHE = -1
PIN = -2
REMEMBERED = 1024
"""How many recently sought sequences are found without a walk from the root."""


class Node:
    """One token after its ancestors. `slot` is -1 until it has KV and once it is removed."""

    __slots__ = ("branch", "children", "depth", "holders", "parent", "slot", "token", "used")

    def __init__(self, token: int, parent: Node | None):
        self.token = token
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent else 0
        self.children: dict[int, Node] = {}
        self.holders: set[int] = set()
        self.slot = -1
        self.used = 0
        self.branch: Branch | None = None

    @property
    def path(self) -> np.ndarray:
        """Slots of the ancestors and of the node itself, from the first token on, int64 `[depth]`."""
        assert self.branch is not None
        return self.branch.slots[: self.depth]

    @property
    def tokens(self) -> Tokens:
        """The sequence that ends here."""
        tokens = []
        node: Node = self
        while node.parent is not None:
            tokens.append(node.token)
            node = node.parent
        return tuple(reversed(tokens))


class Trie:
    """Nodes by sequence and by slot. `now` is the number of the current forward."""

    def __init__(self, on_remove: Callable[[Node], None] = lambda node: None):
        self.on_remove = on_remove
        self.roots: dict[Tokens, Node] = {(): _root()}
        """One for all, and one for each prefix that is set apart."""
        self.pool = SlotPool()
        self.nodes: list[Node | None] = []
        self.held: Counter[int] = Counter()
        self.now = 0
        self._recent: dict[Tokens, Node] = {}
        self._victims: list[tuple[bool, int, int]] = []
        self._leaves: list[tuple[int, int, int, Node]] = []
        """A heap of what were leaves of the prefix cache, least recently used first; looked at again when popped."""

    # Finding and inserting

    def set_apart(self, prefix: Tokens) -> None:
        """Let what begins with the whole `prefix` share nothing with what does not.

        What one forward makes of a token differs by float noise from what another does, which on quantised models is
        enough to change a text: a conversation is not to begin with what was forwarded for a judge.
        """
        if prefix not in self.roots:
            self.roots[prefix] = _root()
            self._recent.clear()

    def _root_of(self, tokens: Tokens) -> Node:
        fitting = (prefix for prefix in self.roots if tokens[: len(prefix)] == prefix)
        return self.roots[max(fitting, key=len)]

    def find(self, tokens: Tokens) -> Node:
        """The node of the longest prefix of `tokens` that is in the trie (a root for none)."""
        found = self._remembered(tokens)
        if found is None and tokens not in self.roots:  # what is set apart does not go on from elsewhere
            found = self._remembered(tokens[:-1])
        node = start = found or self._root_of(tokens)
        for token in tokens[node.depth :]:
            child = node.children.get(token)
            if child is None:
                break
            node = child
        if node is not start:
            self._remember(tokens[: node.depth], node)
        return node

    def _remembered(self, tokens: Tokens) -> Node | None:
        node = self._recent.get(tokens)
        return node if node is not None and node.slot >= 0 else None

    def _remember(self, tokens: Tokens, node: Node) -> None:
        self._recent[tokens] = node
        if len(self._recent) > REMEMBERED:
            del self._recent[next(iter(self._recent))]

    def insert(self, node: Node, tokens: Tokens) -> list[Node]:
        """Insert the missing nodes of `tokens` below `node`, which `find` returned. They have no slot yet."""
        new = []
        for token in tokens[node.depth :]:
            child = Node(token, node)
            child.used = self.now
            node.children[token] = child
            new.append(child)
            node = child
        self._remember(tokens, node)
        return new

    def allocate(self, node: Node) -> None:
        """Give a new node the lowest free slot. Parents first."""
        assert node.parent is not None and node.parent.branch is not None
        node.slot = self.pool.allocate(node.depth)
        node.branch = node.parent.branch.extend(node.parent.depth, node.slot)
        if node.slot == len(self.nodes):
            self.nodes.append(node)
        else:
            self.nodes[node.slot] = node

    def remove(self, node: Node) -> None:
        """Cut out a node without children, whoever holds it."""
        parent = node.parent
        assert parent is not None and not node.children
        del parent.children[node.token]
        for holder in node.holders:
            self.held[holder] -= 1
        if CACHE in node.holders and _is_cached_leaf(parent):
            self._remember_leaf(parent)
        node.holders.clear()
        if node.slot >= 0:
            assert node.branch is not None
            node.branch.retract(node.depth)
            self.nodes[node.slot] = None
            self.pool.release(node.slot)
            node.slot = -1
        self.on_remove(node)

    def prune(self, node: Node) -> None:
        """Cut out a node with all that is below it, whoever holds it. Nothing to do if it is gone already."""
        if node.slot >= 0:
            for each in reversed(list(descendants(node))):
                self.remove(each)

    # Holding and letting go

    def hold(self, node: Node, holder: int) -> int:
        """Let `holder` hold the node and its ancestors; how many of them it did not, and no pin does."""
        current: Node | None = node
        new = 0
        while current is not None and current.parent is not None and holder not in current.holders:
            new += PIN not in current.holders
            current.holders.add(holder)
            self.held[holder] += 1
            current = current.parent
        return new

    def _let_go(self, node: Node, holder: int) -> None:
        node.holders.remove(holder)
        self.held[holder] -= 1
        if not node.holders:
            self.remove(node)

    def _let_go_below(self, node: Node, holder: int) -> None:
        """Let go of all that `holder` holds at and below `node`, children first."""
        for each in reversed(list(descendants(node, holder))):
            self._let_go(each, holder)

    def trim(self, holder: int, tokens: Tokens, keep: int) -> None:
        """Let go of `tokens` beyond the first `keep`, up to where something else of the holder forks off."""
        node = self.find(tokens)
        while node.depth > keep and node.parent is not None:
            parent = node.parent
            if holder in node.holders:
                if any(holder in child.holders for child in node.children.values()):
                    return
                self._let_go(node, holder)
            node = parent

    def retain(self, holder: int, prefixes: Iterable[Tokens]) -> None:
        """Let go of all that is neither on one of `prefixes` nor extends one."""
        ends, on_path = set(), {*self.roots.values()}
        for tokens in prefixes:
            node: Node | None = self.find(tokens)
            assert node is not None
            if node.depth == len(tokens):
                ends.add(node)
            while node is not None and node not in on_path:
                on_path.add(node)
                node = node.parent
        pending = [*self.roots.values()]
        while pending:
            node = pending.pop()
            if node in ends:
                continue
            for child in [child for child in node.children.values() if holder in child.holders]:
                if child in on_path:
                    pending.append(child)
                else:
                    self._let_go_below(child, holder)

    def finish(self, holder: int, keep: Iterable[Tokens], cache_slots: int) -> None:
        """Let go of all; the paths of `keep` move to the prefix cache of at most `cache_slots` nodes."""
        if cache_slots:
            for tokens in keep:
                node = self.find(tokens)
                node.used = self.now
                self.hold(node, CACHE)
                if _is_cached_leaf(node):
                    self._remember_leaf(node)
        for root in self.roots.values():
            for child in [child for child in root.children.values() if holder in child.holders]:
                self._let_go_below(child, holder)
        del self.held[holder]
        self._victims.clear()
        self._shrink_cache(cache_slots)

    def clear(self) -> None:
        """Remove all but the pinned."""
        for node in sorted((node for node in self.nodes if node), key=lambda node: -node.depth):
            if PIN not in node.holders:
                self.remove(node)
            else:
                self.held.subtract(node.holders - {PIN})
                node.holders = {PIN}
        self._recent.clear()
        self._victims.clear()
        self._leaves.clear()

    def clear_all(self) -> list[Tokens]:
        """Remove everything. Returns what was pinned, to be forwarded and pinned again."""
        pinned = [
            node.tokens
            for node in self.nodes
            if node
            and PIN in node.holders
            and not any(PIN in child.holders for child in node.children.values())
        ]
        for root in self.roots.values():
            for child in list(root.children.values()):
                self.prune(child)
        self._recent.clear()
        self._victims.clear()
        self._leaves.clear()
        return pinned

    # Evicting

    def _shrink_cache(self, limit: int) -> None:
        """Drop least recently used leaves of the prefix cache until it holds at most `limit` nodes."""
        while self.held[CACHE] > limit:
            used, _, _, node = heappop(self._leaves)
            if not _is_cached_leaf(node):
                continue
            if node.used > used:
                self._remember_leaf(node)
                continue
            parent = node.parent
            assert parent is not None
            parent.used = max(parent.used, node.used)
            self._let_go(node, CACHE)
            if _is_cached_leaf(parent):
                self._remember_leaf(parent)

    def _remember_leaf(self, node: Node) -> None:
        heappush(self._leaves, (node.used, node.slot, id(node), node))
        if len(self._leaves) > 2 * len(self.nodes):  # mostly what is gone, or stands there twice
            leaves = filter(_is_cached_leaf, {entry[3] for entry in self._leaves})
            self._leaves = [(leaf.used, leaf.slot, id(leaf), leaf) for leaf in leaves]
            heapify(self._leaves)

    def evict(self, count: int) -> bool:
        """Remove `count` leaves: cached ones before owned ones, least recently used first.

        Spares what is pinned and what the current forward uses. Returns whether so many could be removed.
        """
        while count:
            if not self._victims and not self._find_victims():
                return False
            victim = heappop(self._victims)
            node = self.nodes[victim[2]]
            if node is None or not self._evictable(node):
                continue
            if _rank(node) > victim:
                heappush(self._victims, _rank(node))
                continue
            parent = node.parent
            assert parent is not None
            parent.used = max(parent.used, node.used)
            self.remove(node)
            count -= 1
            if self._evictable(parent):
                heappush(self._victims, _rank(parent))
        return True

    def _evictable(self, node: Node) -> bool:
        return node.slot >= 0 and not node.children and PIN not in node.holders and node.used < self.now

    def _find_victims(self) -> bool:
        # Kept between calls, so that a full cache is not scanned at every forward.
        self._victims = [_rank(node) for node in self.nodes if node and self._evictable(node)]
        heapify(self._victims)
        return bool(self._victims)

    # Packing

    def compact(self) -> np.ndarray:
        """Renumber the slots without gaps. Returns the old slots in their new order, int64 `[live]`."""
        old = self.pool.compact()
        nodes = [self.nodes[slot] for slot in old]
        moved = np.zeros(len(self.nodes), dtype=np.int64)
        moved[old] = np.arange(len(old))
        for branch in {id(node.branch): node.branch for node in nodes if node and node.branch}.values():
            branch.slots[: branch.length] = moved[branch.slots[: branch.length]]
        for slot, node in enumerate(nodes):
            assert node is not None
            node.slot = slot
        self.nodes = nodes
        self._victims.clear()
        return old

    def visible(self, nodes: Sequence[Node]) -> np.ndarray:
        """What each node sees, itself included: bool `[len(nodes), pool.span]` over slots."""
        mask = np.zeros((len(nodes), self.pool.span), dtype=bool)
        for row, node in zip(mask, nodes, strict=True):
            row[node.path] = True
        return mask


def _root() -> Node:
    root = Node(-1, None)
    root.branch = Branch()
    return root


def _is_cached_leaf(node: Node) -> bool:
    """Whether the prefix cache holds the node, and nothing below it."""
    return CACHE in node.holders and all(CACHE not in child.holders for child in node.children.values())


def _rank(node: Node) -> tuple[bool, int, int]:
    """What goes first compares lowest: cached before owned, then the least recently used."""
    return node.holders != {CACHE}, node.used, node.slot


def descendants(node: Node, holder: int | None = None) -> Iterator[Node]:
    """The nodes at and below `node` (of those, the ones that `holder` holds), parents first."""
    pending = [node]
    while pending:
        node = pending.pop()
        if holder is None or holder in node.holders:
            yield node
            pending += node.children.values()
