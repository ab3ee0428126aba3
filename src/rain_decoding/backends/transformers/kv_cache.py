"""A transformers cache whose K/V of each token live in a slot of one growing buffer per layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from rain_decoding.types import Layer


@dataclass(slots=True)
class Step:
    """Where the current forward writes: shared by all layers, which may be on different devices."""

    slots: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """Slot of each new token, int64 `[new]`."""
    span: int = 0
    """How many slots, counted from 0, attention sees."""
    whole: bool = False
    """Attention is given the whole buffer: what selects slots from a part of it would copy that part first."""
    capacity: int = 0
    """How many slots a buffer must have."""

    def slots_on(self, device: torch.device) -> torch.Tensor:
        return self.slots if self.slots.device == device else self.slots.to(device)


class SlotBuffer:
    """A tensor with slots along one dimension. Slots never written hold zeros: masked ones must be finite."""

    def __init__(self, step: Step, dim: int):
        self.step = step
        self.dim = dim
        self.tensor: torch.Tensor | None = None

    def write(self, values: torch.Tensor) -> torch.Tensor:
        """Store `values` (along `dim`, one for each slot of the step); returns a view of the span, or the whole."""
        if self.tensor is None or self.tensor.shape[self.dim] < self.step.capacity:
            self._grow(values)
        assert self.tensor is not None
        self.tensor.index_copy_(self.dim, self.step.slots_on(values.device), values)
        return self.tensor if self.step.whole else self.tensor.narrow(self.dim, 0, self.step.span)

    def _grow(self, like: torch.Tensor) -> None:
        shape = list(like.shape)
        shape[self.dim] = self.step.capacity
        grown = like.new_zeros(shape)
        if self.tensor is not None:
            grown.narrow(self.dim, 0, self.tensor.shape[self.dim]).copy_(self.tensor)
        self.tensor = grown

    def read(self, slots: np.ndarray) -> torch.Tensor:
        """Copy of the given slots."""
        assert self.tensor is not None
        return self.tensor.index_select(self.dim, torch.from_numpy(slots).to(self.tensor.device))

    def pack(self, slots: np.ndarray) -> None:
        """Move the given slots to 0, 1, ...; the buffer shrinks to the step's capacity."""
        if self.tensor is None:
            return
        kept = self.read(slots)
        if self.tensor.shape[self.dim] > self.step.capacity:
            self.tensor = None
            self._grow(kept)
        assert self.tensor is not None
        self.tensor.narrow(self.dim, 0, len(slots)).copy_(kept)

    def blank(self, slots: np.ndarray) -> None:
        """Zero the given slots."""
        if self.tensor is not None:
            self.tensor.index_fill_(self.dim, torch.from_numpy(slots).to(self.tensor.device), 0)


class SlotLayer(CacheLayerMixin):
    """One layer's K and V, `[1, heads, slots, head size]` each, on the device of the first K/V it sees."""

    is_sliding = False

    def __init__(self, step: Step):
        super().__init__()
        self.step = step
        self.buffers = (SlotBuffer(step, dim=2), SlotBuffer(step, dim=2))

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.is_initialized = True
        return self.buffers[0].write(key_states), self.buffers[1].write(value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.step.span, 0

    def get_seq_length(self) -> int:
        return self.step.span

    def get_max_length(self) -> int:
        return -1


class SlotCache(Cache):
    """The cache handed to the model. `begin` says where the next forward writes."""

    def __init__(self, *, limit: int | None = None, layers: Iterable[Layer] = ()):
        self.step = Step()
        self.limit = limit
        """No buffer grows beyond so many slots (None: no limit)."""
        self.hidden = {layer: SlotBuffer(self.step, dim=0) for layer in layers}
        """Hidden states `[slots, width]` of the layers that are kept."""
        super().__init__(layer_class_to_replicate=partial(SlotLayer, self.step))  # type: ignore[arg-type]

    def keep_layers(self, layers: Iterable[Layer]) -> None:
        """Keep the hidden states of these layers, too. Those of slots in use are not known."""
        for layer in layers:
            self.hidden.setdefault(layer, SlotBuffer(self.step, dim=0))

    def begin(self, slots: np.ndarray, span: int, device: torch.device) -> None:
        """The next forward writes to `slots` (int64 `[new]`) and sees the first `span`."""
        self.step.slots = torch.from_numpy(slots).to(device)
        self.step.span = span
        self.step.whole = False
        capacity = _capacity(span) if self.limit is None else min(_capacity(span), self.limit)
        self.step.capacity = max(self.step.capacity, capacity)

    def pack(self, slots: np.ndarray) -> None:
        """Move the given slots to 0, 1, ..."""
        self.step.capacity = min(self.step.capacity, _capacity(2 * len(slots)))
        for buffer in self._buffers():
            buffer.pack(slots)

    def blank(self, slots: np.ndarray) -> None:
        """Zero the given slots: what is NaN there would reach every token, since 0 times NaN is NaN."""
        for buffer in self._buffers():
            buffer.blank(slots)

    def _buffers(self) -> list[SlotBuffer]:
        layers = [layer for layer in self.layers if isinstance(layer, SlotLayer)]
        buffers = [buffer for layer in layers for buffer in layer.buffers]
        return [*buffers, *self.hidden.values()]


def _capacity(slots: int) -> int:
    """Slots to make room for when so many are needed, in steps of a quarter to a half of the whole."""
    step = 256
    while step * 4 < slots:
        step *= 2
    return -(-slots // step) * step
