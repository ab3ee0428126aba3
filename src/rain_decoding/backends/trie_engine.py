"""`TokenTrieEngine`: what engines over a token trie share: what a step forwards, and who holds what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from rain_decoding.backends.base import Forwarded
from rain_decoding.backends.directions import Directions
from rain_decoding.backends.logits_cache import LogitsCache
from rain_decoding.backends.trie import PIN, Node, Trie
from rain_decoding.errors import CapacityError, NumericalError
from rain_decoding.types import Tokens

LOGITS_CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Plan:
    """What one call of `forward` has to do.

    `ends` are the nodes where the sequences end; `work` the nodes to forward, parents first, each with the owner it
    is for; `new` those of them that have no slot yet; `counts` the tokens to forward per sequence.
    """

    ends: list[Node]
    work: dict[Node, int]
    new: list[Node]
    counts: list[int]


class TokenTrieEngine(ABC):
    """Each distinct prefix of the sequences asked for is forwarded once; its KV is kept until given back.

    Implements `backends.base.Engine` but for hidden states; a subclass stores the KV and runs the model.
    """

    shares_prefixes = counts_apart = True
    directions: Directions | None = None

    def __init__(
        self,
        vocabulary_size: int,
        context_length: int,
        *,
        max_kv_slots: int | None = None,
        prefix_cache_slots: int = 8192,
        logits_cache_bytes: int = LOGITS_CACHE_BYTES,
    ):
        """`max_kv_slots` limits the tokens whose KV are held (None: no limit), `prefix_cache_slots` those of
        finished owners."""
        self.vocabulary_size = vocabulary_size
        self.context_length = context_length
        self.max_kv_slots = max_kv_slots
        self.prefix_cache_slots = prefix_cache_slots
        self._logits: LogitsCache[Node] = LogitsCache(logits_cache_bytes)
        self._trie = Trie(on_remove=self._removed)

    # For subclasses

    @abstractmethod
    def _run(self, plan: Plan) -> dict[Node, np.ndarray]:
        """Forward the plan's work; logits by node, at least for the `ends` among it."""

    @abstractmethod
    def _blank(self, nodes: Collection[Node]) -> None:
        """Forget these nodes, in which NaN is stored, and see that it reaches no other."""

    def _removed(self, node: Node) -> None:
        """A node has left the trie."""
        self._logits.drop(node)

    def _reach(self, sequence: Tokens, owner: int) -> tuple[Node, int, int]:
        """The node where a sequence ends, held for its owner, and what that took: tokens forwarded, and alone."""
        count = alone = 0
        if (node := self._trie.find(sequence)).depth < len(sequence):
            _, (count,), (alone,) = self.forward([sequence], [owner])
            if (node := self._trie.find(sequence)).depth < len(sequence):
                raise NumericalError("the model returned NaN", hint="try dtype=float32")
        return node, count, alone + self._trie.hold(node, owner)

    # The protocol

    def forward(self, sequences: Sequence[Tokens], owners: Sequence[int]) -> Forwarded:
        """See `Engine.forward`. Raises `CapacityError` if one sequence alone passes `max_kv_slots`."""
        if not sequences:
            return Forwarded(np.empty((0, self.vocabulary_size), dtype=np.float32), [], [])
        try:
            return self._forward(sequences, owners)
        except CapacityError:
            if len(sequences) == 1:
                raise
        # Too much for one step: the halves may fit one after the other.
        half = len(sequences) // 2
        parts = self.forward(sequences[:half], owners[:half]), self.forward(sequences[half:], owners[half:])
        return _joined(parts)

    def trim(self, owner: int, sequence: Tokens, keep: int) -> None:
        """See `Engine.trim`."""
        self._trie.trim(owner, sequence, keep)

    def retain(self, owner: int, prefixes: Iterable[Tokens]) -> None:
        """Keep of the owner's tokens those on, or below the end of, one of `prefixes`."""
        self._trie.retain(owner, prefixes)

    def finish(self, owner: int, keep: Iterable[Tokens]) -> None:
        """Give back all that the owner holds; the paths of `keep` move to the prefix cache."""
        self._trie.finish(owner, keep, self.prefix_cache_slots)

    def pin(self, tokens: Tokens) -> int:
        """Forward the prefix and hold it for good, apart from what begins otherwise; how many tokens that took."""
        self._trie.set_apart(tokens)
        return self.forward([tokens], [PIN]).counts[0]

    def clear(self) -> None:
        """Leave only pinned prefixes, and forget all logits."""
        self._trie.clear()
        self._logits.clear()

    @property
    def slots_used(self) -> int:
        return self._trie.pool.live

    # One forward

    def _forward(self, sequences: Sequence[Tokens], owners: Sequence[int]) -> Forwarded:
        trie = self._trie
        trie.now += 1
        plan = Plan([], {}, [], [])
        try:
            self._fill(plan, sequences, owners)
            self._allocate(plan)
            fresh = self._run(plan)
            logits = self._rows(plan.ends, fresh)
            broken = np.isnan(logits.max())
            if not broken:
                for node, row in fresh.items():
                    self._logits.put(node, row)
                held = [trie.hold(node, owner) for node, owner in zip(plan.ends, owners, strict=True)]
        except BaseException:  # Ctrl-C too: what nobody holds would never go
            for node in reversed(plan.new):
                trie.remove(node)
            raise
        if broken:
            return self._isolate(sequences, owners, logits, plan)
        # What is held may have been forwarded again, where only its logits were forgotten.
        return Forwarded(logits, plan.counts, [*map(max, held, plan.counts)])

    def _fill(self, plan: Plan, sequences: Sequence[Tokens], owners: Sequence[int]) -> None:
        for tokens, owner in zip(sequences, owners, strict=True):
            node = self._trie.find(tokens)
            node.used = self._trie.now
            inserted = self._trie.insert(node, tokens)
            plan.new.extend(inserted)
            if inserted:
                node = inserted[-1]
            elif node not in plan.work and self._logits.get(node) is None:
                inserted = [node]
            plan.work.update(dict.fromkeys(inserted, owner))
            plan.ends.append(node)
            plan.counts.append(len(inserted))

    def _allocate(self, plan: Plan) -> None:
        """Give every new node a slot, evicting others where the memory limit asks for it."""
        self._make_room(len(plan.new))
        for node in plan.new:
            self._trie.allocate(node)

    def _make_room(self, slots: int) -> None:
        """Evict until so many more slots can be taken."""
        trie, limit = self._trie, self.max_kv_slots
        if limit is not None:
            excess = trie.pool.live + slots - limit
            if excess > 0 and not trie.evict(excess):
                raise CapacityError(
                    f"{slots} more tokens do not fit into a KV cache of {limit} slots",
                    hint="raise max_kv_slots, or shorten the prompt",
                )

    def _rows(self, ends: list[Node], fresh: dict[Node, np.ndarray]) -> np.ndarray:
        """Logits after the `ends`, `[len(ends), vocabulary]`: new ones, or kept ones."""
        if len(ends) == 1 and ends[0] in fresh:
            return fresh[ends[0]][None]
        rows = [fresh[node] if node in fresh else self._logits.get(node) for node in ends]
        return np.stack([row for row in rows if row is not None])

    def _isolate(
        self,
        sequences: Sequence[Tokens],
        owners: Sequence[int],
        logits: np.ndarray,
        plan: Plan,
    ) -> Forwarded:
        """NaN in one branch spreads to all of its step: forget the step, and run each sequence by itself."""
        self._blank(plan.work)
        if len(sequences) == 1:
            return Forwarded(logits, plan.counts, plan.counts)
        found = _joined(
            [self._forward([sequence], [owner]) for sequence, owner in zip(sequences, owners, strict=True)]
        )
        twice = [
            [count + again for count, again in zip(plan.counts, counts, strict=True)]
            for counts in (found.counts, found.alone)
        ]
        return Forwarded(found.logits, *twice)


def _joined(parts: Sequence[Forwarded]) -> Forwarded:
    """What several calls gave, one after the other."""
    logits, counts, alone = zip(*parts, strict=True)
    return Forwarded(np.concatenate(logits), [*chain(*counts)], [*chain(*alone)])
