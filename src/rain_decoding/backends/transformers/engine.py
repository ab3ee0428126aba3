"""`TrieEngine`: a language model over a token trie, all branches in one forward of batch size 1."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from rain_decoding.backends.base import Forwarded, check_layers
from rain_decoding.backends.directions import Directions, ids_of, numbers_of
from rain_decoding.backends.transformers.kv_cache import SlotCache
from rain_decoding.backends.transformers.layers import readable_layers, shifting, tapped
from rain_decoding.backends.transformers.masks import additive, attention_layers, within_reach
from rain_decoding.backends.transformers.segments import attending, batches, placeholder, split
from rain_decoding.backends.trie import Node
from rain_decoding.backends.trie_engine import LOGITS_CACHE_BYTES, Plan, TokenTrieEngine
from rain_decoding.errors import CapacityError, UnsupportedError
from rain_decoding.types import LAST, Layer, Tokens

COMPACT_FROM = 1024
"""A buffer whose used span is shorter than this many slots is never compacted."""


class TrieEngine(TokenTrieEngine):
    """The KV of the trie's tokens in one buffer, and a mask that shows each token its ancestors.

    Implements `backends.base.Engine`. Raises `UnsupportedError` for a model whose attention takes no mask of
    ours; whether the model then honours the mask is for `probe` to find out.
    """

    def __init__(
        self,
        model: Any,
        context_length: int,
        *,
        max_kv_slots: int | None = None,
        prefix_cache_slots: int = 8192,
        keep_hidden: bool = False,
        max_step_tokens: int = 2048,
        logits_cache_bytes: int = LOGITS_CACHE_BYTES,
        split_from: int | None = 1 << 14,
    ):
        """A forward takes at most `max_step_tokens` new tokens at once. Steps with at least `split_from` query-slot
        pairs, or a long buffer, attend by segments where that pays (0: every step does; None: none does). For the
        others see `TokenTrieEngine`."""
        config = model.config.get_text_config(decoder=True)
        attention = getattr(config, "_attn_implementation", None)
        if attention not in ("sdpa", "eager"):
            raise UnsupportedError(
                f"attention {attention!r} does not support tree masks",
                hint="use attn_implementation='sdpa' or 'eager'",
            )
        super().__init__(
            config.vocab_size,
            context_length,
            max_kv_slots=max_kv_slots,
            prefix_cache_slots=prefix_cache_slots,
            logits_cache_bytes=logits_cache_bytes,
        )
        self.max_step_tokens = max_step_tokens
        self.model = model
        self.directions: Directions = Directions()
        self._embedding = model.get_input_embeddings().weight
        """Tells where the model is: asking the model itself takes long."""
        self._config = config
        self._layers = attention_layers(config)
        self.split_from = None if attention == "eager" else split_from
        self._selects = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._cache = SlotCache(limit=max_kv_slots, layers=[LAST] if keep_hidden else [])

    # The protocol

    @torch.inference_mode()
    def forward(self, sequences: Sequence[Tokens], owners: Sequence[int]) -> Forwarded:
        """See `TokenTrieEngine.forward`."""
        self._compact_if_sparse()
        return super().forward(sequences, owners)

    @property
    def layers(self) -> tuple[Layer, ...]:
        return readable_layers(self.model)

    @property
    def kept_layers(self) -> Collection[Layer]:
        return self._cache.hidden.keys()

    def keep_layers(self, layers: Iterable[Layer]) -> None:
        """See `Engine.keep_layers`."""
        if new := set(layers) - self._cache.hidden.keys():
            check_layers(type(self.model).__name__, new, self.layers)
            pinned = self._trie.clear_all()
            self._logits.clear()
            self._cache.keep_layers(new)
            for tokens in pinned:
                self.pin(tokens)

    @torch.inference_mode()
    def hidden(
        self, sequence: Tokens, start: int, layers: Sequence[Layer], owner: int
    ) -> tuple[np.ndarray, int, int]:
        """See `Engine.hidden`."""
        node, count, alone = self._reach(sequence, owner)
        states = [self._cache.hidden[layer].read(node.path[start:]).float().cpu().numpy() for layer in layers]
        return np.stack(states), count, alone

    # One forward

    def _run(self, plan: Plan) -> dict[Node, np.ndarray]:
        """Do the plan's work in chunks; logits by node for those where sequences end."""
        fresh: dict[Node, np.ndarray] = {}
        work, wanted = list(plan.work), set(plan.ends)
        for start in range(0, len(work), self.max_step_tokens):
            chunk = work[start : start + self.max_step_tokens]
            positions = [position for position, node in enumerate(chunk) if node in wanted]
            owners = [plan.work[node] for node in chunk]
            try:
                logits = self._step(chunk, owners, positions or [len(chunk) - 1])
            except torch.OutOfMemoryError as error:
                raise CapacityError("out of memory", hint="set a lower max_kv_slots") from error
            fresh.update(zip([chunk[position] for position in positions], logits, strict=False))
        return fresh

    def _step(self, nodes: list[Node], owners: list[int], positions: list[int]) -> np.ndarray:
        """One pass through the model: logits at `positions` of `nodes`, float32 `[positions, vocabulary]`."""
        pool, model = self._trie.pool, self.model
        device = self._embedding.device
        slots = np.array([node.slot for node in nodes])
        depths = pool.depths[slots]
        self._cache.begin(slots, pool.span, device)
        options: dict[str, Any] = {}
        if self._selects:
            last = positions == [len(nodes) - 1]
            options["logits_to_keep"] = 1 if last else torch.tensor(positions, device=device)
        mask, attention = self._attention(nodes, owners, depths)
        kept, tokens = self._cache.hidden, np.array([[node.token for node in nodes]])
        with (
            attention,
            shifting(model, self.directions, numbers_of(tokens)),
            tapped(model, kept, lambda layer, states: kept[layer].write(states[0])),
        ):
            output = model(
                input_ids=torch.from_numpy(ids_of(tokens)).to(device),
                attention_mask=mask,
                position_ids=torch.from_numpy(depths - 1).to(device)[None],
                past_key_values=self._cache,
                use_cache=True,
                **options,
            )
        logits = output.logits[0] if self._selects else output.logits[0, positions]
        return logits.float().cpu().numpy()

    def _attention(
        self, nodes: list[Node], owners: list[int], depths: np.ndarray
    ) -> tuple[Any, AbstractContextManager[None]]:
        """The mask to hand to the model (one for each kind of layer where it has several), and how to attend."""
        visible = self._trie.visible(nodes)
        keys = self._trie.pool.depths[: visible.shape[1]]
        dtype, device = self._embedding.dtype, self._embedding.device
        seen = [within_reach(kind, size, visible, depths, keys) for kind, size in self._layers.items()]
        segments = [] if self.split_from is None else split(visible, owners, self.split_from)
        self._cache.step.whole = bool(segments)
        if segments:
            masks = [placeholder(kind, dtype, device) for kind in range(len(seen))]
            attention: AbstractContextManager[None] = attending(
                self._config, batches(segments, seen, dtype, device)
            )
        else:
            masks = [additive(mask, dtype, device)[None, None] for mask in seen]
            attention = nullcontext()
        return dict(zip(self._layers, masks, strict=True)) if len(masks) > 1 else masks[0], attention

    def _blank(self, nodes: Collection[Node]) -> None:
        slots = np.array([node.slot for node in nodes])
        for node in nodes:
            self._trie.prune(node)
        self._cache.blank(slots)

    def _compact_if_sparse(self) -> None:
        pool = self._trie.pool
        if pool.span > COMPACT_FROM and pool.span > 2 * pool.live:
            self._cache.pack(self._trie.compact())
