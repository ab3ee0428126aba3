"""`LlamaCppEngine`: a token trie over llama.cpp's unified KV cache, all branches in one decode."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from rain_decoding.backends.base import check_layers
from rain_decoding.backends.gguf.logits import LogitsReader
from rain_decoding.backends.gguf.sequences import Sequences
from rain_decoding.backends.gguf.values import values_of
from rain_decoding.backends.trie import Node
from rain_decoding.backends.trie_engine import LOGITS_CACHE_BYTES, Plan, TokenTrieEngine
from rain_decoding.errors import BackendError, CapacityError
from rain_decoding.types import VALUES, Layer, Tokens

ALONE = 8
"""New tokens in a row from which on a text is decoded apart from others: sharing saves nothing then."""


class LlamaCppEngine(TokenTrieEngine):
    """A branch of the trie is a sequence of llama.cpp; a new token that several branches share is decoded once.

    Implements `backends.base.Engine`. `context` is a `LlamaContext` with a unified KV cache and `batch` a
    `LlamaBatch` for `context.n_batch` tokens and `context.n_seq_max` sequences.
    """

    def __init__(
        self,
        context: Any,
        batch: Any,
        vocabulary_size: int,
        context_length: int,
        *,
        max_kv_slots: int,
        prefix_cache_slots: int,
        sliding_window: bool = False,
        logits_cache_bytes: int = LOGITS_CACHE_BYTES,
        larger: Callable[[int], Any] | None = None,
        logits: LogitsReader | None = None,
    ):
        """See `TokenTrieEngine`; `larger` makes a context like this one with so many slots, for when `context.n_ctx`
        are not enough. Without it, `max_kv_slots` is at most `context.n_ctx`. `logits` reads rows; None: through the
        binding."""
        super().__init__(
            vocabulary_size,
            context_length,
            max_kv_slots=max_kv_slots,
            prefix_cache_slots=prefix_cache_slots,
            logits_cache_bytes=logits_cache_bytes,
        )
        self._context = context
        self._batch = batch
        self._larger = larger
        self._reader = logits or LogitsReader(vocabulary_size)
        self._sequences = Sequences(context, twins=sliding_window)
        self._keeps = False
        self._values: dict[Node, np.ndarray] = {}
        """Values of the tokens that were asked for, `[width]`."""

    layers: tuple[Layer, ...] = (VALUES,)
    description = ""
    """What the model is, as llama.cpp names it."""
    threads = 0
    """Threads that compute; 0: not known."""
    another: Callable[[], LlamaCppEngine]
    """Of the engine that was loaded: makes another over the same weights, with an empty cache. They work in turn."""

    @property
    def kept_layers(self) -> Collection[Layer]:
        return self.layers if self._keeps else ()

    def keep_layers(self, layers: Iterable[Layer]) -> None:
        """See `Engine.keep_layers`. The values are in the KV cache anyway."""
        check_layers("llama.cpp", layers, self.layers)
        self._keeps = True

    def hidden(
        self, sequence: Tokens, start: int, layers: Sequence[Layer], owner: int
    ) -> tuple[np.ndarray, int, int]:
        """See `Engine.hidden`. Nothing is forwarded for them but what is not cached."""
        node, count, alone = self._reach(sequence, owner)
        path = [node]
        while len(path) < len(sequence) - start and path[-1].parent is not None:
            path.append(path[-1].parent)
        path.reverse()
        known = next((place for place, each in enumerate(path) if each not in self._values), len(path))
        if known < len(path):
            values = values_of(self._sequences.state(node, start + known))
            self._values |= dict(zip(path[known:], values, strict=True))
        return np.stack([self._values[each] for each in path])[None].astype(np.float32), count, alone

    def _removed(self, node: Node) -> None:
        super()._removed(node)
        self._sequences.remove(node)
        self._values.pop(node, None)

    def _allocate(self, plan: Plan) -> None:
        # What is forwarded again needs a cell and a sequence of its own meanwhile.
        again = len(plan.work) - len(plan.new)
        self._make_room(len(plan.work))
        while self._sequences.missing(plan.new, again) > 0:
            if not self._trie.evict(1):
                raise CapacityError(
                    f"the step needs more branches than the {self._context.n_seq_max} sequences allow",
                    hint="raise max_sequences",
                )
        super()._allocate(plan)

    def _make_room(self, slots: int) -> None:
        super()._make_room(slots)
        needed = self._trie.pool.live + slots
        if self._larger is not None and needed > self._context.n_ctx:
            try:
                self._grow(self._larger, needed)
            except CapacityError:  # no memory for it: make do with what there is
                self._larger, self.max_kv_slots = None, self._context.n_ctx
                super()._make_room(slots)

    def _grow(self, larger: Callable[[int], Any], needed: int) -> None:
        """Move to a KV cache of twice the size, or what is needed, up to the limit."""
        assert self.max_kv_slots is not None
        context = larger(min(self.max_kv_slots, max(needed, 2 * self._context.n_ctx)))
        self._sequences.flush()
        context.set_state_data(self._context.get_state_data())
        self._context.close()
        self._context = self._sequences.context = context

    def _run(self, plan: Plan) -> dict[Node, np.ndarray]:
        """Do the plan's work in chunks; logits by node for those where sequences end."""
        self._sequences.flush()
        ids = self._sequences.add(plan.new)
        again = {node: self._sequences.borrow(node) for node in plan.work if node not in ids}
        ids |= {node: [*self._sequences.all_of(number)] for node, number in again.items()}
        fresh: dict[Node, np.ndarray] = {}
        work, wanted, size = list(plan.work), set(plan.ends), self._context.n_batch
        try:
            for chunk in decodes(work, size):
                fresh |= self._decode(chunk, ids, wanted)
        finally:
            for number in again.values():
                self._sequences.give_back(number)
        return fresh

    def _decode(
        self, nodes: list[Node], ids: dict[Node, list[int]], wanted: set[Node]
    ) -> dict[Node, np.ndarray]:
        """One `llama_decode`: logits of the wanted nodes, float32 `[vocabulary]` each."""
        self._batch.reset()
        for node in nodes:
            self._batch.add(node.token, node.depth - 1, ids[node], node in wanted)
        try:
            self._context.decode(self._batch)
        except (RuntimeError, ValueError) as error:
            raise BackendError(
                f"llama.cpp failed: {error}", hint="load with verbose=True to see its own messages"
            ) from error
        have = [row for row, node in enumerate(nodes) if node in wanted]
        return {nodes[row]: self._reader.read(self._context, row, output) for output, row in enumerate(have)}

    def _blank(self, nodes: Collection[Node]) -> None:
        # A mask does not hold NaN back, and cells cannot be overwritten one by one.
        pinned = self._trie.clear_all()
        self._sequences.flush()
        self._context.kv_cache_clear(True)
        for tokens in pinned:
            self.pin(tokens)


def decodes(work: Sequence[Node], size: int) -> Iterator[list[Node]]:
    """The work in its order, in pieces of at most `size` for one decode each.

    What llama.cpp makes of a prompt differs by float noise with what is decoded beside it. On quantised models that is
    enough to change a greedy text, so a prompt does not share its decode.
    """
    waiting: list[Node] = []
    for run in runs(work):
        if len(run) < ALONE:
            waiting += run
            continue
        yield from pieces(waiting, size)
        yield from pieces(run, size)
        waiting = []
    yield from pieces(waiting, size)


def runs(work: Sequence[Node]) -> Iterator[list[Node]]:
    """Nodes of which each is the parent of the next."""
    run: list[Node] = []
    for node in work:
        if run and node.parent is not run[-1]:
            yield run
            run = []
        run.append(node)
    if run:
        yield run


def pieces(nodes: list[Node], size: int) -> Iterator[list[Node]]:
    """At most `size` of them at a time."""
    for start in range(0, len(nodes), size):
        yield nodes[start : start + size]
