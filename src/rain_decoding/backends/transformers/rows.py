"""`RowEngine`: for models whose state takes no tree mask. Copies the model's own cache at every fork."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from rain_decoding.backends.base import Forwarded, check_layers
from rain_decoding.backends.directions import Directions, ids_of, numbers_of
from rain_decoding.backends.logits_cache import LogitsCache
from rain_decoding.backends.transformers.layers import readable_layers, shifting, tapped
from rain_decoding.backends.trie import CACHE, PIN
from rain_decoding.errors import UnsupportedError
from rain_decoding.types import Layer, Tokens

CACHE_NAMES = ("past_key_values", "cache_params", "state")
"""What models call the cache they return, and take back under the same name."""


@dataclass(eq=False, slots=True)
class Row:
    """The model's cache after one sequence. Never handed to the model itself, only copies of it."""

    name: str
    cache: Any
    states: dict[Layer, np.ndarray]
    """Hidden states of the kept layers at every token, float32 `[tokens, width]`."""
    size: int
    """Bytes of its tensors, and of the states."""
    holders: set[int] = field(default_factory=set)


class RowEngine:
    """Keeps the caches after recently asked sequences; a sequence starts from the longest that it extends.

    Implements `backends.base.Engine`, batch size 1. `stepwise` forwards what follows a cache token by token,
    for recurrent models that take a cache only so. Beyond `max_bytes` (or `max_kv_slots` tokens) the least
    recently used caches are dropped; `keep_finished` keeps some of finished owners within that bound.
    """

    shares_prefixes = True
    counts_apart = False

    def __init__(
        self,
        model: Any,
        context_length: int,
        *,
        stepwise: bool = False,
        max_kv_slots: int | None = None,
        keep_finished: bool = True,
        max_bytes: int = 2 * 2**30,
        logits_cache_bytes: int = 256 * 2**20,
    ):
        self.vocabulary_size: int = model.config.get_text_config(decoder=True).vocab_size
        self.context_length = context_length
        self.stepwise = stepwise
        self.max_kv_slots = max_kv_slots
        self.keep_finished = keep_finished
        self.max_bytes = max_bytes
        self.model = model
        self.directions = Directions()
        self.kept_layers: tuple[Layer, ...] = ()
        selects = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._options = {"logits_to_keep": 1} if selects else {}
        self._rows: OrderedDict[Tokens, Row] = OrderedDict()
        self._bytes = 0
        self._tokens = 0
        self._logits: LogitsCache[Tokens] = LogitsCache(logits_cache_bytes)

    @property
    def layers(self) -> tuple[Layer, ...]:
        return readable_layers(self.model)

    @property
    def slots_used(self) -> int:
        """Tokens of all kept sequences (a shared prefix counts in each)."""
        return self._tokens

    @torch.inference_mode()
    def forward(self, sequences: Sequence[Tokens], owners: Sequence[int]) -> Forwarded:
        """See `Engine.forward`; what owners spare each other is not counted."""
        found = self._advance(sequences, owners)
        self._shrink()
        return found

    def _advance(self, sequences: Sequence[Tokens], owners: Sequence[int]) -> Forwarded:
        """As `forward`, whatever memory it takes."""
        rows, counts = [], []
        for tokens, owner in zip(sequences, owners, strict=True):
            logits, count = self._logits.get(tokens), 0
            if logits is None:
                logits, count = self._compute(tokens)
                self._logits.put(tokens, logits)
            self._hold(tokens, owner)
            rows.append(logits)
            counts.append(count)
        logits = np.stack(rows) if rows else np.empty((0, self.vocabulary_size), dtype=np.float32)
        return Forwarded(logits, counts, counts)

    def _compute(self, tokens: Tokens) -> tuple[np.ndarray, int]:
        """Logits after `tokens` `[vocabulary]` and how many tokens it took; keeps the cache."""
        shorter = (key for key in self._rows if len(key) < len(tokens) and tokens[: len(key)] == key)
        known = max(shorter, key=len, default=())
        past: dict[str, Any] = {}
        if known:
            self._rows.move_to_end(known)
            past = {self._rows[known].name: copy.deepcopy(self._rows[known].cache)}
        rest = tokens[len(known) :]
        pieces = [rest[i : i + 1] for i in range(len(rest))] if known and self.stepwise else [rest]
        states = {layer: [self._rows[known].states[layer]] if known else [] for layer in self.kept_layers}
        output = None
        with tapped(
            self.model, states, lambda layer, new: states[layer].append(new[0].float().cpu().numpy())
        ):
            for piece in pieces:
                asked = np.array([piece])
                ids = torch.from_numpy(ids_of(asked)).to(self.model.device)
                with shifting(self.model, self.directions, numbers_of(asked)):
                    output = self.model(input_ids=ids, use_cache=True, **past, **self._options)
                past = _returned_cache(output)
        assert output is not None
        self._keep(tokens, past, {layer: np.concatenate(parts) for layer, parts in states.items()})
        return output.logits[0, -1].float().cpu().numpy(), len(rest)

    def _keep(self, tokens: Tokens, past: dict[str, Any], states: dict[Layer, np.ndarray]) -> None:
        if tokens in self._rows:
            return
        for name, cache in past.items():
            size = _tensor_bytes(cache, set()) + sum(each.nbytes for each in states.values())
            self._rows[tokens] = row = Row(name, cache, states, size)
            self._bytes += row.size
            self._tokens += len(tokens)

    def _drop(self, tokens: Tokens) -> None:
        if (row := self._rows.pop(tokens, None)) is not None:
            self._bytes -= row.size
            self._tokens -= len(tokens)

    def _hold(self, tokens: Tokens, owner: int) -> None:
        for key, row in self._rows.items():
            if tokens[: len(key)] == key:
                row.holders.add(owner)

    def _let_go(self, owner: int, keys: Iterable[Tokens]) -> None:
        for key in keys:
            self._rows[key].holders.discard(owner)
            if not self._rows[key].holders:
                self._drop(key)

    def _held(self, owner: int) -> list[Tokens]:
        return [key for key, row in self._rows.items() if owner in row.holders]

    def _shrink(self) -> None:
        limit = self.max_kv_slots
        for key in [key for key, row in self._rows.items() if PIN not in row.holders]:
            if self._bytes <= self.max_bytes and (limit is None or self._tokens <= limit):
                return
            self._drop(key)

    def keep_layers(self, layers: Iterable[Layer]) -> None:
        """See `Engine.keep_layers`."""
        if new := set(layers) - set(self.kept_layers):
            check_layers(type(self.model).__name__, new, self.layers)
            pinned = [key for key, row in self._rows.items() if PIN in row.holders]
            for key in list(self._rows):
                self._drop(key)
            self._logits.clear()
            self.kept_layers += tuple(new)
            for tokens in pinned:
                self.pin(tokens)

    @torch.inference_mode()
    def hidden(
        self, sequence: Tokens, start: int, layers: Sequence[Layer], owner: int
    ) -> tuple[np.ndarray, int, int]:
        """See `Engine.hidden`."""
        row, count = self._reaching(sequence), 0
        if row is None:
            self._logits.drop(sequence)  # else nothing would be forwarded
            count = self._advance([sequence], [owner]).counts[0]
            row = self._rows[sequence]
            self._shrink()  # `row` stays what it was
        return np.stack([row.states[layer][start : len(sequence)] for layer in layers]), count, count

    def _reaching(self, sequence: Tokens) -> Row | None:
        """A row of the sequence, or of one that it begins."""
        size = len(sequence)
        own = self._rows.get(sequence)
        return own or next((row for key, row in self._rows.items() if key[:size] == sequence), None)

    def trim(self, owner: int, sequence: Tokens, keep: int) -> None:
        """See `Engine.trim`."""
        held = self._held(owner)
        other = [key for key in held if key != sequence[: len(key)]]
        beyond = [key for key in held if len(key) > keep and key == sequence[: len(key)]]
        self._let_go(owner, [key for key in beyond if not any(more[: len(key)] == key for more in other)])

    def retain(self, owner: int, prefixes: Iterable[Tokens]) -> None:
        """Keep of the owner's caches those on, or beyond the end of, one of `prefixes`."""
        kept = list(prefixes)
        self._let_go(
            owner, [key for key in self._held(owner) if not any(key[: len(p)] == p[: len(key)] for p in kept)]
        )

    def finish(self, owner: int, keep: Iterable[Tokens]) -> None:
        """Give back all that the owner holds, except the longest cache on the way to each of `keep`."""
        held = self._held(owner)
        for tokens in keep if self.keep_finished else ():
            longest = max((key for key in held if tokens[: len(key)] == key), key=len, default=None)
            if longest is not None:
                self._rows[longest].holders.add(CACHE)
        self._let_go(owner, held)

    def pin(self, tokens: Tokens) -> int:
        """Forward the prefix and keep its cache for good; how many tokens that took."""
        if tokens not in self._rows:
            self._logits.drop(tokens)  # else nothing would be forwarded
        return self.forward([tokens], [PIN]).counts[0]

    def clear(self) -> None:
        """Leave only pinned prefixes, and forget all logits."""
        for key in [key for key, row in self._rows.items() if PIN not in row.holders]:
            self._drop(key)
        for row in self._rows.values():
            row.holders = {PIN}
        self._logits.clear()


def _returned_cache(output: Any) -> dict[str, Any]:
    for name in CACHE_NAMES:
        if getattr(output, name, None) is not None:
            return {name: getattr(output, name)}
    raise UnsupportedError("the model does not return a cache", hint="use engine='none'")


def _tensor_bytes(value: Any, seen: set[int]) -> int:
    """Bytes of all tensors within a cache object, whatever its class."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(_tensor_bytes(item, seen) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_tensor_bytes(item, seen) for item in value)
    return _tensor_bytes(vars(value), seen) if hasattr(value, "__dict__") else 0
