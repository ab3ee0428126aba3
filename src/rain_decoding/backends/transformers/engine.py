"""`TrieEngine`: a language model over a token trie, all branches in one forward of batch size 1."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rain_decoding.backends.transformers.kv_cache import SlotCache
from rain_decoding.backends.transformers.logits_cache import LogitsCache
from rain_decoding.backends.transformers.masks import attention_layers, to_tensor, within_reach
from rain_decoding.backends.transformers.segments import attending, split
from rain_decoding.backends.transformers.trie import PIN, Node, Trie
from rain_decoding.errors import CapacityError, NumericalError, UnsupportedError
from rain_decoding.types import Tokens

COMPACT_FROM = 1024
"""A buffer whose used span is shorter than this many slots is never compacted."""


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


class TrieEngine:
    """Each distinct prefix of the sequences asked for is forwarded once; its KV is kept until given back.

    Implements `backends.base.Engine`. Raises `UnsupportedError` for a model whose attention takes no mask of
    ours; whether the model then honours the mask is for `probe` to find out.
    """

    shares_prefixes = True

    def __init__(
        self,
        model: Any,
        context_length: int,
        *,
        max_kv_slots: int | None = None,
        prefix_cache_slots: int = 8192,
        keep_hidden: bool = False,
        max_step_tokens: int = 2048,
        logits_cache_bytes: int = 256 * 2**20,
        split_from: int | None = 1 << 14,
    ):
        """`max_kv_slots` limits the tokens whose KV are held (None: no limit), `prefix_cache_slots` those of
        finished owners; a forward takes at most `max_step_tokens` new tokens at once. Steps with at least `split_from`
        query-slot pairs attend by segments where that pays (0: every step does; None: none does)."""
        config = model.config.get_text_config(decoder=True)
        attention = getattr(config, "_attn_implementation", None)
        if attention not in ("sdpa", "eager"):
            raise UnsupportedError(
                f"attention {attention!r} takes no tree mask", hint="use 'sdpa' or 'eager'"
            )
        self.vocabulary_size: int = config.vocab_size
        self.context_length = context_length
        self.hidden_states = keep_hidden
        self.max_kv_slots = max_kv_slots
        self.prefix_cache_slots = prefix_cache_slots
        self.max_step_tokens = max_step_tokens
        self._model = model
        self._embedding = model.get_input_embeddings().weight
        """Tells where the model is: asking the model itself takes long."""
        self._config = config
        self._layers = attention_layers(config)
        self.split_from = None if attention == "eager" else split_from
        self._additive = attention == "eager"
        self._selects = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._cache = SlotCache(limit=max_kv_slots, hidden=keep_hidden)
        self._logits: LogitsCache[Node] = LogitsCache(logits_cache_bytes)
        self._trie = Trie(on_remove=self._logits.drop)

    # The protocol

    @torch.inference_mode()
    def forward(self, sequences: Sequence[Tokens], owners: Sequence[int]) -> tuple[np.ndarray, list[int]]:
        """See `Engine.forward`. Raises `CapacityError` if one sequence alone passes `max_kv_slots`."""
        if not sequences:
            return np.empty((0, self.vocabulary_size), dtype=np.float32), []
        self._compact_if_sparse()
        try:
            return self._forward(sequences, owners)
        except CapacityError:
            if len(sequences) == 1:
                raise
        # Too much for one step: the halves may fit one after the other.
        half = len(sequences) // 2
        first, counts = self.forward(sequences[:half], owners[:half])
        second, more = self.forward(sequences[half:], owners[half:])
        return np.concatenate([first, second]), counts + more

    @torch.inference_mode()
    def hidden(self, sequence: Tokens, start: int, owner: int) -> tuple[np.ndarray, int]:
        """See `Engine.hidden`. Raises `UnsupportedError` unless loaded with `keep_hidden`."""
        if self._cache.hidden is None:
            raise UnsupportedError("hidden states are not kept", hint="load with keep_hidden=True")
        forwarded = 0
        node = self._trie.find(sequence)
        if node.depth < len(sequence):
            forwarded = self.forward([sequence], [owner])[1][0]
            node = self._trie.find(sequence)
            if node.depth < len(sequence):
                raise NumericalError("the model returned NaN", hint="try dtype float32")
        self._trie.hold(node, owner)
        return self._cache.hidden.read(node.path[start:]).float().cpu().numpy(), forwarded

    def trim(self, owner: int, sequence: Tokens, keep: int) -> None:
        """See `Engine.trim`."""
        self._trie.trim(owner, sequence, keep)

    def retain(self, owner: int, prefixes: Iterable[Tokens]) -> None:
        """Keep of the owner's tokens those on, or below the end of, one of `prefixes`."""
        self._trie.retain(owner, prefixes)

    def finish(self, owner: int, keep: Iterable[Tokens]) -> None:
        """Give back all that the owner holds; the paths of `keep` move to the prefix cache."""
        self._trie.finish(owner, keep, self.prefix_cache_slots)

    def pin(self, tokens: Tokens) -> None:
        """Forward the prefix and hold it for good."""
        self.forward([tokens], [PIN])

    def clear(self) -> None:
        """Leave only pinned prefixes, and forget all logits."""
        self._trie.clear()
        self._logits.clear()

    @property
    def slots_used(self) -> int:
        return self._trie.pool.live

    # One forward

    def _forward(self, sequences: Sequence[Tokens], owners: Sequence[int]) -> tuple[np.ndarray, list[int]]:
        trie = self._trie
        trie.now += 1
        plan = self._plan(sequences, owners)
        try:
            self._seat(plan.new)
            fresh = self._run(plan)
        except BaseException as error:
            for node in reversed(plan.new):
                trie.remove(node)
            if isinstance(error, torch.OutOfMemoryError):
                raise CapacityError("out of memory", hint="set a lower max_kv_slots") from error
            raise
        logits = self._rows(plan.ends, fresh)
        if np.isnan(logits.max()):
            return self._isolate(sequences, owners, logits, plan)
        for node, row in fresh.items():
            self._logits.put(node, row)
        for node, owner in zip(plan.ends, owners, strict=True):
            trie.hold(node, owner)
        return logits, plan.counts

    def _plan(self, sequences: Sequence[Tokens], owners: Sequence[int]) -> Plan:
        plan = Plan([], {}, [], [])
        for tokens, owner in zip(sequences, owners, strict=True):
            node = self._trie.find(tokens)
            node.used = self._trie.now
            grown = self._trie.grow(node, tokens)
            plan.new.extend(grown)
            if grown:
                node = grown[-1]
            elif node not in plan.work and self._logits.get(node) is None:
                grown = [node]
            plan.work.update(dict.fromkeys(grown, owner))
            plan.ends.append(node)
            plan.counts.append(len(grown))
        return plan

    def _seat(self, new: list[Node]) -> None:
        """Give every new node a slot, evicting others where the memory limit asks for it."""
        trie, limit = self._trie, self.max_kv_slots
        if limit is not None:
            excess = trie.pool.live + len(new) - limit
            if excess > 0 and not trie.evict(excess):
                raise CapacityError(
                    f"{len(new)} more tokens do not fit into a KV cache of {limit} slots",
                    hint="raise max_kv_slots, or shorten the prompt",
                )
        for node in new:
            trie.seat(node)

    def _rows(self, ends: list[Node], fresh: dict[Node, np.ndarray]) -> np.ndarray:
        """Logits after the `ends`, `[len(ends), vocabulary]`: new ones, or kept ones."""
        if len(ends) == 1 and ends[0] in fresh:
            return fresh[ends[0]][None]
        rows = [fresh[node] if node in fresh else self._logits.get(node) for node in ends]
        return np.stack([row for row in rows if row is not None])

    def _run(self, plan: Plan) -> dict[Node, np.ndarray]:
        """Do the plan's work in chunks; logits by node for those where sequences end."""
        fresh: dict[Node, np.ndarray] = {}
        work, wanted = list(plan.work), set(plan.ends)
        for start in range(0, len(work), self.max_step_tokens):
            chunk = work[start : start + self.max_step_tokens]
            positions = [position for position, node in enumerate(chunk) if node in wanted]
            logits = self._step(chunk, [plan.work[node] for node in chunk], positions or [len(chunk) - 1])
            fresh.update(zip([chunk[position] for position in positions], logits, strict=False))
        return fresh

    def _step(self, nodes: list[Node], owners: list[int], positions: list[int]) -> np.ndarray:
        """One pass through the model: logits at `positions` of `nodes`, float32 `[positions, vocabulary]`."""
        pool, model = self._trie.pool, self._model
        device = self._embedding.device
        slots = np.array([node.slot for node in nodes])
        depths = pool.depths[slots]
        self._cache.begin(slots, pool.span, device)
        options: dict[str, Any] = {}
        if self._selects:
            last = positions == [len(nodes) - 1]
            options["logits_to_keep"] = 1 if last else torch.tensor(positions, device=device)
        visible = self._trie.visible(nodes)
        segments = [] if self.split_from is None else split(visible, owners, device, self.split_from)
        with self._storing_hidden(), attending(self._config, segments):
            output = model(
                input_ids=torch.tensor([[node.token for node in nodes]], device=device),
                attention_mask=self._mask(visible, depths, device),
                position_ids=torch.from_numpy(depths - 1).to(device)[None],
                past_key_values=self._cache,
                use_cache=True,
                **options,
            )
        logits = output.logits[0] if self._selects else output.logits[0, positions]
        return logits.float().cpu().numpy()

    def _mask(self, visible: np.ndarray, depths: np.ndarray, device: torch.device) -> Any:
        """One mask, or one for each kind of layer where a model has several."""
        keys = self._trie.pool.depths[: visible.shape[1]]
        dtype, additive = self._embedding.dtype, self._additive
        masks = {
            kind: to_tensor(within_reach(kind, size, visible, depths, keys), dtype, device, additive=additive)
            for kind, size in self._layers.items()
        }
        return masks if len(masks) > 1 else next(iter(masks.values()))

    @contextmanager
    def _storing_hidden(self) -> Iterator[None]:
        """Keep the last hidden states `[1, new, width]` of the decoder in the slots of the step."""
        buffer = self._cache.hidden
        if buffer is None:
            yield
            return

        def store(module: Any, arguments: Any, output: Any) -> None:
            buffer.write((output[0] if isinstance(output, tuple) else output.last_hidden_state)[0])

        hook = self._model.base_model.register_forward_hook(store)
        try:
            yield
        finally:
            hook.remove()

    def _isolate(
        self,
        sequences: Sequence[Tokens],
        owners: Sequence[int],
        logits: np.ndarray,
        plan: Plan,
    ) -> tuple[np.ndarray, list[int]]:
        """NaN in one branch spreads to all of its step: forget the step, and run each sequence by itself."""
        slots = np.array([node.slot for node in plan.work])
        for node in plan.work:
            self._trie.prune(node)
        self._cache.blank(slots)
        if len(sequences) == 1:
            return logits, plan.counts
        alone = [
            self._forward([sequence], [owner]) for sequence, owner in zip(sequences, owners, strict=True)
        ]
        return np.concatenate([rows for rows, _ in alone]), [
            count + again[0] for count, (_, again) in zip(plan.counts, alone, strict=True)
        ]

    def _compact_if_sparse(self) -> None:
        pool = self._trie.pool
        if pool.span > COMPACT_FROM and pool.span > 2 * pool.live:
            self._cache.pack(self._trie.compact())
